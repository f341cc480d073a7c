import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from manifests.shard import aspect_bucket
from training.stream.buckets import RATIOS, UNUSABLE, Buckets, bucket_size

sides = st.integers(1, 20_000)


@pytest.mark.parametrize(
    ("base", "sizes"),
    [
        (512, ((384, 704), (448, 576), (512, 512), (640, 448), (704, 384))),
        (1024, ((704, 1472), (896, 1152), (1024, 1024), (1280, 832), (1472, 704))),
    ],
)
def test_the_usual_buckets_have_the_sizes_that_follow_from_the_papers_ratios(base, sizes):
    assert Buckets(base=base).sizes == sizes


@given(st.floats(0.25, 4), st.integers(128, 2048), st.sampled_from([1, 8, 64]))
def test_a_size_is_the_nearest_multiple_to_the_exact_sides(ratio, base, multiple):
    for side, exact in zip(
        bucket_size(ratio, base, multiple), (base * math.sqrt(ratio), base / math.sqrt(ratio)), strict=True
    ):
        assert side % multiple == 0
        assert abs(side - exact) <= multiple / 2 + 1e-6


@given(st.lists(st.tuples(sides, sides), min_size=1, max_size=50))
def test_pictures_get_the_bucket_that_the_engine_gives_them(pictures):
    width, height = np.array(pictures).T
    found = [RATIOS[number] for number in Buckets().assign(width, height)]
    assert found == [aspect_bucket(w, h, RATIOS) for w, h in pictures]


@given(
    st.lists(st.sampled_from([0.25, 0.4, 0.5, 0.75, 1.0, 1.3, 2.0, 3.0, 4.0]), min_size=1, unique=True), sides, sides
)
def test_any_ratios_are_assigned_by_the_engines_rule_but_for_what_rounding_ties(ratios, width, height):
    buckets = Buckets(ratios=tuple(sorted(ratios)), base=1024)
    found = buckets.ratios[buckets.assign(np.array([width]), np.array([height]))[0]]
    wanted = aspect_bucket(width, height, ratios)
    distance = [abs(math.log(bucket) - math.log(width / height)) for bucket in (found, wanted)]
    assert distance[0] == pytest.approx(distance[1], abs=1e-12)


def test_a_tie_goes_to_the_smaller_ratio():
    assert Buckets(ratios=(0.5, 2.0)).assign(np.array([300]), np.array([300])).tolist() == [0]
    assert Buckets(ratios=(1.0, 4.0)).assign(np.array([600]), np.array([300])).tolist() == [0]


def test_pictures_of_unknown_size_are_marked_unusable():
    found = Buckets().assign(np.array([0, 10, -1, 10], np.int32), np.array([10, 0, 5, 10], np.int32))
    assert found.dtype == np.uint8
    assert found.tolist() == [UNUSABLE, UNUSABLE, UNUSABLE, 2]


@pytest.mark.parametrize(
    "wrong",
    [
        {"ratios": ()},
        {"ratios": (2.0, 1.0)},
        {"ratios": (1.0, 1.0)},
        {"ratios": (0.0, 1.0)},
        {"base": 0},
        {"multiple": 0},
        {"ratios": (0.01,), "base": 64},
    ],
)
def test_buckets_that_cannot_be_are_refused(wrong):
    with pytest.raises(ValueError, match=r"ratio|base"):
        Buckets(**wrong)
