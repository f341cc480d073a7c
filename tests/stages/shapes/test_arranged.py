"""Scenes to learn references from."""

import re
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.base import Context
from stages.phrases import Phrases, PhrasesIn, PhrasesOut, PhrasesParams
from stages.shapes.arranged import (
    BANDS,
    LAYOUTS,
    PLACES,
    SIDE,
    ArrangedSettings,
    HoldOut,
    Kind,
    Says,
    hue_distance,
    hue_word,
    make_arranged,
    tell,
)
from stages.shapes.draw import draw
from stages.shapes.words import COLOURS, SHAPES, TEXTURES

seeds = st.integers(0, 2**31)
ALL = ArrangedSettings()


@given(seed=seeds)
@settings(max_examples=40, deadline=None)
def test_a_seed_gives_the_same_scene_and_pixels_always(seed: int) -> None:
    arranged = make_arranged(seed, ALL)
    assert make_arranged(seed, ALL) == arranged
    assert np.array_equal(draw(arranged.scene).pixels, draw(arranged.scene).pixels)


@given(seed=seeds)
@settings(max_examples=60, deadline=None)
def test_things_are_whole_apart_and_in_their_places(seed: int) -> None:
    arranged = make_arranged(seed, ALL)
    layout = next(layout for layout in LAYOUTS[len(arranged.places)] if set(layout) == set(arranged.places))
    boxes = draw(arranged.scene).boxes
    for place, thing, box in zip(arranged.places, arranged.scene.things, boxes, strict=True):
        assert box.x0 > 0 and box.x1 < SIDE and box.y0 > 0 and box.y1 < SIDE
        assert max(abs(thing.x / SIDE - layout[place][0]), abs(thing.y / SIDE - layout[place][1])) <= 0.015
    masks = draw(arranged.scene).masks
    grown = [np.pad(mask, 1) for mask in masks]
    near = [np.any([np.roll(m, s, a) for s in (-1, 1) for a in (0, 1)], axis=0) | m for m in grown]
    assert not any((near[i] & grown[j]).any() for i in range(len(near)) for j in range(i))


@given(seed=seeds)
@settings(max_examples=100, deadline=None)
def test_captions_that_say_shape_tell_neither_colour_nor_texture(seed: int) -> None:
    arranged = make_arranged(seed, ALL)
    plainly, _ = tell(arranged, "shape")
    everything, _ = tell(arranged, "everything")
    words = set(re.findall("[a-z]+", plainly))
    assert words.isdisjoint(COLOURS) and words.isdisjoint(TEXTURES)
    assert re.sub(f"({'|'.join((*COLOURS, *TEXTURES))}) ", "", everything) == plainly
    assert all(thing.colour in everything for thing in arranged.scene.things)


@given(seed=seeds, says=st.sampled_from(["shape", "everything"]))
@settings(max_examples=100, deadline=None)
def test_a_caption_names_each_thing_with_its_place_or_all_alike_with_their_number(seed: int, says: Says) -> None:
    arranged = make_arranged(seed, ALL)
    text, found = tell(arranged, says)
    assert all(mention.span.of(text) == mention.phrase for mention in found)
    if arranged.exemplar is None:
        assert [mention.thing for mention in found] == list(range(len(arranged.places)))
        for mention, place in zip(found, arranged.places, strict=True):
            assert text[mention.span.end :].startswith(f" {PLACES[place]}")
        assert len({kind.noun for kind in arranged.kinds}) == len(arranged.kinds)
    else:
        assert [mention.thing for mention in found] == [arranged.exemplar]
        assert text == f"{['', '', 'two', 'three'][len(arranged.places)]} {found[0].phrase}"
        assert len(set(arranged.kinds)) == 1 < len(arranged.kinds)


