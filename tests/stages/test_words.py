import itertools
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.words import anchor, is_looping, occurrences

PIECES = [
    "dog",
    "Dog house",
    "house",
    "a",
    "red",
    "cat",
    "犬",
    "公園",
    "किताब",
    "é",
    "-",
    ",",
    "(",
    "don't",
    "\u0301",
    " ",
    "ß",
]
TEXTS = st.lists(st.sampled_from(PIECES) | st.text(max_size=3), max_size=12).map(" ".join)


def found(text: str, phrase: str) -> list[tuple[int, int]]:
    return [(span.start, span.end) for span in occurrences(text, phrase)]


@pytest.mark.parametrize(
    ("text", "phrase", "expected"),
    [
        ("A dog, a Dog and dogs", "dog", [(2, 5), (9, 12)]),
        ("a red  bike", "red bike", [(2, 11)]),
        ("a hot-dog's dog", "dog", [(6, 9), (12, 15)]),
        ("a a a", "a a", [(0, 3), (2, 5)]),
        ("xa a a", "a a", [(3, 6)]),
        ("公園の犬", "犬", [(3, 4)]),
        ("公園dog犬", "dog", [(2, 5)]),
        ("किताबें किताब", "किताब", [(8, 13)]),
        ("STRASSE", "straße", []),
        ("C++ (2) cat?", "(2) cat?", [(4, 12)]),
        ("a dog", "", []),
        ("a, dog", ",", []),
        ("dog", "big dog", []),
    ],
)
def test_a_phrase_occurs_where_its_words_do(text: str, phrase: str, expected: list[tuple[int, int]]) -> None:
    assert found(text, phrase) == expected


def test_long_phrases_come_first_and_equal_ones_in_turn() -> None:
    text = "a dog in a dog house by a dog"
    places = anchor(text, ["dog", "house", "dog house", "dog", "dog", "cat"])
    assert [place and (place.start, place.of(text)) for place in places] == [
        (2, "dog"),
        None,
        (11, "dog house"),
        (26, "dog"),
        None,
        None,
    ]


@given(text=TEXTS, phrases=st.lists(TEXTS, max_size=6))
@settings(deadline=None, max_examples=60)
def test_places_hold_their_phrases_and_do_not_overlap(text: str, phrases: list[str]) -> None:
    places = anchor(text, phrases)
    assert len(places) == len(phrases)
    for phrase, place in zip(phrases, places, strict=True):
        assert not place or place.of(text).casefold().split() == phrase.casefold().split()
    ordered = sorted(filter(None, places), key=lambda place: place.start)
    assert all(a.end <= b.start for a, b in itertools.pairwise(ordered))


@pytest.mark.parametrize(
    ("text", "is_loop"),
    [
        ("a dog on a beach with a dog on a beach", False),
        ("a dog dog dog dog", True),
        ("a dog dog dog", False),
        ("on the beach, on the beach, On the Beach and on the beach", False),
        ("on the beach, on the beach, On the Beach on the beach.", True),
        ("it is so, so, so good", False),
        ("犬犬犬犬", True),
        ("犬と犬と犬と犬と犬", True),
        ("犬と猫", False),
        ("!!!!!!!!!!", False),
        ("", False),
    ],
)
def test_the_same_words_more_than_three_times_in_a_row_are_a_loop(text: str, is_loop: bool) -> None:
    assert is_looping(text, 3) == is_loop


@given(head=TEXTS, loop=st.lists(st.sampled_from(["dog", "cat", "red"]), min_size=1, max_size=5), tail=TEXTS)
@settings(deadline=None, max_examples=50)
def test_a_loop_is_found_wherever_it_stands(head: str, loop: list[str], tail: str) -> None:
    for repeats in (1, 3, 7):
        assert is_looping(" ".join([head, *loop * (repeats + 1), tail]), repeats)


def test_long_texts_and_many_phrases_take_no_age() -> None:
    began = time.perf_counter()
    text = " ".join(f"w{n} dog" for n in range(300))
    places = anchor(text, ["dog"] * 400 + [f"w{n} dog" for n in range(500)])
    assert sum(place is not None for place in places) == 300
    assert not is_looping(" ".join(f"w{n}" for n in range(2000)), 3)
    assert time.perf_counter() - began < 10  # About 1 s.
