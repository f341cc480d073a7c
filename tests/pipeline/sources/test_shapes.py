"""Drawn scenes."""

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from manifests.dag import ShapesSource
from pipeline.sources.base import SourceError, Unit
from pipeline.sources.shapes import Shapes
from stages.masks import decode_mask, pixels_box
from stages.shapes.arranged import ArrangedSettings, make_arranged, tell
from stages.shapes.draw import draw
from stages.shapes.grammar import caption, mentions
from stages.shapes.scene import SceneSettings, make_scene
from tests.pipeline.sources.reading import read_all, records


def opened(**settings: Any) -> Shapes:
    return Shapes(ShapesSource(**{"kind": "shapes", "scenes": 5} | settings))


def pixels(data: bytes) -> np.ndarray:
    with Image.open(BytesIO(data)) as image:
        return np.asarray(image)


def blue_photograph(folder: Path) -> str:
    Image.new("RGB", (700, 600), (0, 0, 255)).save(folder / "blue.png")
    return str(folder / "*.png")


def test_rows_are_scenes_of_consecutive_seeds_with_their_captions() -> None:
    source = opened(seed=40)
    rows = records(read_all(source))
    assert source.gives == {"source_id", "original", "sha256", "alt_text"}
    for number, record in enumerate(rows):
        scene = make_scene(40 + number, SceneSettings())
        assert (record.source_id, record.alt_text) == (str(40 + number), caption(scene))
        assert record.original is not None
        assert np.array_equal(pixels(record.original), draw(scene).pixels)
        assert record.annotations == ()


def test_annotations_are_the_true_boxes_and_masks_with_their_places_in_the_caption() -> None:
    for record in records(read_all(opened(annotations=True))):
        assert record.source_id and record.alt_text
        scene = make_scene(int(record.source_id), SceneSettings())
        drawn = draw(scene)
        assert [a.phrase for a in record.annotations] == [m.phrase for m in mentions(scene)]
        for annotation, mention in zip(record.annotations, mentions(scene), strict=True):
            assert annotation.span and annotation.span.of(record.alt_text) == annotation.phrase
            assert annotation.mask and np.array_equal(decode_mask(annotation.mask), drawn.masks[mention.thing])
            box = pixels_box(drawn.masks[mention.thing])
            assert box and annotation.x0 * scene.width == pytest.approx(box.x0)
            assert annotation.y1 * scene.height == pytest.approx(box.y1)


def test_without_captions_annotations_point_into_none() -> None:
    source = opened(captions=False, annotations=True)
    assert "alt_text" not in source.gives
    for record in records(read_all(source)):
        assert record.alt_text is None
        assert record.annotations and all(annotation.span is None for annotation in record.annotations)


def test_a_scene_is_the_same_in_a_larger_run_and_its_key_too() -> None:
    few, many = opened(scenes=3), opened(scenes=9)
    assert few.read(Unit(0, 0, 0, 3)) == many.read(Unit(0, 0, 0, 3))


@pytest.mark.parametrize("change", [{"seed": 1}, {"max_things": 2}, {"captions": False}, {"annotations": True}])
def test_keys_differ_where_rows_may(change: dict[str, Any]) -> None:
    assert opened().parts[0].digest != opened(**change).parts[0].digest


def test_photographs_are_behind_some_scenes(tmp_path: Path) -> None:
    source = opened(scenes=60, photographs=[blue_photograph(tmp_path)])
    pictures = [pixels(record.original or b"") for record in records(read_all(source, unit_rows=20))]
    is_blue = [np.median(picture[..., 2].astype(int) - picture[..., 0]) > 120 for picture in pictures]
    assert 6 <= sum(is_blue) <= 27
    assert opened(scenes=60).fingerprint != source.fingerprint


def test_a_photograph_that_changes_stops_the_run(tmp_path: Path) -> None:
    source = opened(photographs=[blue_photograph(tmp_path)])
    Image.new("RGB", (700, 600), (255, 0, 0)).save(tmp_path / "blue.png")
    opened(photographs=[str(tmp_path / "*.png")])  # so that the planned one is no longer remembered
    with pytest.raises(SourceError, match=r"blue\.png: has changed"):
        source.read(Unit(0, 0, 0, 5))


def test_what_is_no_photograph_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"no picture")
    with pytest.raises(SourceError, match=r"a\.jpg: no photograph"):
        opened(photographs=[str(tmp_path / "a.jpg")])
    with pytest.raises(SourceError, match="matches no file"):
        opened(photographs=[str(tmp_path / "*.webp")])


def arranged(**values: Any) -> Shapes:
    return opened(**{"layout": "arranged", "says": "shape", "max_things": 3, "annotations": True} | values)


def test_arranged_scenes_come_with_what_their_captions_name() -> None:
    for record in records(read_all(arranged(scenes=30, hold_out="train"))):
        assert record.source_id and record.alt_text and record.original
        scene = make_arranged(int(record.source_id), ArrangedSettings(hold_out="train"))
        text, named = tell(scene, "shape")
        drawn = draw(scene.scene)
        assert record.alt_text == text and np.array_equal(pixels(record.original), drawn.pixels)
        assert [(a.phrase, a.span) for a in record.annotations] == [(m.phrase, m.span) for m in named]
        for annotation, mention in zip(record.annotations, named, strict=True):
            assert annotation.mask and np.array_equal(decode_mask(annotation.mask), drawn.masks[mention.thing])


@pytest.mark.parametrize("change", [{"says": "everything"}, {"hold_out": "train"}, {"hold_out": "held_out"}])
def test_keys_of_arranged_scenes_differ_where_rows_may(change: dict[str, Any]) -> None:
    assert len({source.parts[0].digest for source in (opened(), arranged(), arranged(**change))}) == 3


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"says": "shape"}, "says and hold_out go with layout: arranged"),
        ({"layout": "arranged"}, "at most 3 things"),
        ({"layout": "arranged", "max_things": 2, "photographs": ["a.jpg"]}, "no photographs"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        opened(**settings)
