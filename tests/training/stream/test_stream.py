import json
import pickle
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from tests.training.stream.make import draw_record
from tests.training.stream.runs import write_run, write_unit
from tests.training.stream.worker import digests, open_stream
from training.stream import timeline
from training.stream.collate import Batch
from training.stream.options import StreamOptions
from training.stream.recipe import STREAM_RECIPES
from training.stream.snapshot import DatasetError
from training.stream.source import Dataset
from training.stream.state import StateError
from training.stream.storage import LocalStorage
from training.stream.stream import PromptStream
from training.stream.world import Alone, World


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_run(tmp_path / "run", units=3, rows=20)


def stream_of(root: Path, size: int = 1, rank: int = 0, **options: Any) -> PromptStream:
    return open_stream(root, root.parent / "cache", World(rank=rank, size=size), batch_size=12, **options)


def keys(batch: Batch) -> list[str]:
    return [key for key, _ in digests(batch)]


def test_batches_have_one_bucket_and_all_of_it_is_there(root: Path) -> None:
    with stream_of(root) as stream:
        for step in range(12):
            batch = next(stream)
            width, height = batch.place.size
            assert batch.images.shape == (12, height, width, 3)
            assert (batch.place.step, len(batch.prompts), len(batch.keys)) == (step, 12, 12)
            assert [len(prompt.references) for prompt in batch.prompts] == [
                (batch.references.sample == n).sum() for n in range(12)
            ]


def test_units_committed_meanwhile_come_from_the_next_epoch_on(root: Path) -> None:
    with stream_of(root) as stream:
        first = [next(stream)]
        settled = stream.timeline.settled
        write_run(root, units=2, rows=20, first=3)
        batches = first + [next(stream) for _ in range(settled + 20)]
    old = {f"drawn_{n}" for n in range(60)}
    epochs = [{key for batch in batches if batch.place.epoch == epoch for key in keys(batch)} for epoch in range(4)]
    grown = next(epoch for epoch, seen in enumerate(epochs) if seen - old)
    assert grown in (1, 2)
    assert all(seen <= old for seen in epochs[:grown])
    counts = Counter(key for batch in batches if batch.place.epoch >= grown for key in keys(batch))
    assert len(set(counts) - old) == 40


def test_a_run_over_growing_data_can_be_resumed_at_any_step(root: Path) -> None:
    with stream_of(root) as stream:
        whole, states = [], [stream.state_dict()]
        for step in range(24):
            if step == 3:
                write_run(root, units=2, rows=20, first=3)
            whole.append(digests(next(stream)))
            states.append(json.loads(json.dumps(stream.state_dict())))
    for step in range(4, 24):
        with stream_of(root) as again:
            again.load_state_dict(states[step])
            assert [digests(next(again)) for _ in range(min(3, 24 - step))] == whole[step : step + 3]


def test_a_stream_need_not_follow(root: Path) -> None:
    with stream_of(root, follow=False) as stream:
        next(stream)
        write_run(root, units=2, rows=20, first=3)
        seen = {key for _ in range(20) for key in keys(next(stream))}
    assert seen == {f"drawn_{n}" for n in range(60)}


def test_changed_settings_are_refused_by_name(root: Path) -> None:
    with stream_of(root) as stream:
        next(stream)
        state = stream.state_dict()
    other = PromptStream(
        str(root),
        recipe=STREAM_RECIPES["unimo_g"](128),
        batch_size=24,
        options=StreamOptions(cache=root.parent / "cache"),
    )
    with other, pytest.raises(StateError) as error:
        other.load_state_dict(state)
    for line in ("batch_size: was 12, is 24", "recipe.buckets.base: was 64, is 128", "seed: was 3, is 0"):
        assert line in str(error.value)


def test_changed_data_is_refused_by_unit(root: Path) -> None:
    with stream_of(root) as stream:
        next(stream)
        state = stream.state_dict()
    write_unit(root, 1, [draw_record(f"other_{n}") for n in range(20)])
    with stream_of(root) as stream, pytest.raises(DatasetError, match="changed among 000001"):
        stream.load_state_dict(state)


