"""``filter``: bounds on what the metadata says."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from stages.base import Context, Drop
from stages.filter import BOUNDS, Filter, FilterIn, FilterOut, FilterParams

FINE = FilterIn(aesthetic=6.6, similarity=0.3, watermark=0.1, nsfw=0.01, stated_width=800, stated_height=600)
SILENT = FilterIn(
    aesthetic=None, similarity=None, watermark=None, nsfw=None, stated_width=None, stated_height=None
)  # fmt: skip

CASES = [
    ("min_aesthetic", 6.5, "aesthetic", 6.4, "low_aesthetic", "no_aesthetic"),
    ("min_similarity", 0.25, "similarity", 0.2, "low_similarity", "no_similarity"),
    ("max_watermark", 0.5, "watermark", 0.6, "watermark", "no_watermark_score"),
    ("max_nsfw", 0.2, "nsfw", 0.3, "nsfw", "no_nsfw_score"),
    ("min_width", 512, "stated_width", 511, "stated_too_small", "no_stated_size"),
    ("min_height", 512, "stated_height", 511, "stated_too_small", "no_stated_size"),
    ("min_side", 512, "stated_height", 511, "stated_too_small", "no_stated_size"),
    ("max_aspect", 2.0, "stated_width", 1201, "stated_extreme_aspect", "no_stated_size"),
]


def judged(record: FilterIn, **params: Any) -> FilterOut | Drop:
    (out,) = Filter.load(FilterParams(**params), Context()).process([record])
    assert isinstance(out, FilterOut | Drop)
    return out


@pytest.mark.parametrize(("param", "limit", "field", "beyond", "reason", "unstated"), CASES)
def test_a_bound_drops_what_is_beyond_it_and_keeps_what_is_on_it(
    param: str, limit: float, field: str, beyond: float, reason: str, unstated: str
) -> None:
    assert judged(FINE, **{param: limit}) == FilterOut()
    out = judged(replace(FINE, **{field: beyond}), **{param: limit})
    assert isinstance(out, Drop) and out.reason == reason and param in out.message
    on_it = limit if param != "max_aspect" else 1200
    assert judged(replace(FINE, **{field: on_it}), **{param: limit}) == FilterOut()
    silent = judged(replace(FINE, **{field: None}), **{param: limit})
    assert isinstance(silent, Drop) and silent.reason == unstated
    assert judged(SILENT, **{param: limit}, missing="keep") == FilterOut()
    assert {reason, unstated} <= Filter.reasons.keys()


def test_every_bound_is_tested_here_and_every_reason_is_some_bound_s() -> None:
    assert [bound.param for bound in BOUNDS] == [case[0] for case in CASES]
    assert {name for bound in BOUNDS for name in (bound.reason, bound.unstated)} == Filter.reasons.keys()


def test_a_similarity_threshold_is_on_the_scale_that_is_named() -> None:
    assert isinstance(judged(FINE, min_similarity=0.5), Drop)  # no raw cosine is above 0.5
    assert judged(FINE, min_similarity=0.5, similarity_scale="score") == FilterOut()
    for cosine, kept in ((0.201, True), (0.199, False), (-0.4, False)):
        out = judged(replace(FINE, similarity=cosine), min_similarity=0.5, similarity_scale="score")
        assert isinstance(out, FilterOut) == kept


def test_what_is_no_number_counts_as_not_stated() -> None:
    out = judged(replace(FINE, aesthetic=float("nan")), min_aesthetic=1)
    assert isinstance(out, Drop) and out.reason == "no_aesthetic"


@pytest.mark.parametrize("size", [(0, 0), (0, 600), (1, 100_000)])
def test_sizes_that_are_none_are_small(size: tuple[int, int]) -> None:
    out = judged(replace(FINE, stated_width=size[0], stated_height=size[1]), min_side=2)
    assert isinstance(out, Drop) and out.reason == "stated_too_small"


numbers = st.none() | st.floats(-10, 10)
sizes = st.none() | st.integers(0, 5000)
said = st.builds(FilterIn, aesthetic=numbers, similarity=numbers, watermark=numbers, nsfw=numbers,
                 stated_width=sizes, stated_height=sizes)  # fmt: skip


@given(st.lists(said, max_size=4))
def test_without_bounds_everything_passes(batch: list[FilterIn]) -> None:
    assert Filter.load(FilterParams(), Context()).process(batch) == [FilterOut()] * len(batch)


@given(said)
def test_a_stricter_bound_keeps_no_more(record: FilterIn) -> None:
    kept = [isinstance(judged(record, min_similarity=limit), FilterOut) for limit in (-1, 0, 0.3, 2)]
    assert kept == sorted(kept, reverse=True)


@pytest.mark.parametrize("params", [{"max_nsfw": 2}, {"min_side": 0}, {"missing": "guess"}, {"min_aesthetics": 5}])
def test_parameters_out_of_range_are_refused(params: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        FilterParams(**params)
