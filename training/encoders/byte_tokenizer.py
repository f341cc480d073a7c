"""A tokenizer that needs no file: UTF-8 bytes, and whole words where it is given some."""

from collections.abc import Sequence
from typing import Any

from training.torchvision_compat import ensure_torchvision


def byte_tokenizer(special: Sequence[str], words: Sequence[str] = (), start: str | None = None) -> Any:
    """A fast tokenizer of transformers.

    Args:
        special: Special tokens; the first pads.
        words: One token each where they stand alone, a space before them included.
        start: The special token that texts begin with.
    """
    ensure_torchvision()
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: number for number, letter in enumerate((*special, *letters))}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in special])
    tokenizer.add_tokens([AddedToken(word, single_word=True, lstrip=True, normalized=False) for word in words])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=special[0], bos_token=start)
