"""The bundled networks through the shipped manifest, on scenes they have not learnt from."""

from collections.abc import Iterator

import pytest

from benchmarks.shapes import Figures, Truth, average_precision, measure


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Figures]:
    yield measure(120, tmp_path_factory.mktemp("shapes"))


def test_captions_boxes_masks_and_prompts_are_as_good_as_documented(measured: Figures) -> None:
    """Floors are a little below docs/quality.md, as 120 scenes vary more than a thousand."""
    assert measured.captions >= 0.92
    assert measured.precision >= 0.97
    assert measured.box_iou >= 0.85
    assert measured.mask_iou >= 0.885
    assert measured.prompts >= 0.89


def truths(*found: tuple[float, float]) -> list[Truth]:
    return [Truth("red circle", overlap, overlap, score) for overlap, score in found]


def test_average_precision_counts_what_is_missed_and_what_is_wrong() -> None:
    assert average_precision(truths((0.9, 0.8), (0.6, 0.7))) == 1
    assert average_precision(truths((0.9, 0.8), (0.0, -1.0))) == 0.5
    assert average_precision(truths((0.1, 0.9), (0.9, 0.8))) == 0.25
    assert average_precision(truths((0.0, -1.0))) == 0
