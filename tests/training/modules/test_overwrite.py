"""Which text states a subject's picture overwrites."""

import itertools
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from manifests.record import Span
from training.encoders.clip import load_clip_tokenizer
from training.modules.overwrite import overwrite, padded, places, tokenise
from training.weights import Weights

LIMIT = 32


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return load_clip_tokenizer(Weights(name="stages/data/shapes_clip"))


def span(text: str, words: str, after: int = 0) -> Span:
    start = text.index(words, after)
    return Span(start=start, end=start + len(words))


def words_at(text: str, tokenizer: Any, found: tuple[int, ...]) -> str:
    offsets = tokenise(tokenizer, [text], LIMIT)[0].offsets
    return "".join(text[slice(*offsets[place])] for place in found)


@given(data=st.data())
def test_a_span_finds_the_tokens_of_its_words_and_no_other(tokenizer: Any, data: st.DataObject) -> None:
    words = data.draw(st.lists(st.sampled_from(["circle", "star", "zebra", "a", "on", "Tree"]), min_size=1, max_size=6))
    chosen = data.draw(st.integers(0, len(words) - 1))
    text = " ".join(words)
    start = len(" ".join(words[:chosen])) + bool(chosen)
    where = Span(start=start, end=start + len(words[chosen]))
    found = places(tokenise(tokenizer, [text], LIMIT)[0], where, "span", tokenizer)
    assert words_at(text, tokenizer, found) == words[chosen]


def test_two_subjects_of_one_noun_are_told_apart_by_spans_alone(tokenizer: Any) -> None:
    text = "a circle and a circle"
    (tokens,) = tokenise(tokenizer, [text], LIMIT)
    first, second = span(text, "circle"), span(text, "circle", 5)
    assert not set(places(tokens, first, "span", tokenizer)) & set(places(tokens, second, "span", tokenizer))
    both = places(tokens, first, "token_ids", tokenizer)
    assert both == places(tokens, second, "token_ids", tokenizer)
    assert words_at(text, tokenizer, both) == "circlecircle"


def test_a_noun_beyond_the_limit_has_no_place(tokenizer: Any) -> None:
    text = "star " * 40 + "circle"
    (tokens,) = tokenise(tokenizer, [text], LIMIT)
    assert tokens.is_cut and len(tokens.ids) == LIMIT and tokens.ids[-1] == tokenizer.eos_token_id
    assert places(tokens, span(text, "circle"), "span", tokenizer) == ()


def test_vectors_stand_at_their_places_and_nothing_else_changes() -> None:
    states, vectors = torch.randn(2, 5, 3), torch.randn(3, 3)
    found = {(0, 1): 2, (0, 2): 2, (1, 4): 0}
    changed = overwrite(states, found, vectors)
    for sample, token in itertools.product(range(2), range(5)):
        number = found.get((sample, token))
        assert torch.equal(changed[sample, token], states[sample, token] if number is None else vectors[number])


def test_with_nothing_to_overwrite_states_stay() -> None:
    states = torch.randn(2, 5, 3)
    assert torch.equal(overwrite(states, {}, torch.zeros(0, 3)), states)


def test_states_kept_with_and_without_what_fills_up_are_one(tokenizer: Any) -> None:
    texts = tokenise(tokenizer, ["a star", "a circle and a star"], LIMIT)
    whole = [torch.randn(LIMIT, 4) for _ in texts]
    short = [states[: len(text.ids)] for states, text in zip(whole, texts, strict=True)]
    one = padded(torch.stack(whole), texts, LIMIT)
    for other in (padded(whole, texts, LIMIT), padded(short, texts, LIMIT)):
        assert torch.equal(one.states, other.states) and torch.equal(one.mask, other.mask)
    assert not one.states[~one.mask].any()
    assert one.mask.sum(1).tolist() == [len(text.ids) for text in texts]


def test_states_of_another_text_are_refused(tokenizer: Any) -> None:
    with pytest.raises(ValueError, match="they aren't of this text"):
        padded([torch.zeros(2, 4)], tokenise(tokenizer, ["a circle and a star"], LIMIT), LIMIT)
