import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.stream.world import World


@given(st.integers(1, 12), st.integers(1, 6), st.integers(1, 8))
def test_ranks_and_their_parts_share_a_batch_without_rest(size: int, accumulation: int, share: int) -> None:
    batch = size * accumulation * share
    slots = [
        slot
        for rank in range(size)
        for part in range(accumulation)
        for slot in World(rank=rank, size=size).slots(batch, accumulation, part)
    ]
    assert slots == list(range(batch))


def test_an_uneven_world_is_refused_with_sizes_that_would_do() -> None:
    with pytest.raises(ValueError, match=r"256 can't be shared by 6 ranks.*\[1, 2, 4, 8, 16, 32\].*that 6 divides"):
        World(rank=0, size=6).slots(256, 1, 0)
    with pytest.raises(ValueError, match=r"by 4 ranks in 3 parts each; no world size would do.*that 12 divides"):
        World(rank=0, size=4).slots(64, 3, 0)


def test_a_rank_outside_its_world_is_refused() -> None:
    with pytest.raises(ValueError, match=r"range\(2\), got 2"):
        World(rank=2, size=2)


def test_a_world_without_torchrun_is_one_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert World.from_env().size == 1


def test_a_world_without_a_process_group_says_what_to_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(RuntimeError, match="init_process_group"):
        World.from_env()
