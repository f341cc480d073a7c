"""What is in the kept records, counted: subjects, words, sizes; and the counts as bars."""

import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from manifests.shard import read_index
from pipeline.ledger import Layout

_BARS = 12
_TOKEN = re.compile(r"\w+|[^\w\s]")


@dataclass(frozen=True, slots=True)
class Survey:
    """Counts over all kept records.

    Sides are the shorter side of a picture, in pixels; ``tokens`` words and punctuation marks of a prompt's text;
    ``images`` subjects that stand in a prompt.
    """

    subjects: Counter[int] = field(default_factory=Counter)
    heads: Counter[str] = field(default_factory=Counter)
    words: Counter[int] = field(default_factory=Counter)
    tokens: Counter[int] = field(default_factory=Counter)
    images: Counter[int] = field(default_factory=Counter)
    buckets: Counter[float] = field(default_factory=Counter)
    sides: Counter[int] = field(default_factory=Counter)
    original_sides: Counter[int] = field(default_factory=Counter)
    crop_sides: Counter[int] = field(default_factory=Counter)
    insertions: Counter[str] = field(default_factory=Counter)
    lost_phrases: Counter[tuple[str, str]] = field(default_factory=Counter)

    def add(self, plain: Mapping[str, Any]) -> None:
        """Count one record, given as the JSON of its sample."""
        subjects = plain["subjects"] or []
        self.subjects[len(subjects)] += 1
        self.heads.update(subject["head"] for subject in subjects)
        self.words[len(plain["caption"].split())] += 1
        self.buckets[plain["bucket"]] += 1
        self.sides[_side(plain["image"])] += 1
        if plain["original_width"] and plain["original_height"]:
            self.original_sides[min(plain["original_width"], plain["original_height"])] += 1
        self.crop_sides.update(_side(subject["crop"]) for subject in subjects if subject["crop"])
        prompt = plain["prompt"] or []
        self.images[sum(part.get("image", "").startswith("subject") for part in prompt)] += 1
        self.tokens[sum(len(_TOKEN.findall(part.get("text", ""))) for part in prompt)] += 1
        self.insertions.update(part["insertion"] for part in prompt if "insertion" in part)
        self.lost_phrases.update((lost["stage"], lost["reason"]) for lost in plain["dropped_subjects"])


def _side(picture: Mapping[str, Any]) -> int:
    return min(int(picture["width"]), int(picture["height"]))


def survey_unit(survey: Survey, layout: Layout, unit: str) -> None:
    """Count the records of a committed unit, reading no more of its shard than their JSON."""
    index = read_index(layout.index(unit)).select(["member", "offset", "size"]).to_pylist()
    with layout.tar(unit).open("rb") as tar:
        for row in index:
            if row["member"] == "json":
                survey.add(json.loads(read_member(tar, row)))


def read_member(tar: BinaryIO, row: Mapping[str, Any]) -> bytes:
    """The bytes of a shard's member, which ``row`` of the index tells the place of."""
    tar.seek(row["offset"])
    return tar.read(row["size"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One bar: what it stands for and how many."""

    label: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Distribution:
    """Bars under a title; ``sets`` names the filter of the samples that a bar's label can set, if any."""

    title: str
    note: str
    bars: tuple[Bar, ...]
    sets: str | None = None

    @property
    def total(self) -> int:
        """The sum of all bars."""
        return sum(bar.count for bar in self.bars)

    @property
    def peak(self) -> int:
        """The longest bar, at least 1."""
        return max((bar.count for bar in self.bars), default=0) or 1


def distributions(survey: Survey, buckets: Sequence[float]) -> list[Distribution]:
    """Everything the survey counted that has something to show, in the order people ask for it."""
    found = [
        Distribution(
            title="Subjects per image",
            note=f"{survey.heads.total():,} subjects in {survey.subjects.total():,} images",
            bars=_each(sorted(survey.subjects.items())),
            sets="subjects",
        ),
        Distribution(
            title="Unique subjects",
            note=f"{len(survey.heads):,} different head nouns; the most frequent",
            bars=_each(_most_common(survey.heads)),
            sets="head",
        ),
        _histogram("Caption length", "words", survey.words),
        Distribution(
            title="Aspect buckets",
            note="width ÷ height, the nearest bucket",
            bars=_each((f"{bucket:g}", survey.buckets[bucket]) for bucket in sorted({*buckets, *survey.buckets})),
            sets="bucket",
        ),
        _histogram("Image size", "px, shorter side", survey.sides),
        _histogram("Original size", "px, shorter side", survey.original_sides),
        _histogram("Crop size", "px, shorter side", survey.crop_sides),
        Distribution(
            title="How pictures enter the text",
            note="image segments of the prompts",
            bars=_each(_most_common(survey.insertions)),
        ),
        Distribution(
            title="Phrases that became no subject",
            note="stage and reason, in images that were kept",
            bars=_each((f"{stage} · {reason}", count) for (stage, reason), count in _most_common(survey.lost_phrases)),
        ),
    ]
    return [distribution for distribution in found if distribution.total]


def _each(counts: Iterable[tuple[object, int]]) -> tuple[Bar, ...]:
    return tuple(Bar(label=str(label), count=count) for label, count in counts)


def _most_common(counts: Counter[Any]) -> list[tuple[Any, int]]:
    """The largest counts; on a tie in order of their names."""
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:_BARS]


def _histogram(title: str, unit: str, counts: Counter[int]) -> Distribution:
    note = unit
    if counts:
        middle, low, high = (quantile(counts, share) for share in (0.5, 0.05, 0.95))
        note = f"{unit} · median {middle:,} · 90 % in {low:,}–{high:,}"
    return Distribution(title=title, note=note, bars=tuple(bins(counts)))


def quantile(counts: Counter[int], share: float) -> int:
    """The smallest value that at least ``share`` of all are not above."""
    left = math.ceil(share * counts.total())
    for value in sorted(counts):
        left -= counts[value]
        if left <= 0:
            break
    return value


def bins(counts: Counter[int]) -> Iterator[Bar]:
    """Counted numbers >= 0 in at most 12 bars of equal, round width, empty ones between included.

    The last bar is open where a hundredth or less of all lies so far out that it would stretch the rest.
    """
    if not counts:
        return
    low, high = min(counts), quantile(counts, 0.99)
    width = next(step for step in _round_numbers() if high // step - low // step < _BARS)
    first, last = low // width, high // width
    is_open = max(counts) // width > last
    binned: Counter[int] = Counter()
    for value, count in counts.items():
        binned[min(value // width, last)] += count
    for number in range(first, last + 1):
        yield Bar(label=_range(number * width, width, is_open and number == last), count=binned[number])


def _round_numbers() -> Iterator[int]:
    scale = 1
    while True:
        yield from (scale, 2 * scale, 5 * scale)
        scale *= 10


def _range(start: int, width: int, is_open: bool) -> str:
    if is_open:
        return f"≥ {start:,}"
    return f"{start:,}" if width == 1 else f"{start:,}–{start + width - 1:,}"
