from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.base import Context
from stages.phrases import Phrases, PhrasesIn, PhrasesOut, PhrasesParams
from stages.shapes.draw import Drawn, draw, hull
from stages.shapes.grammar import caption, mentions, phrase
from stages.shapes.outlines import OUTLINES
from stages.shapes.scene import MIN_GAP, MIN_VISIBLE, Scene, SceneSettings, Thing, make_scene
from stages.shapes.words import COLOURS, GROUNDS, OBJECTS, PHOTOGRAPH, SHAPES, SURFACES, TEXTURES

SETTINGS = SceneSettings()
EASY = SceneSettings(
    max_things=2, sizes=(0.3, 0.4), has_textures=False, has_objects=False, has_grounds=False, has_overlaps=False
)
seeds = st.integers(0, 2**31)


def one(noun: str = "circle", colour: str = "red", texture: str = "plain", backdrop: str = "flat") -> Scene:
    return Scene(120, 100, (Thing(noun, colour, texture, x=70, y=40, size=20),), backdrop, seed=3)


def alone(scene: Scene, index: int) -> Drawn:
    return draw(replace(scene, things=(scene.things[index],)))


@given(seed=seeds)
@settings(max_examples=60, deadline=None)
def test_a_seed_gives_the_same_scene_and_pixels_always(seed: int) -> None:
    scene = make_scene(seed, SETTINGS)
    assert make_scene(seed, SETTINGS) == scene
    assert np.array_equal(draw(scene).pixels, draw(scene).pixels)


@given(seed=seeds)
@settings(max_examples=60, deadline=None)
def test_masks_are_disjoint_and_boxes_are_their_hulls(seed: int) -> None:
    scene = make_scene(seed, SETTINGS)
    drawn = draw(scene)
    assert drawn.pixels.shape == (scene.height, scene.width, 3)
    assert np.sum(drawn.masks, axis=0).max() == 1
    for mask, box in zip(drawn.masks, drawn.boxes, strict=True):
        inside = mask[int(box.y0) : int(box.y1), int(box.x0) : int(box.x1)]
        assert inside.sum() == mask.sum()
        assert inside[0].any() and inside[-1].any() and inside[:, 0].any() and inside[:, -1].any()


@given(seed=seeds)
@settings(max_examples=60, deadline=None)
def test_most_of_every_thing_can_be_seen(seed: int) -> None:
    scene = make_scene(seed, SETTINGS)
    for i, mask in enumerate(draw(scene).masks):
        assert mask.sum() >= MIN_VISIBLE * alone(scene, i).masks[0].sum()


@given(seed=seeds)
@settings(max_examples=100, deadline=None)
def test_the_caption_names_things_from_left_to_right(seed: int) -> None:
    scene = make_scene(seed, SETTINGS)
    boxes = draw(scene).boxes
    centres = [(boxes[m.thing].x0 + boxes[m.thing].x1) / 2 for m in mentions(scene)]
    gaps = np.diff(centres)
    assert all(gaps > 0.8 * MIN_GAP * min(scene.width, scene.height))  # Placing looks at a coarse preview.


@given(seed=seeds)
@settings(max_examples=100, deadline=None)
def test_every_thing_is_mentioned_once_by_a_phrase_of_its_own(seed: int) -> None:
    scene = make_scene(seed, SETTINGS)
    text, found = caption(scene), mentions(scene)
    assert sorted(m.thing for m in found) == list(range(len(scene.things)))
    assert all(m.span.of(text) == m.phrase == phrase(scene.things[m.thing]) for m in found)
    assert len({(t.colour, t.noun) for t in scene.things}) == len(scene.things)


def test_captions_have_one_form() -> None:
    left = Thing("star", "blue", "plain", x=20, y=50, size=15)
    scene = one(backdrop="grass")
    assert caption(scene) == "a red circle on a grass background"
    assert caption(replace(scene, things=(*scene.things, left))) == "a blue star and a red circle on a grass background"
    three = (*scene.things, left, Thing("house", "green", "dotted", x=100, y=50, size=15))
    assert (
        caption(replace(scene, things=three, backdrop="flat")) == "a blue star, a red circle and a green dotted house"
    )


