"""The captioner of the shapes world before it has learnt anything: Florence-2, tiny, and its tokenizer."""

import math
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from torch import Tensor

from stages.models.torchvision_compat import ensure_torchvision
from stages.shapes.words import COLOURS, GROUNDS, OBJECTS, PLAIN, SHAPES, TEXTURES

ensure_torchvision()

from transformers import (  # noqa: E402
    BartConfig,
    CLIPImageProcessorPil,
    Florence2Config,
    Florence2ForConditionalGeneration,
    GenerationConfig,
    PreTrainedTokenizerFast,
)

SIDE = 160
"""Pixels; pictures are stretched to a square of them."""
CELL = 16
"""Pixels of a side of what one token of the picture stands for."""
CELLS = SIDE // CELL
WIDTH = 128
QUESTION = "What does the image describe?"
"""What transformers' Florence2Processor puts for the task <CAPTION>."""

_SPECIAL = ("<s>", "<pad>", "</s>", "<unk>", "<image>")
_WORDS = ("a", "and", "on", "background", *COLOURS, *TEXTURES, *SHAPES, *OBJECTS, *GROUNDS)
_SPACE = "▁"


def make_tokenizer() -> PreTrainedTokenizerFast:
    """Words of the captions and of the question, each with the space before it, so that decoding spaces as written."""
    asked = QUESTION.lower().rstrip("?").split()
    words = dict.fromkeys(word for word in (*_WORDS, *asked) if word != PLAIN)
    vocabulary = [*_SPECIAL, ",", "?", *(_SPACE + word for word in words)]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(vocabulary)}, unk_token="<unk>"))  # noqa: S106
    tokenizer.normalizer = normalizers.Lowercase()
    spaces = pre_tokenizers.Metaspace(replacement=_SPACE, prepend_scheme="always")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([spaces, pre_tokenizers.Punctuation()])
    tokenizer.decoder = decoders.Metaspace(replacement=_SPACE, prepend_scheme="always")
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        **dict(zip(("bos_token", "pad_token", "eos_token", "unk_token"), _SPECIAL, strict=False)),
        extra_special_tokens={"image_token": "<image>"},
        model_max_length=256,
        clean_up_tokenization_spaces=False,
    )


def make_image_processor() -> CLIPImageProcessorPil:
    """As Florence-2's own, with another size."""
    return CLIPImageProcessorPil(
        size={"height": SIDE, "width": SIDE},
        resample=2,
        do_center_crop=False,
        image_mean=[0.485, 0.456, 0.406],
        image_std=[0.229, 0.224, 0.225],
        image_seq_length=CELLS**2 + 1,
    )


def make_model(tokenizer: PreTrainedTokenizerFast) -> Florence2ForConditionalGeneration:
    """The network, with random weights: 1.5 M parameters."""
    tokens = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "pad", "eos")}
    start = tokenizer.eos_token_id
    vision = {
        "depths": [1, 2],
        "patch_size": [11, 3],
        "patch_stride": [8, 2],
        "patch_padding": [5, 1],
        "patch_prenorm": [False, True],
        "embed_dim": [80, WIDTH],
        "num_heads": [2, 4],
        "num_groups": [2, 4],
        "window_size": CELLS,
        "drop_path_rate": 0.0,
        "mlp_ratio": 2.0,
        "projection_dim": WIDTH,
        "max_position_embeddings": CELLS,
        "initializer_range": 0.05,
    }
    text = BartConfig(
        vocab_size=len(tokenizer),
        d_model=WIDTH,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=2 * WIDTH,
        decoder_ffn_dim=2 * WIDTH,
        max_position_embeddings=256,
        dropout=0.0,
        init_std=0.05,
        decoder_start_token_id=start,
        forced_eos_token_id=None,
        **tokens,
    )
    config = Florence2Config(vision_config=vision, text_config=text.to_dict(), **tokens)
    config.image_token_id = tokenizer.get_vocab()["<image>"]
    model = Florence2ForConditionalGeneration(config)
    generation = GenerationConfig(decoder_start_token_id=start, max_new_tokens=48, **tokens)
    model.generation_config = generation
    _mark_places(model)
    return model


@torch.no_grad()
def _mark_places(model: Florence2ForConditionalGeneration) -> None:
    """Start the places of cells at waves, by which near cells are alike and left and right differ."""
    embed = model.model.multi_modal_projector.image_position_embed
    for table in (embed.row_embeddings, embed.column_embeddings):
        table.weight.copy_(_waves(*table.weight.shape))


def adopt(model: Florence2ForConditionalGeneration, folder: Path) -> None:
    """Give a network the weights of a published one, which may have seen smaller or larger pictures.

    What reads pixels slides over them and fits any size; the tables of places are stretched to the network's cells.

    Args:
        model: From :func:`make_model`.
        folder: What :func:`~stages.data.shapes_training.captioner.publish` wrote.

    Raises:
        RuntimeError: If anything but the pictures' size is another.
    """
    published = Florence2ForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
    weights, own = published.state_dict(), model.state_dict()
    places = {name: stretch(weights[name], len(own[name])) for name in own if "image_position_embed" in name}
    model.load_state_dict(weights | places)


def stretch(table: Tensor, places: int) -> Tensor:
    """Vectors of the cells along a side, for another number of cells along the same side.

    Args:
        table: (place, width).
        places: How many there will be.
    """
    return F.interpolate(table.T[None], places, mode="linear", align_corners=False)[0].T


def _waves(places: int, width: int) -> Tensor:
    periods = torch.exp(torch.linspace(math.log(3), math.log(4 * places), width // 2))
    phase = torch.arange(places)[:, None] * 2 * math.pi / periods
    return torch.cat([phase.sin(), phase.cos()], dim=1)
