import hashlib

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from stages.base import Context, Drop
from stages.dedup import Dedup, DedupIn, DedupOut, DedupParams
from stages.pixels import write_jpeg
from tests.stages.test_phash import scene


def dedup(*records: tuple[str | None, str]) -> list[DedupOut | Drop]:
    batch = [
        DedupIn(key=f"k{number}", url=url, sha256=hashlib.sha256(file.encode()).hexdigest(), image=None)
        for number, (url, file) in enumerate(records)
    ]
    return Dedup.load(DedupParams(), Context()).process(batch)


def test_a_repeated_url_is_dropped_and_names_the_first() -> None:
    assert dedup(("u", "a"), ("v", "b"), ("u", "c")) == [
        DedupOut(),
        DedupOut(),
        Drop("duplicate_url", "repeats k0"),
    ]


def test_a_repeated_file_is_dropped_and_names_the_first() -> None:
    assert dedup(("u", "a"), ("v", "a")) == [DedupOut(), Drop("duplicate_file", "repeats k0")]


def test_records_without_url_are_compared_by_file_only() -> None:
    assert dedup((None, "a"), (None, "b"), (None, "a")) == [
        DedupOut(),
        DedupOut(),
        Drop("duplicate_file", "repeats k0"),
    ]


def test_a_dropped_record_makes_no_other_a_duplicate() -> None:
    assert dedup(("u", "a"), ("u", "b"), ("v", "b")) == [DedupOut(), Drop("duplicate_url", "repeats k0"), DedupOut()]


@given(st.lists(st.tuples(st.none() | st.sampled_from("uvw"), st.sampled_from("abcd")), max_size=20))
def test_what_is_kept_is_unique_and_everything_else_repeats_it(records: list[tuple[str | None, str]]) -> None:
    results = dedup(*records)
    assert len(results) == len(records)
    kept = [record for record, result in zip(records, results, strict=True) if result == DedupOut()]
    urls = [url for url, _ in kept if url is not None]
    assert len(set(urls)) == len(urls)
    assert len({file for _, file in kept}) == len(kept)
    for (url, file), result in zip(records, results, strict=True):
        if isinstance(result, Drop):
            twin_url, twin_file = records[int(result.message.removeprefix("repeats k"))]
            assert (result.reason == "duplicate_url" and url == twin_url) or file == twin_file


def test_before_the_download_urls_alone_are_compared() -> None:
    batch = [DedupIn(key=f"k{number}", url=url, sha256=None, image=None) for number, url in enumerate("uvu")]
    assert Dedup.load(DedupParams(), Context()).process(batch) == [
        DedupOut(),
        DedupOut(),
        Drop("duplicate_url", "repeats k0"),
    ]


def test_near_pictures_are_dropped_only_if_wanted_and_plain_ones_never() -> None:
    plain = write_jpeg(np.full((64, 64, 3), 90, np.uint8))
    pictures = [write_jpeg(scene(1), 95), write_jpeg(scene(2)), write_jpeg(scene(1), 50), plain, plain]
    batch = [DedupIn(key=f"k{n}", url=None, sha256=str(n), image=picture) for n, picture in enumerate(pictures)]
    assert Dedup.load(DedupParams(), Context()).process(batch) == [DedupOut()] * 5
    results = Dedup.load(DedupParams(max_distance=4), Context()).process(batch)
    assert [isinstance(result, Drop) for result in results] == [False, False, True, False, False]
    assert isinstance(results[2], Drop) and results[2].reason == "near_duplicate"
    assert results[2].message.startswith("repeats k0, ")