def test_a_state_is_small_plain_and_loaded_only_at_the_start(root: Path) -> None:
    with stream_of(root) as stream:
        for _ in range(30):
            next(stream)
        state = stream.state_dict()
        assert len(json.dumps(state)) < 4000
        assert state["step"] == 30
        with pytest.raises(RuntimeError, match="make a new PromptStream"):
            stream.load_state_dict(state)


def test_a_state_in_the_middle_of_a_global_batch_is_that_of_its_start(root: Path) -> None:
    with stream_of(root, accumulation=3) as stream:
        parts = [digests(next(stream)) for _ in range(7)]
        state = stream.state_dict()
    assert state["step"] == 2
    with stream_of(root, accumulation=3) as stream:
        stream.load_state_dict(state)
        assert digests(next(stream)) == parts[6]


def test_a_late_step_is_planned_without_those_before(root: Path) -> None:
    with stream_of(root) as stream:
        next(stream)
        state = stream.state_dict() | {"step": 1_000_003}
    with stream_of(root) as stream:
        stream.load_state_dict(state)
        batch = next(stream)
        assert batch.place.step == 1_000_003
        assert stream.timeline.segments[-1].window.cache_info().misses <= 20


def test_mixtures_hold_their_weights(tmp_path: Path) -> None:
    for name, first in (("a", 0), ("b", 10)):
        write_run(tmp_path / name, units=2, rows=30, first=first)
    datasets = [Dataset(url=str(tmp_path / "a"), weight=3), Dataset(url=str(tmp_path / "b"), weight=1)]
    options = StreamOptions(cache=tmp_path / "cache")
    with PromptStream(datasets, recipe=STREAM_RECIPES["plain"](64), batch_size=8, options=options) as stream:
        seen = [key for _ in range(60) for key in keys(next(stream))]
        state = stream.state_dict()
        later = keys(next(stream))
    from_a = sum(int(key.removeprefix("drawn_")) < 300 for key in seen)
    assert abs(from_a / len(seen) - 0.75) < 0.04
    with PromptStream(datasets, recipe=STREAM_RECIPES["plain"](64), batch_size=8, options=options) as stream:
        stream.load_state_dict(state)
        assert keys(next(stream)) == later


def test_a_world_that_cannot_share_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="12 can't be shared by 5 ranks"):
        open_stream(tmp_path / "nowhere", tmp_path / "cache", World(size=5), batch_size=12)


class Hasty(Alone):
    """A first rank that sees a unit which is committed after this rank has looked."""

    def __init__(self, commit: Callable[[], object], names: str) -> None:
        self.commit, self.names = commit, names

    def share(self, value: Any) -> Any:
        self.commit()
        return [self.names]


def test_a_unit_that_the_first_rank_alone_sees_yet_is_waited_for(root: Path) -> None:
    group = Hasty(lambda: write_run(root, units=1, rows=20, first=3), "000000..000003")
    with open_stream(root, root.parent / "cache", World(group=group), batch_size=12) as stream:
        next(stream)
        assert sum(stream.timeline.snapshots[0][0].counts) == 80


def test_the_very_first_unit_is_waited_for_where_only_the_first_rank_sees_it_yet(tmp_path: Path) -> None:
    root = tmp_path / "run"
    root.mkdir()
    group = Hasty(lambda: write_run(root, units=2, rows=20), "000000..000001")
    with open_stream(root, tmp_path / "cache", World(group=group), batch_size=12) as stream:
        next(stream)
        assert sum(stream.timeline.snapshots[0][0].counts) == 40


class Told(Alone):
    """A first rank that says what this rank is told; what this one would have said is kept."""

    def __init__(self, told: Any = None) -> None:
        self.told, self.said = told, None

    def share(self, value: Any) -> Any:
        self.said = pickle.loads(pickle.dumps(value))
        return self.told or self.said


