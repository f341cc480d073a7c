from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from manifests.record import Annotation, Box, Face, Keypoint, Picture, Point
from stages.base import Context, Drop
from stages.faces import Faces, FacesIn, FacesOut, FacesParams, count_people
from stages.geometry import iou
from stages.pixels import Pixels, read_picture, resize, write_jpeg, write_png
from tests.stages.photos import astronaut

WIDTH, HEIGHT, SCALE = 100, 80, 3


class Told:
    """Finds the same faces in every picture, and notes what it was shown."""

    def __init__(self, *faces: Face) -> None:
        self.faces = faces
        self.shown: list[Pixels] = []

    def __call__(self, images: Sequence[Pixels]) -> list[list[Face]]:
        self.shown += images
        return [list(self.faces) for _ in images]


def face(x0: float, y0: float, x1: float, y1: float, score: float = 0.99) -> Face:
    return Face(box=Box(x0=x0, y0=y0, x1=x1, y1=y1), score=score, landmarks=(Point(x=x0, y=y0),) * 5)


SMALL, LARGE = face(10, 10, 30, 35), face(50, 20, 80, 60)


def record(*annotations: Annotation, original: Pixels | None = None) -> FacesIn:
    pixels = np.zeros((SCALE * HEIGHT, SCALE * WIDTH, 3), np.uint8) if original is None else original
    return FacesIn(
        original=write_png(pixels).data,
        original_width=pixels.shape[1],
        original_height=pixels.shape[0],
        image=write_png(resize(pixels, pixels.shape[1] // SCALE, pixels.shape[0] // SCALE)),
        annotations=annotations,
    )


def box(phrase: str, is_crowd: bool = False, **more: Any) -> Annotation:
    place = {"x0": 0.5, "y0": 0.25, "x1": 0.8, "y1": 0.75}
    return Annotation(phrase=phrase, is_crowd=is_crowd, **{**place, **more})


def run(read: FacesIn, *found: Face, **params: Any) -> FacesOut | Drop:
    (out,) = Faces(FacesParams(**params), Told(*found)).process([read])
    assert isinstance(out, FacesOut | Drop)
    return out


def found(out: object) -> tuple[Face, ...]:
    assert isinstance(out, FacesOut)
    return out.faces


def test_faces_come_the_largest_first_with_their_landmarks() -> None:
    first, second = found(run(record(), SMALL, LARGE))
    assert (first.box, second.box) == (LARGE.box, SMALL.box)
    assert first.landmarks == LARGE.landmarks and first.score == LARGE.score


def test_a_face_is_cut_from_the_original_with_its_margin() -> None:
    original = np.zeros((SCALE * HEIGHT, SCALE * WIDTH, 3), np.uint8)
    original[60:180, 150:240] = (200, 120, 40)
    read = record(original=original)
    (tight,) = found(run(read, LARGE, margin=0))
    assert tight.crop and (tight.crop.width, tight.crop.height) == (90, 120)
    assert np.abs(read_picture(tight.crop).astype(int) - (200, 120, 40)).max() <= 3
    (wide,) = found(run(read, LARGE, margin=0.1))
    assert wide.crop and (wide.crop.width, wide.crop.height) == (108, 144)
    assert wide.box == tight.box
    assert read_picture(wide.crop)[0, 0].max() <= 12
    (small,) = found(run(read, LARGE, margin=0, max_side=60))
    assert small.crop and (small.crop.width, small.crop.height) == (45, 60)


def test_doubtful_small_and_outside_faces_are_left_out_and_others_cut_at_the_edge() -> None:
    bad = [face(50, 20, 80, 60, 0.5), face(50, 20, 80, 60, float("nan")), face(1, 1, 12, 60), face(120, 0, 160, 40)]
    assert found(run(record(), *bad)) == ()
    (edge,) = found(run(record(), face(-10, -5, 30, 40)))
    assert edge.box.xyxy == (0, 0, 30, 40) and edge.crop
    assert found(run(record(), face(-35, 0, 10, 40))) == ()
    assert len(found(run(record(), face(1, 1, 14, 60), min_face=12))) == 1


def test_records_with_too_many_people_or_no_face_are_dropped_if_so_wanted() -> None:
    assert run(record(), SMALL, LARGE, max_people=1) == Drop("too_many_people", "2 people")
    assert len(found(run(record(), SMALL, LARGE, max_people=2))) == 2
    assert found(run(record(), SMALL, LARGE, max_faces=1))[0].box == LARGE.box
    assert run(record(), SMALL, LARGE, max_faces=1, max_people=1) == Drop("too_many_people", "2 people")
    assert run(record(), max_people=0) == FacesOut(faces=())
    assert run(record(), require_face=True) == Drop("no_face")


def test_people_in_the_metadata_count_though_their_faces_do_not_show() -> None:
    people = [box("person"), box("A young woman"), box("dog"), box("baby carriage"), box(" ")]
    assert count_people(people) == 2
    assert count_people([box("person", is_crowd=True)]) == 2
    assert run(record(*people), SMALL, max_people=1) == Drop("too_many_people", "2 people")
    assert run(record(box("person"), box("dog")), SMALL, max_people=1) != Drop("too_many_people", "2 people")


def test_all_records_are_shown_at_once() -> None:
    told = Told(LARGE)
    outs = Faces(FacesParams(), told).process([record(), record()])
    assert len(told.shown) == 2 and [len(found(out)) for out in outs] == [1, 1]


EYES = (
    Keypoint(name="nose", x=0.6, y=0.5, is_visible=True),
    Keypoint(name="left_eye", x=0.66, y=0.4, is_visible=True),
    Keypoint(name="right_eye", x=0.54, y=0.4, is_visible=True),
)


def test_faces_by_keypoints_need_no_network() -> None:
    stage = Faces.load(FacesParams(backend="keypoints", min_face=12), Context())
    person = box("person", keypoints=EYES, score=0.95)
    outs = stage.process([record(person, box("dog")), record(), record(box("person", keypoints=EYES, score=0.1))])
    ((only,), none, doubtful) = map(found, outs)
    assert only.score == 0.95 and only.landmarks == () and only.crop
    assert only.box.x0 < 54 < 66 < only.box.x1 and only.box.y0 < 32 < 40 < only.box.y1
    assert none == doubtful == ()


def test_faces_by_the_metadatas_names() -> None:
    stage = Faces.load(FacesParams(backend="metadata"), Context())
    named = [box("Human face"), box("face", is_crowd=True), box("clock face"), box("face", x1=float("nan"))]
    (out,) = stage.process([record(*named)])
    (only,) = found(out)
    assert only.box.xyxy == pytest.approx((50, 20, 80, 60)) and only.score == 1


def photo(side: int) -> Picture:
    return write_jpeg(resize(np.ascontiguousarray(astronaut()[20:250, 100:330]), side, side))


def test_mtcnn_finds_the_face_of_a_photograph_and_cuts_it_from_the_original() -> None:
    try:
        stage = Faces.load(FacesParams(require_face=True), Context())
    except ValueError as error:
        pytest.skip(str(error))
    large = photo(230)
    read = FacesIn(original=large.data, original_width=230, original_height=230, image=photo(116), annotations=())
    flat = record()
    outs = stage.process([flat, read, flat])
    assert outs[0] == outs[2] == Drop("no_face")
    (only,) = found(outs[1])
    assert iou(only.box, Box(x0=40, y0=21, x1=85, y1=79)) > 0.7
    assert len(only.landmarks) == 5
    assert only.crop and only.crop.width == pytest.approx(1.4 * 230 / 116 * (only.box.x1 - only.box.x0), abs=2)
    assert stage.process([read]) == outs[1:2]


def test_the_model_is_named_and_only_mtcnn_takes_one() -> None:
    assert [ref.name for ref in Faces.wants(FacesParams())] == ["facenet-pytorch"]
    assert [ref.name for ref in Faces.wants(FacesParams(model="weights/mtcnn"))] == ["weights/mtcnn"]
    assert Faces.wants(FacesParams(backend="keypoints")) == ()
    with pytest.raises(ValidationError, match="backend 'metadata' takes no model"):
        FacesParams(backend="metadata", model="weights/mtcnn")
    with pytest.raises(ValueError, match=r"there is no .*/nowhere"):
        Faces.models(FacesParams(model="nowhere"))