def test_the_bundled_parser_reads_exactly_the_things_of_a_caption() -> None:
    stage = Phrases.load(PhrasesParams(), Context())
    scenes = [make_scene(seed, SETTINGS) for seed in range(400)]
    results = stage.process([PhrasesIn(caption=caption(scene), dropped_subjects=()) for scene in scenes])
    for scene, result in zip(scenes, results, strict=True):
        assert isinstance(result, PhrasesOut)
        assert [(s.phrase, s.span) for s in result.subjects] == [(m.phrase, m.span) for m in mentions(scene)]


def test_scenes_differ_in_everything_that_may_differ() -> None:
    scenes = [make_scene(seed, replace(SETTINGS, photographs=0.1)) for seed in range(600)]
    things = [thing for scene in scenes for thing in scene.things]
    assert {len(scene.things) for scene in scenes} == {1, 2, 3, 4}
    assert {scene.backdrop for scene in scenes} == {*GROUNDS, *SURFACES, PHOTOGRAPH}
    assert {t.noun for t in things} == set(OUTLINES) == {*SHAPES, *OBJECTS}
    assert {t.colour for t in things} == set(COLOURS)
    assert {t.texture for t in things} == set(TEXTURES)
    twice = sum(len({t.noun for t in scene.things}) < len(scene.things) for scene in scenes)
    assert twice > 150  # The same noun in two colours.
    overlapping = sum(m.sum() < alone(s, i).masks[0].sum() for s in scenes[:200] if s.backdrop != PHOTOGRAPH
                      for i, m in enumerate(draw(s).masks))  # fmt: skip
    assert overlapping > 10


@given(seed=seeds)
@settings(max_examples=60, deadline=None)
def test_settings_bound_what_occurs(seed: int) -> None:
    scene = make_scene(seed, EASY)
    short = min(scene.width, scene.height)
    assert len(scene.things) <= 2 and scene.backdrop in SURFACES
    assert all(t.noun in SHAPES and t.texture == "plain" for t in scene.things)
    assert all(0.3 <= 2 * t.size / short <= 0.4 for t in scene.things)
    assert 112 <= short <= 224
    assert all(mask.sum() == alone(scene, i).masks[0].sum() for i, mask in enumerate(draw(scene).masks))


@pytest.mark.parametrize("noun", list(OUTLINES))
@pytest.mark.parametrize("colour", list(COLOURS))
def test_a_plain_thing_shows_its_colour_within_its_mask(noun: str, colour: str) -> None:
    scene = one(noun, colour)
    drawn, bare = draw(scene), draw(replace(scene, things=()))
    near = np.abs(drawn.pixels.astype(int) - COLOURS[colour]).max(axis=2) < 60
    assert near[drawn.masks[0]].mean() > 0.3
    outside = ~drawn.masks[0]
    assert np.mean(np.abs(drawn.pixels.astype(int) - bare.pixels)[outside] < 40) > 0.95


@pytest.mark.parametrize("texture", TEXTURES[1:])
def test_a_texture_has_a_good_share_of_both_tones(texture: str) -> None:
    drawn = draw(one("square", "yellow", texture))
    tones = drawn.pixels[drawn.masks[0]].max(axis=1) > 170
    assert 0.25 < tones.mean() < 0.8


def test_a_photograph_is_the_backdrop_when_given() -> None:
    scene = one(backdrop=PHOTOGRAPH)
    blue = np.zeros((50, 90, 3), dtype=np.uint8)
    blue[..., 2] = 255
    drawn = draw(scene, [blue])
    assert scene.background is None
    assert (np.argmax(drawn.pixels, axis=2) == 2)[~drawn.masks[0]].mean() > 0.95
    with pytest.raises(ValueError, match="pass photographs"):
        draw(scene)


def test_a_box_of_a_mask_is_half_open() -> None:
    mask = np.zeros((5, 6), dtype=bool)
    mask[1:3, 2:6] = True
    box = hull(mask)
    assert (box.x0, box.y0, box.x1, box.y1) == (2, 1, 6, 3)