def test_a_first_rank_that_sees_no_data_leaves_no_rank_waiting(root: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    first = Told()
    for folder, message in ((tmp_path / "empty", "no committed units"), (tmp_path / "nowhere", "cannot be read")):
        with (
            open_stream(folder, tmp_path / "cache", World(group=first), batch_size=12) as stream,
            pytest.raises((DatasetError, FileNotFoundError), match=message),
        ):
            next(stream)
        other = World(rank=1, size=2, group=Told(first.said))
        with (
            open_stream(root, tmp_path / "cache", other, batch_size=12) as stream,
            pytest.raises((DatasetError, FileNotFoundError), match=message),
        ):
            next(stream)


def test_a_unit_that_never_comes_stops_the_run(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timeline, "_LAG_S", 0.05)
    monkeypatch.setattr(timeline, "_LOOK_AGAIN_S", 0.01)
    world = World(group=Hasty(lambda: None, "000000..000003"))
    with (
        open_stream(root, root.parent / "cache", world, batch_size=12) as stream,
        pytest.raises(DatasetError, match="first rank sees unit 000003, this one doesn't; is it one file system"),
    ):
        next(stream)


def test_a_batch_that_failed_is_not_passed_over(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, faults = LocalStorage.read_range, [OSError("the disk is away")]

    def read_range(storage: LocalStorage, path: str, start: int, stop: int) -> bytes:
        if faults:
            raise faults.pop()
        return whole(storage, path, start, stop)

    monkeypatch.setattr(LocalStorage, "read_range", read_range)
    with stream_of(root, threads=1, prefetch=4) as stream:
        for _ in range(2):
            with pytest.raises(OSError, match="the disk is away"):
                next(stream)
        assert stream.state_dict()["step"] == 0


def test_a_batch_that_was_waited_for_when_interrupted_is_the_next_one(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited = Future.result

    def interrupted(future: Future[Any], timeout: float | None = None) -> Any:
        if threading.current_thread() is threading.main_thread():
            raise KeyboardInterrupt
        return waited(future, timeout)

    with stream_of(root, prefetch=1) as stream:
        next(stream)
        with monkeypatch.context() as patch:
            patch.setattr(Future, "result", interrupted)
            with pytest.raises(KeyboardInterrupt):
                next(stream)
        assert next(stream).place.step == 1


def test_read_ahead_counts_references_and_masks_too(root: Path) -> None:
    with stream_of(root) as stream:
        batches = [next(stream) for _ in range(8)]
    largest = max(batch.nbytes for batch in batches)
    assert largest > 3 * max(batch.images.nbytes for batch in batches)
    with stream_of(root, prefetch=20, read_ahead_bytes=3 * largest) as stream:
        for _ in range(6):
            next(stream)
            assert len(stream.ahead) >= 1 and sum(batch.nbytes for batch in ahead_of(stream)) <= 4 * largest


def ahead_of(stream: PromptStream) -> list[Batch]:
    return [ahead.result().made.result().batch for ahead in stream.ahead]


def test_a_closed_stream_leaves_its_batches(root: Path) -> None:
    stream = stream_of(root, threads=3, prefetch=20)
    batch = next(stream)
    before = digests(batch)
    stream.close()
    assert digests(batch) == before


def test_a_closed_stream_says_so_and_another_goes_on_from_its_state(root: Path) -> None:
    with stream_of(root) as stream:
        next(stream)
    with pytest.raises(RuntimeError, match=r"the stream is closed.*state_dict\(\)"):
        next(stream)
    with stream_of(root) as other:
        other.load_state_dict(stream.state_dict())
        assert next(other).place.step == 1


def test_no_data_and_no_recipe_are_refused(root: Path) -> None:
    with pytest.raises(ValueError, match="at least one folder"):
        PromptStream([], recipe="plain", batch_size=4)
    with pytest.raises(ValueError, match="no recipe 'mummu'; there are plain, unimo_g"):
        PromptStream(str(root), recipe="mummu", batch_size=4)


def test_folders_may_be_named_alone_or_together(root: Path) -> None:
    options = StreamOptions(cache=root.parent / "cache")
    alone, both = (
        PromptStream(data, recipe=STREAM_RECIPES["plain"](64), batch_size=4, options=options)
        for data in (str(root), [str(root), Dataset(url=str(root))])
    )
    with alone, both:
        assert [dataset.url for dataset in both.datasets] == [str(root)] * 2
        assert len(next(alone)) == len(next(both)) == 4


@pytest.mark.parametrize("wrong", [{"threads": 0}, {"prefetch": 0}, {"max_damaged": 1.5}])
def test_options_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        StreamOptions(**wrong)
