import threading
import time
from collections.abc import Iterator

import pytest

from stages.models.ahead import ahead, behind


def double(number: int) -> int:
    return 2 * number


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("count", [0, 1, 3, 100])
def test_it_is_map_whatever_the_device(device: str, count: int) -> None:
    assert list(ahead(double, range(20), count, device)) == list(range(0, 40, 2))
    assert list(ahead(double, [], count, device)) == []


def test_for_a_gpu_threads_draw_so_many_before_they_are_asked_for() -> None:
    drawn: list[int] = []

    def draw(number: int) -> int:
        assert threading.current_thread() is not threading.main_thread()
        drawn.append(number)
        return number

    numbers = ahead(draw, range(10), 3, "cuda")
    assert next(numbers) == 0
    deadline = time.monotonic() + 5
    while len(drawn) < 4 and time.monotonic() < deadline:
        time.sleep(0.001)
    assert sorted(drawn) == [0, 1, 2, 3]
    assert list(numbers) == list(range(1, 10))


def test_on_a_cpu_nothing_is_drawn_before_it_is_asked_for() -> None:
    taken: list[int] = []

    def numbers() -> Iterator[int]:
        for number in range(10):
            taken.append(number)
            yield number

    assert next(ahead(double, numbers(), 3, "cpu")) == 0
    assert taken == [0]


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_an_error_comes_where_its_item_was(device: str) -> None:
    numbers = ahead(lambda number: 1 // number, [1, 2, 0, 4], 9, device)
    assert [next(numbers), next(numbers)] == [1, 0]
    with pytest.raises(ZeroDivisionError):
        next(numbers)


def test_who_stops_early_leaves_no_thread_behind() -> None:
    before = threading.active_count()
    numbers = ahead(double, range(1000), 5, "cuda")
    next(numbers)
    numbers.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_what_is_done_behind_is_map_whatever_the_device(device: str) -> None:
    assert list(behind(double, iter(range(20)), device)) == list(range(0, 40, 2))
    with pytest.raises(ZeroDivisionError):
        behind(lambda number: 1 // number, [1, 0], device)


def test_a_gpu_goes_on_while_threads_work_on_what_it_found() -> None:
    """The first is worked on only once the last is found."""
    all_found = threading.Event()

    def find() -> Iterator[int]:
        yield from range(3)
        all_found.set()

    assert list(behind(lambda number: all_found.wait(5) and number, find(), "cuda")) == [0, 1, 2]
