"""The CLIP of the shapes world before it has learnt anything, with its tokenizer and preprocessing."""

import json
from typing import Any

from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from stages.models.torchvision_compat import ensure_torchvision
from stages.shapes.arranged import PLACES
from stages.shapes.words import COLOURS, PLAIN, SHAPES, TEXTURES

ensure_torchvision()

from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, CLIPTokenizer  # noqa: E402

SIDE = 64
"""Pixels of the square that it sees."""
WIDTH = 128
"""Of both halves and of the space that they share: λ-ECLIPSE lays vectors over states."""
LENGTH = 32
"""Most tokens of a text, begin and end among them."""

_BEGIN, _END = "<|startoftext|>", "<|endoftext|>"
_WORD_END = "</w>"


def make_tokenizer() -> CLIPTokenizer:
    """CLIP's own kind: every byte is known, and each word of the captions is a token."""
    words = ["a", "and", "two", "three", *" ".join(PLACES.values()).split(), *COLOURS, *TEXTURES]
    words += [*SHAPES, *(f"{noun}s" for noun in SHAPES)]
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=10_000, min_frequency=1, end_of_word_suffix=_WORD_END, initial_alphabet=letters, show_progress=False
    )
    trained = Tokenizer(models.BPE(end_of_word_suffix=_WORD_END))
    trained.train_from_iterator([[word] for word in dict.fromkeys(words) if word != PLAIN], trainer)
    merges: Any = [tuple(pair) for pair in json.loads(trained.to_str())["model"]["merges"]]  # pairs, not str as typed
    tokens = [*letters, *(letter + _WORD_END for letter in letters), *(a + b for a, b in merges), _BEGIN, _END]
    vocabulary = {token: number for number, token in enumerate(dict.fromkeys(tokens))}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=LENGTH)


def make_image_processor() -> CLIPImageProcessorPil:
    """CLIP's own, with another size."""
    return CLIPImageProcessorPil(size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE})


def make_model(tokenizer: CLIPTokenizer) -> CLIPModel:
    """The network, with random weights: 0.9 M parameters."""
    both = {
        "hidden_size": WIDTH,
        "intermediate_size": 2 * WIDTH,
        "num_attention_heads": 4,
        "projection_dim": WIDTH,
        "hidden_act": "gelu",
    }
    text = both | {
        "num_hidden_layers": 2,
        "vocab_size": len(tokenizer),
        "max_position_embeddings": LENGTH,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    vision = both | {"num_hidden_layers": 4, "image_size": SIDE, "patch_size": 8}
    return CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=WIDTH))
