"""``segment`` with networks: tiny ones with random weights, and one that answers as told."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from manifests.record import Box, Mask, Picture, Subject
from stages.base import Context
from stages.masks import decode_mask, encode_mask
from stages.models.sam_native import load_native
from stages.models.segmenter import Cut
from stages.segment import Segment, SegmentIn, SegmentOut, SegmentParams
from tests.stages.models.tiny_sam import native_sam, sam, sam2
from tests.stages.test_segment import HEIGHT, WIDTH, clutter, disc, record, subject

BOX = Box(x0=20, y0=10, x1=100, y1=80)


class Told:
    """Answers every box with one mask and notes what it was asked."""

    def __init__(self, mask: np.ndarray, iou: float = 0.9) -> None:
        self._cut = Cut(mask, iou)
        self.asked: list[list[list[Box]]] = []

    def __call__(self, images: Sequence[Picture], boxes: Sequence[Sequence[Box]]) -> list[list[Cut]]:
        self.asked.append([list(mine) for mine in boxes])
        return [[self._cut for _ in mine] for mine in boxes]


def told(mask: np.ndarray, iou: float = 0.9, **params: object) -> tuple[Segment, Told]:
    answers = Told(mask, iou)
    return Segment(SegmentParams(backend="sam", model="none", **params), Context(), answers), answers  # type: ignore[arg-type]


def outs(stage: Segment, records: Sequence[SegmentIn]) -> list[SegmentOut]:
    found = stage.process(records)
    assert all(isinstance(out, SegmentOut) for out in found)
    return found  # type: ignore[return-value]


def mask_of(subject: Subject) -> np.ndarray:
    assert subject.mask
    return decode_mask(subject.mask)


def reasons(out: SegmentOut) -> list[str]:
    return [dropped.reason for dropped in out.dropped_subjects]


def test_a_network_is_asked_once_for_all_records() -> None:
    stage, answers = told(disc(45, 60, 20))
    records = [record(clutter(n), *[subject(BOX)] * n) for n in range(4)]
    assert [len(out.subjects) for out in outs(stage, records)] == [0, 1, 2, 3]
    assert answers.asked == [[[BOX] * n for n in range(4)]]


def test_specks_holes_and_what_lies_outside_the_box_are_removed() -> None:
    found = (disc(45, 60, 20) & ~disc(45, 60, 3)) | disc(15, 25, 2) | disc(85, 115, 8)
    (out,) = outs(told(found)[0], [record(clutter(0), subject(BOX))])
    assert np.array_equal(mask_of(out.subjects[0]), disc(45, 60, 20))
    (raw,) = outs(told(found, min_speck=0, max_hole=0)[0], [record(clutter(0), subject(BOX))])
    assert np.array_equal(mask_of(raw.subjects[0]), found & ~disc(85, 115, 8))


def test_a_mask_that_is_there_stays_unless_overwritten() -> None:
    there = encode_mask(disc(45, 60, 5))
    read = record(clutter(0), subject(BOX, there))
    stage, answers = told(disc(45, 60, 20))
    assert outs(stage, [read])[0].subjects == read.subjects
    assert answers.asked == [[[]]]
    anew, _ = told(disc(45, 60, 20), overwrite=True)
    assert np.array_equal(mask_of(outs(anew, [read])[0].subjects[0]), disc(45, 60, 20))


@pytest.mark.parametrize("backend", ["grabcut", "sam"])
def test_a_box_outside_the_image_costs_its_subject_only(backend: str) -> None:
    stage = told(disc(45, 60, 20))[0] if backend == "sam" else Segment.load(SegmentParams(), Context())
    outside = Box(x0=WIDTH + 1, y0=0, x1=WIDTH + 9, y1=9)
    (out,) = outs(stage, [record(clutter(0), subject(outside), subject(BOX))])
    assert len(out.subjects) == 1 and reasons(out) == ["box_outside"]


def test_empty_full_and_doubtful_masks() -> None:
    read = [record(clutter(0), subject(BOX))]
    assert reasons(outs(told(np.zeros((HEIGHT, WIDTH), bool))[0], read)[0]) == ["empty_mask"]
    (full,) = outs(told(np.ones((HEIGHT, WIDTH), bool))[0], read)
    assert mask_of(full.subjects[0]).sum() == BOX.area
    for iou in (0.4, float("-inf")):
        (out,) = outs(told(disc(45, 60, 20), iou, min_predicted_iou=0.5)[0], read)
        assert reasons(out) == ["low_predicted_iou"]


@pytest.fixture(scope="module", params=["sam", "sam2", "sam_native"])
def params(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> SegmentParams:
    """Parameters that name a tiny network on disk."""
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "sam_native":
        torch.save(native_sam().state_dict(), folder / "sam.pth")
        return SegmentParams(backend="sam_native", model=str(folder / "sam.pth"))
    (sam() if request.param == "sam" else sam2()).save_pretrained(folder)
    return SegmentParams(backend=request.param, model=str(folder))


def test_a_network_on_disk_cuts_the_same_however_records_are_batched(
    params: SegmentParams, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(load_native.__globals__["sam_model_registry"], "vit_b", native_sam)
    stage = Segment.load(params, Context())
    boxes = [BOX, Box(x0=0, y0=0, x1=WIDTH, y1=HEIGHT), Box(x0=50, y0=3, x1=70, y1=60)]
    records = [record(clutter(n), *map(subject, boxes[: n % 4])) for n in range(6)]
    together = outs(stage, records)
    assert any(out.subjects for out in together)
    assert [stage.process([one])[0] for one in reversed(records)] == together[::-1]
    for out in together:
        assert all(isinstance(kept.mask, Mask) and kept.mask.height == HEIGHT for kept in out.subjects)


def test_models_names_the_network_with_its_hash(params: SegmentParams) -> None:
    (use,) = Segment.models(params)
    assert use.name == params.model and use.revision.startswith("sha256:")
    assert Segment.models(SegmentParams()) == ()


def test_a_missing_model_is_told_before_anything_runs(tmp_path: Path) -> None:
    missing = SegmentParams(backend="sam", model=str(tmp_path / "none"))
    with pytest.raises(ValueError, match=f"there is no {tmp_path}/none"):
        Segment.models(missing)
    with pytest.raises(ValidationError, match="backend 'sam' needs a model"):
        SegmentParams(backend="sam")
    with pytest.raises(ValidationError, match="backend 'grabcut' takes no model"):
        SegmentParams(model="facebook/sam-vit-base")
