"""The measure of generated pictures, held against scenes whose truth is known."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from benchmarks.learning_look import Look, Measure, measure, picture
from benchmarks.learning_measure import Asked, Follows, Shares, judge, shares
from stages.pixels import Pixels
from stages.shapes.arranged import Arranged, ArrangedSettings, Kind, make_arranged

SCENES = [make_arranged(seed, ArrangedSettings(hold_out="held_out")) for seed in range(250)]
CIRCLE, STAR = Kind("circle", 10.0, "plain"), Kind("star", 200.0, "dotted")


def judged(look: Measure, pictures: list[Pixels], asked: list[Arranged]) -> Shares:
    return shares(judge(look(p), Asked.of(a)) for p, a in zip(pictures, asked, strict=True))


@pytest.fixture(scope="module", params=[32, 64])
def look(request: pytest.FixtureRequest) -> Measure:
    return measure(request.param)


def test_true_pictures_are_right(look: Measure) -> None:
    found = judged(look, [picture(scene, look.side) for scene in SCENES], SCENES)
    assert found.counts == found.places == 1
    assert min(found.nouns, found.textures) > 0.98
    assert found.hue_error < 1.5


def test_pictures_of_other_scenes_are_right_by_chance_only(look: Measure) -> None:
    pictures = [picture(scene, look.side) for scene in SCENES]
    found = judged(look, pictures[1:] + pictures[:1], SCENES)
    assert found.counts == pytest.approx(1 / 3, abs=0.1)
    assert found.places < 0.4
    assert found.nouns == pytest.approx(1 / 6, abs=0.07)
    assert found.textures == pytest.approx(1 / 4, abs=0.08)
    assert found.hue_error == pytest.approx(90, abs=10)


def test_noise_and_blur_as_of_a_small_network_leave_the_measure_right(look: Measure) -> None:
    rng = np.random.default_rng(0)
    worse = [cv2.GaussianBlur(picture(scene, look.side), (0, 0), 0.6) + rng.normal(0, 6, (look.side, look.side, 3))
             for scene in SCENES]  # fmt: skip
    found = judged(look, [np.clip(pixels, 0, 255).astype(np.uint8) for pixels in worse], SCENES)
    assert min(found.counts, found.places) > 0.98
    assert found.nouns > 0.97 and found.textures > 0.85
    assert found.hue_error < 2


def test_nothing_is_found_in_noise_on_a_dark_or_grey_ground(look: Measure) -> None:
    rng = np.random.default_rng(0)
    for level in (4, 128):
        noise = np.clip(rng.normal(level, 12, (look.side, look.side, 3)), 0, 255).astype(np.uint8)
        verdict = judge(look(noise), Asked.of(SCENES[0]))
        assert not verdict.has_count and set(verdict.things) == {None}


def test_a_picture_of_another_size_is_refused(look: Measure) -> None:
    with pytest.raises(ValueError, match=r"got \(20, 20, 3\)"):
        look(np.zeros((20, 20, 3), np.uint8))


def test_things_are_held_against_what_was_asked_for_in_their_place() -> None:
    looks = [Look(0.75, 0.52, replace(STAR, hue=215.0)), Look(0.4, 0.5, CIRCLE)]
    asked = Asked((CIRCLE, STAR), ((0.25, 0.5), (0.75, 0.5)))
    verdict = judge(looks, asked)
    assert verdict.has_count
    assert verdict.things == (Follows(False, True, True, 0.0), Follows(True, True, True, 15.0))


def test_what_is_missing_counts_as_wrong_and_what_is_too_much_against_the_count() -> None:
    asked = Asked((CIRCLE, STAR), ((0.25, 0.5), (0.75, 0.5)))
    few = judge([Look(0.75, 0.5, STAR)], asked)
    assert (few.has_count, few.things[0]) == (False, None)
    assert shares([few]) == Shares(counts=0, places=0.5, nouns=0.5, textures=0.5, hue_error=0)
    many = judge([Look(x, 0.5, STAR) for x in (0.2, 0.5, 0.75)], asked)
    assert not many.has_count and all(many.things)


def test_where_the_text_names_no_place_none_is_judged() -> None:
    verdict = judge([Look(0.1, 0.9, STAR), Look(0.9, 0.9, STAR)], Asked((STAR, STAR), None))
    assert verdict.has_count and verdict.things == (Follows(None, True, True, 0.0),) * 2
    assert np.isnan(shares([verdict]).places)
