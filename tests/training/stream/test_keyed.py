import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from training.stream.keyed import Draws, hash64, mix, permute


@given(st.integers(0, 2**64 - 1), st.integers(1, 3000))
def test_a_permutation_takes_each_number_to_another(key: int, size: int) -> None:
    moved = permute(key, np.arange(size), size)
    assert sorted(moved.tolist()) == list(range(size))


@given(st.integers(0, 2**64 - 1), st.integers(2, 2**62), st.data())
def test_numbers_go_to_the_same_place_alone_and_together(key: int, size: int, data: st.DataObject) -> None:
    numbers = np.array(data.draw(st.lists(st.integers(0, size - 1), min_size=1, max_size=8)))
    moved = permute(key, numbers, size)
    assert moved.min() >= 0 and moved.max() < size
    assert [int(permute(key, numbers[i : i + 1], size)[0]) for i in range(len(numbers))] == moved.tolist()


def test_permutations_of_different_keys_differ() -> None:
    first, second = permute(1, np.arange(1000), 1000), permute(2, np.arange(1000), 1000)
    assert (first == second).sum() < 20


def test_a_permutation_mixes_near_and_far() -> None:
    moved = permute(7, np.arange(100_000), 100_000)
    assert abs(np.corrcoef(np.arange(100_000), moved)[0, 1]) < 0.02
    assert abs(np.corrcoef(moved[:-1], moved[1:])[0, 1]) < 0.02


@given(st.integers(0, 2**63), st.integers(0, 1000), st.text(max_size=20), st.text(max_size=20))
def test_a_draw_depends_on_its_own_name_alone(seed: int, epoch: int, key: str, name: str) -> None:
    draws = Draws(seed, epoch, key)
    before = draws.uniform(name)
    draws.uniform(name + "other")
    assert draws.uniform(name) == before == Draws(seed, epoch, key).uniform(name)
    assert 0 <= before < 1


def test_draws_of_neighbouring_keys_are_uniform_and_independent() -> None:
    values = np.array([[Draws(0, epoch, f"k{n}").uniform("flip") for n in range(2000)] for epoch in (0, 1)])
    assert abs(values.mean() - 0.5) < 0.02
    assert abs(np.corrcoef(values[0], values[1])[0, 1]) < 0.06
    counts, _ = np.histogram(values, bins=10, range=(0, 1))
    assert counts.min() > 320 and counts.max() < 480


@given(st.integers(0, 2**63), st.integers(1, 30))
def test_an_order_is_a_permutation_and_a_choice_one_of_the_options(seed: int, count: int) -> None:
    draws = Draws(seed, 0, "key")
    assert sorted(draws.order("places", count)) == list(range(count))
    assert draws.choice("one", range(count)) in range(count)
    assert 3 <= draws.between("scale", 3, 4) < 4


def test_parts_of_a_hash_are_kept_apart() -> None:
    assert len({hash64("a", "b"), hash64("ab"), hash64("a", 1), hash64("a", "1"), hash64("", "ab")}) == 5


def test_noise_is_the_same_on_every_version_of_numpy() -> None:
    raw = Draws(1, 2, "key").generator("noise").random_raw(3)
    assert raw.tolist() == Draws(1, 2, "key").generator("noise").random_raw(3).tolist()
    assert hash64(1, 2, "key", "noise") == 5820698764411114719


@given(st.integers(0, 2**63), st.text(max_size=9), st.text(max_size=9))
def test_bits_are_the_mixed_sum_of_two_hashes(seed: int, key: str, name: str) -> None:
    total = (hash64(seed, 0, key) + hash64(name)) % 2**64
    assert Draws(seed, 0, key).bits(name) == int(mix(np.array([total], np.uint64))[0])
