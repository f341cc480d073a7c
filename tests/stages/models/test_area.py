import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.models.area import area_table, shrink

examples = settings(deadline=None, max_examples=60)
sides = st.integers(1, 40)


@examples
@given(st.data(), sides, sides, sides, sides, st.integers(0, 2**32))
def test_windows_are_averaged_as_torch_averages_them(
    data: st.DataObject, height: int, width: int, rows: int, columns: int, seed: int
) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (2, height, width, 3)).astype(np.uint8)
    windows = []
    for _ in range(2):
        ends = [data.draw(st.lists(st.integers(0, n), min_size=2, max_size=2, unique=True)) for n in (width, height)]
        (x0, x1), (y0, y1) = map(sorted, ends)
        windows.append((x0, y0, x1, y1))
    pictures = [data.draw(st.integers(0, 1)) for _ in windows]
    table = area_table(torch.from_numpy(pixels))
    found = shrink(table, torch.tensor(pictures), torch.tensor(windows), rows, columns)
    assert found.shape == (2, 3, rows, columns) and found.dtype == torch.float32
    for part, number, (x0, y0, x1, y1) in zip(found, pictures, windows, strict=True):
        window = torch.from_numpy(pixels[number, y0:y1, x0:x1]).permute(2, 0, 1).double()
        expected = F.adaptive_avg_pool2d(window[None], (rows, columns))[0]
        assert (part - expected).abs().max() < 1e-4  # float32 of up to 255


def test_a_large_white_picture_stays_white() -> None:
    table = area_table(torch.full((1, 3000, 2000, 3), 255, dtype=torch.uint8))
    found = shrink(table, torch.tensor([0]), torch.tensor([(0, 0, 2000, 3000)]), 2, 2)
    assert torch.equal(found, torch.full((1, 3, 2, 2), 255.0))
