from collections.abc import Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stages.models.memory import CallSize, NetworkMemoryError


class Network:
    """Doubles numbers; has room for so many at once."""

    def __init__(self, room: int, error: Exception | None = None) -> None:
        self.room = room
        self.error = error or torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
        self.calls: list[int] = []

    def __call__(self, items: Sequence[int], size: int) -> list[int]:
        assert len(items) <= size
        self.calls.append(size)
        if size > self.room:
            raise self.error
        return [2 * item for item in items]


@given(st.lists(st.integers()), st.integers(1, 9), st.booleans())
def test_every_item_gets_its_result_in_order(items: list[int], size: int, is_short: bool) -> None:
    network = Network(room=max(size // 2, 1) if is_short else size)
    assert CallSize(size, "images_per_call").run(items, network) == [2 * item for item in items]


def test_calls_are_halved_once_and_stay_halved() -> None:
    network, call_size = Network(room=4), CallSize(8, "images_per_call")
    assert call_size.run(range(10), network) == list(range(0, 20, 2))
    assert network.calls == [8, 4, 4, 4]
    call_size.run(range(4), network)
    assert network.calls == [8, 4, 4, 4, 4]


def test_a_second_time_is_fatal_and_says_which_parameter_to_lower() -> None:
    call_size = CallSize(8, "images_per_call")
    with pytest.raises(MemoryError, match=r"images_per_call = 4, which is halved already: lower images_per_call"):
        call_size.run(range(10), Network(room=3))
    with pytest.raises(NetworkMemoryError):
        call_size.run([1], Network(room=3))


def test_a_single_item_that_does_not_fit_is_fatal_at_once() -> None:
    with pytest.raises(NetworkMemoryError, match="choose a smaller model or smaller images"):
        CallSize(1, "boxes_per_call").run([1], Network(room=0))


@pytest.mark.parametrize(
    "text", ["[enforce fail] DefaultCPUAllocator: can't allocate memory", "CUDA error: CUBLAS_STATUS_ALLOC_FAILED"]
)
def test_memory_may_also_be_short_in_other_words(text: str) -> None:
    assert CallSize(2, "images_per_call").run([1, 2], Network(1, RuntimeError(text))) == [2, 4]


def test_any_other_error_is_left_alone() -> None:
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        CallSize(2, "images_per_call").run([1, 2], Network(1, RuntimeError("shapes cannot be multiplied")))


def test_a_real_allocation_that_cannot_be_met_counts() -> None:
    def call(items: Sequence[int], size: int) -> list[int]:
        return torch.zeros(len(items)).tolist() if size < 2 else torch.empty(2**60).tolist()

    assert CallSize(2, "images_per_call").run([1, 2], call) == [0, 0]
