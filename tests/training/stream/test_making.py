import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from training.stream.catalog import Entry
from training.stream.collate import Place
from training.stream.fetch import open_fetcher
from training.stream.fill import Filled, Filler, Spare, Wanted
from training.stream.making import Part, ThreadMaker
from training.stream.recipe import STREAM_RECIPES
from training.stream.storage import LocalStorage
from training.stream.timeline import Located


class Uneven(Filler):
    """Fails at once at the first slot; elsewhere takes its time, and then a spare."""

    def fill(
        self, size: tuple[int, int], spare: Spare, wanted: Sequence[Wanted], out: Sequence[Any]
    ) -> Iterator[Filled]:
        if wanted[0].slot == 0:
            raise OSError("the disk is away")
        time.sleep(0.2)
        spare(wanted[0].slot, 0)
        yield from ()


def test_a_batch_that_failed_asks_for_no_more_spares(tmp_path: Path) -> None:
    storage = LocalStorage(str(tmp_path))
    maker = ThreadMaker(Uneven([storage], STREAM_RECIPES["plain"](64), 0, True), [open_fetcher(storage)], threads=2)
    sample = Located(0, Entry("a.tar", "a", 0, 9, 64, 64, "", ()), 0)
    place = Place(epoch=0, step=0, ratio=1.0, size=(64, 64))
    asked: list[int] = []

    def spare(slot: int, attempt: int) -> Located:
        asked.append(slot)
        return sample

    made = maker.make(Part(place=place, image_size=(64, 64), slots=range(2), samples=(sample, sample)), spare)
    with pytest.raises(OSError, match="the disk is away"):
        made.result()
    assert asked == [1]
    maker.close()
