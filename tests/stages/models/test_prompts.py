from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.models.prompts import PromptWriter
from tests.stages.models.tiny_grounding_dino import WORDS, tokenizer

TOKENIZER = tokenizer()
WRITER = PromptWriter(TOKENIZER, 256)

words = st.lists(st.sampled_from([word for word in WORDS if not word.startswith("##")]), min_size=1, max_size=8)
phrases = st.lists(words.map(" ".join), max_size=12)


def word(ids: tuple[int, ...], places: tuple[int, ...]) -> str:
    return " ".join(TOKENIZER.convert_ids_to_tokens([ids[place] for place in places]))


@given(phrases.filter(bool))
@settings(deadline=None)
def test_a_prompt_is_what_the_tokenizer_makes_of_the_phrases_with_dots_between(mine: list[str]) -> None:
    (prompt,) = WRITER.write(mine).prompts
    assert list(prompt.ids) == TOKENIZER(" . ".join(mine) + " .").input_ids


@given(phrases, st.integers(12, 40))
@settings(deadline=None)
def test_every_phrase_stands_whole_in_one_prompt_however_short_those_must_be(mine: list[str], limit: int) -> None:
    writing = PromptWriter(TOKENIZER, limit).write(mine)
    assert all(len(prompt.ids) <= limit for prompt in writing.prompts)
    found = {number: word(prompt.ids, places) for prompt in writing.prompts for number, places in prompt.places.items()}
    assert found == dict(enumerate(mine))
    assert Counter(number for prompt in writing.prompts for number in prompt.places) == Counter(range(len(mine)))


def test_a_phrase_that_is_too_long_alone_is_told_and_the_others_are_read() -> None:
    writing = PromptWriter(TOKENIZER, 20).write(["red dog", "red " * 18, "cat", "red " * 2500])
    assert writing.unread == {1: "phrase_too_long", 3: "phrase_too_long"}
    assert [list(prompt.places) for prompt in writing.prompts] == [[0, 2]]


def test_the_longest_phrase_that_fits_fills_a_prompt_exactly() -> None:
    (prompt,) = PromptWriter(TOKENIZER, 20).write(["red " * 17]).prompts
    assert len(prompt.ids) == 20


@pytest.mark.parametrize("phrase", ["苹果 リンゴ", "яблоко", "🍎", "zebra", "...", "?", "", "   ", "[SEP] [PAD]"])
def test_a_phrase_without_a_known_word_is_told(phrase: str) -> None:
    writing = WRITER.write(["dog", phrase])
    assert writing.unread == {1: "unknown_words"}
    assert [list(prompt.places) for prompt in writing.prompts] == [[0]]


def test_unknown_words_beside_known_ones_are_asked_for_but_do_not_count() -> None:
    (prompt,) = WRITER.write(["zebra dog", "red яблоко 狗"]).prompts
    assert list(prompt.ids) == TOKENIZER("zebra dog . red яблоко 狗 .").input_ids
    assert {number: word(prompt.ids, places) for number, places in prompt.places.items()} == {0: "dog", 1: "red 狗"}


def test_what_the_model_takes_for_the_end_of_a_phrase_is_a_space_inside_one() -> None:
    (prompt,) = WRITER.write(["St. Bernard", "a cat? A dog."]).prompts
    assert {number: word(prompt.ids, places) for number, places in prompt.places.items()} == {
        0: "st bernard",
        1: "a cat a dog",
    }
    assert list(prompt.ids) == TOKENIZER("st bernard . a cat a dog .").input_ids


def test_words_in_capitals_and_word_pieces_keep_their_places() -> None:
    (prompt,) = WRITER.write(["Red DOGS", "hats"]).prompts
    assert word(prompt.ids, prompt.places[0]) == "red dog ##s"
    assert prompt.places == {0: (1, 2, 3), 1: (5, 6)}


def test_no_phrase_makes_no_prompt() -> None:
    writing = WRITER.write([])
    assert writing.prompts == () and writing.unread == {}


def test_a_tokenizer_numbered_otherwise_is_refused() -> None:
    vocabulary = {mark: number for number, mark in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", "?"])}
    with pytest.raises(ValueError, match="not as BERT does"):
        PromptWriter(type(TOKENIZER)(vocab=vocabulary), 256)
