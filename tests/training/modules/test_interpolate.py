"""Grids of vectors between four corners."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from training.modules.interpolate import Interpolation, interpolate

CORNERS = torch.randn(4, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("kind", ["bilinear", "slerp"])
def test_corners_of_the_grid_are_the_vectors(kind: Interpolation) -> None:
    grid = interpolate(CORNERS, 5, kind)
    assert grid.shape == (5, 5, 6)
    corners = torch.stack([grid[0, 0], grid[0, -1], grid[-1, 0], grid[-1, -1]])
    torch.testing.assert_close(corners, CORNERS)


@given(row=st.integers(0, 4), column=st.integers(0, 4))
def test_bilinear_weighs_corners_by_their_distance(row: int, column: int) -> None:
    y, x = row / 4, column / 4
    weights = torch.tensor([(1 - y) * (1 - x), (1 - y) * x, y * (1 - x), y * x], dtype=torch.float64)
    torch.testing.assert_close(interpolate(CORNERS, 5)[row, column], weights @ CORNERS)


def test_arcs_keep_lengths_and_lines_do_not() -> None:
    unit = torch.nn.functional.normalize(CORNERS)
    torch.testing.assert_close(interpolate(unit, 5, "slerp").norm(dim=-1), torch.ones(5, 5, dtype=torch.float64))
    assert interpolate(unit, 5).norm(dim=-1).min() < 0.95


def test_between_equal_vectors_there_is_only_that_vector() -> None:
    grid = interpolate(CORNERS[:1].expand(4, -1), 3, "slerp")
    torch.testing.assert_close(grid, CORNERS[0].expand(3, 3, -1))


@pytest.mark.parametrize(("count", "size"), [(3, 5), (4, 1)])
def test_other_than_four_corners_or_one_row_are_refused(count: int, size: int) -> None:
    with pytest.raises(ValueError, match="four corners and a size of 2 or more"):
        interpolate(CORNERS[:1].expand(count, -1), size)