@pytest.mark.parametrize("says", ["shape", "everything"])
def test_the_bundled_parser_reads_exactly_what_a_caption_names(says: Says) -> None:
    stage = Phrases.load(PhrasesParams(), Context())
    told = [tell(make_arranged(seed, ALL), says) for seed in range(400)]
    results = stage.process([PhrasesIn(caption=text, dropped_subjects=()) for text, _ in told])
    for (_, found), result in zip(told, results, strict=True):
        assert isinstance(result, PhrasesOut)
        assert [(s.phrase, s.span) for s in result.subjects] == [(m.phrase, m.span) for m in found]
        assert all(subject.is_plural == subject.phrase.endswith("s") for subject in result.subjects)


def test_scenes_differ_in_everything_that_may_differ() -> None:
    scenes = [make_arranged(seed, ALL) for seed in range(1500)]
    layouts = Counter(frozenset(scene.places) for scene in scenes)
    assert set(layouts) == {frozenset(layout) for layouts in LAYOUTS.values() for layout in layouts}
    kinds = [kind for scene in scenes for kind in scene.kinds]
    assert {kind.noun for kind in kinds} == set(SHAPES) and {kind.texture for kind in kinds} == set(TEXTURES)
    assert min(np.histogram([kind.hue for kind in kinds], 36, (0, 360))[0]) > 0.5 * len(kinds) / 36
    alike = [scene for scene in scenes if scene.exemplar is not None]
    assert {(len(scene.places), scene.exemplar) for scene in alike} == {(2, 0), (2, 1), (3, 0), (3, 1), (3, 2)}
    first = Counter(scene.places[0] for scene in scenes if len(scene.places) == 2 and scene.exemplar is None)
    assert set(first) == {"left", "right", "top", "bottom"}  # The order of the words tells no place.


@pytest.mark.parametrize("hold_out", ["train", "held_out"])
def test_what_is_held_out_is_never_in_training_and_alone_in_its_own_scenes(hold_out: HoldOut) -> None:
    scenes = [make_arranged(seed, ArrangedSettings(hold_out=hold_out)) for seed in range(600)]
    kinds = [kind for scene in scenes for kind in scene.kinds]
    assert all(kind.is_held_out == (hold_out == "held_out") for kind in kinds)
    assert {(kind.noun, kind.texture) for kind in kinds} == {(n, t) for n in SHAPES for t in TEXTURES}
    assert {int(kind.hue / 30) for kind in kinds} == set(range(BANDS))


def test_a_fifth_of_all_kinds_is_held_out() -> None:
    kinds = [Kind(n, 30 * band + 15, t) for n in SHAPES for band in range(BANDS) for t in TEXTURES]
    assert np.mean([kind.is_held_out for kind in kinds]) == pytest.approx(0.2, abs=0.01)
    assert Kind("circle", 359.999, "plain").is_held_out == Kind("circle", 331, "plain").is_held_out


@given(seed=seeds)
@settings(max_examples=60, deadline=None)
def test_a_thing_has_its_exact_hue_and_two_tones_if_it_is_textured(seed: int) -> None:
    arranged = make_arranged(seed, ALL)
    drawn = draw(arranged.scene)
    for kind, mask in zip(arranged.kinds, drawn.masks, strict=True):
        red, green, blue = drawn.pixels[mask].astype(float).T
        hue = np.degrees(np.arctan2(np.sqrt(3) * (green - blue).sum(), (2 * red - green - blue).sum()))
        assert hue_distance(hue, kind.hue) < 4
        tones = np.maximum(red, np.maximum(green, blue))
        dark = np.mean(tones < 0.75 * np.percentile(tones, 90))
        assert dark < 0.12 if kind.texture == "plain" else 0.15 < dark < 0.75


def test_hues_are_called_by_the_nearest_colour() -> None:
    assert [hue_word(hue) for hue in (0, 358, 55, 140, 225, 285, 333)] == [
        "red", "red", "yellow", "green", "blue", "purple", "pink",
    ]  # fmt: skip
    assert (hue_distance(350, 10), hue_distance(10, 350), hue_distance(0, 180)) == (20, 20, 180)
