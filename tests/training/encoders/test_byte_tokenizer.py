from hypothesis import given, settings
from hypothesis import strategies as st

from training.encoders.byte_tokenizer import byte_tokenizer
from training.encoders.layout import text_ids

SPECIAL = ("<pad>", "<s>", "<image>")
PLAIN = byte_tokenizer(SPECIAL, start="<s>")
WORDS = byte_tokenizer(SPECIAL, ("red", "circle"))


@given(st.text(max_size=40))
@settings(max_examples=100, deadline=None)
def test_any_text_is_its_bytes_and_comes_back(text):
    ids = text_ids(PLAIN, text)
    assert len(ids) == len(text.encode())
    assert not set(ids) & set(PLAIN.all_special_ids)
    assert PLAIN.decode(ids) == text


def test_words_are_one_token_each_with_the_space_before_them():
    assert len(text_ids(WORDS, "red circle")) == 2
    assert text_ids(WORDS, " circle") == text_ids(WORDS, "circle")


def test_words_inside_of_words_are_bytes():
    assert len(text_ids(WORDS, "reddish")) == len("reddish")


def test_special_tokens_written_out_are_text():
    assert len(text_ids(WORDS, "<image>")) == len("<image>")


def test_the_start_is_the_tokenizers_own():
    assert PLAIN.bos_token_id == 1
    assert PLAIN.pad_token_id == 0
