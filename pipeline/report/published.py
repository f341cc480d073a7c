"""The statistics that a paper gives of its own data, beside those of a run that follows its recipe."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pipeline.report.figures import number, share
from pipeline.report.survey import Survey


@dataclass(frozen=True, slots=True)
class Line:
    """One figure: what it is of, what the paper says, and what this run has."""

    label: str
    paper: str
    ours: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """A paper's table beside ours, with what to know of how they compare."""

    title: str
    note: str
    lines: tuple[Line, ...]


def compare(paper: str, survey: Survey) -> Comparison:
    """A paper's figures beside those of the kept records.

    Args:
        paper: A key of :data:`PAPERS`.
        survey: What was counted.
    """
    return PAPERS[paper](survey)


_LAMBDA_ECLIPSE_IMAGES = {1: 1_479_785, 2: 432_831, 3: 65_597, 4: 11_910}
_LAMBDA_ECLIPSE_UNIQUE = 30_358


def _lambda_eclipse(survey: Survey) -> Comparison:
    total, ours = sum(_LAMBDA_ECLIPSE_IMAGES.values()), survey.subjects.total()
    lines = [Line("images", number(total), number(ours))]
    for count, images in _LAMBDA_ECLIPSE_IMAGES.items():
        mine = survey.subjects[count]
        label = f"with {count} subject{'s' * (count > 1)}"
        lines.append(Line(label, f"{number(images)} ({share(images, total)})", f"{number(mine)} ({share(mine, ours)})"))
    lines.append(Line("unique subjects", number(_LAMBDA_ECLIPSE_UNIQUE), number(len(survey.heads))))
    return Comparison(
        "λ-ECLIPSE",
        "Its training set (Patel et al. 2024, section 4). A unique subject is a different head noun.",
        tuple(lines),
    )


_UNIMO_G_ENTITIES = {0: 0.16, 1: 0.368, 2: 0.258, 3: 0.123, 4: 0.091}
_UNIMO_G_MEAN_ENTITIES = 1.67
_UNIMO_G_MEAN_TOKENS = 42.48


def _unimo_g(survey: Survey) -> Comparison:
    counts = Counter({few: sum(n for found, n in survey.images.items() if min(found, 4) == few) for few in range(5)})
    lines = [
        Line("text tokens, mean", f"{_UNIMO_G_MEAN_TOKENS}", f"{mean(survey.tokens):.2f}"),
        Line("entities a prompt, mean", f"{_UNIMO_G_MEAN_ENTITIES}", f"{mean(survey.images):.2f}"),
    ]
    for few, part in _UNIMO_G_ENTITIES.items():
        label = f"with {few}{' or more' * (few == 4)}"
        lines.append(Line(label, share(part, 1), share(counts[few], counts.total())))
    return Comparison(
        "UNIMO-G",
        "Its instruction data (Li et al. 2024). Theirs include the 10 % of prompts that training keeps as text alone, "
        "which here the trainer draws. Text tokens are words and punctuation marks here, those of its own model there.",
        tuple(lines),
    )


PAPERS: Mapping[str, Callable[[Survey], Comparison]] = {"unimo_g": _unimo_g, "lambda_eclipse": _lambda_eclipse}
"""Papers that give statistics of their data, by the name that a manifest's ``paper`` has for them."""


def mean(counts: Counter[int]) -> float:
    """The mean of counted numbers; 0 of none."""
    return sum(value * count for value, count in counts.items()) / (counts.total() or 1)
