"""Grounding DINO and SAM with random weights, on disk as trained ones are: at real sizes, or reduced for a CPU."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from stages.models.torchvision_compat import ensure_torchvision

ensure_torchvision()

from transformers import (  # noqa: E402
    BertConfig,
    BertTokenizerFast,
    GroundingDinoConfig,
    GroundingDinoForObjectDetection,
    GroundingDinoImageProcessorPil,
    SamConfig,
    SamModel,
    SwinConfig,
)
from transformers.models.sam.image_processing_pil_sam import SamImageProcessorPil  # noqa: E402

WORDS = ("dog", "cat", "red", "car", "man", "woman", "with", "a", "hat", "tree", "old", "bench", "on", "green", "field")
_MARKS = {0: "[PAD]", 100: "[UNK]", 101: "[CLS]", 102: "[SEP]", 103: "[MASK]", 1012: ".", 1029: "?"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """Sizes of a pair of networks, as their configurations name them."""

    name: str
    short_side: int
    long_side: int
    swin: Mapping[str, Any]
    text: Mapping[str, Any]
    detector: Mapping[str, Any]
    sam: Mapping[str, Any]


REAL = Size(
    name="Grounding DINO Swin-B, SAM ViT-H",
    short_side=800,
    long_side=1333,
    swin={"embed_dim": 128, "depths": [2, 2, 18, 2], "num_heads": [4, 8, 16, 32], "window_size": 12, "image_size": 384},
    text={},
    detector={"num_queries": 900},
    sam={
        "hidden_size": 1280,
        "num_hidden_layers": 32,
        "num_attention_heads": 16,
        "mlp_dim": 5120,
        "global_attn_indexes": [7, 15, 23, 31],
    },
)
"""Sources: groundingdino/config/GroundingDINO_SwinB_cfg.py; segment_anything/build_sam.py, ``build_sam_vit_h``."""

REDUCED = Size(
    name="reduced Grounding DINO and SAM",
    short_side=256,
    long_side=427,
    swin={"embed_dim": 32, "depths": [1, 1, 2, 1], "num_heads": [1, 2, 4, 8], "window_size": 7},
    text={"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128},
    detector={
        "d_model": 64,
        "encoder_layers": 2,
        "decoder_layers": 2,
        "encoder_ffn_dim": 128,
        "decoder_ffn_dim": 128,
        "num_queries": 100,
    },
    sam={
        "hidden_size": 64,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "mlp_dim": 128,
        "global_attn_indexes": [3],
        "image_size": 256,
    },
)

SIZES: Mapping[str, Size] = {"real": REAL, "reduced": REDUCED}


def save_networks(size: Size, folder: Path) -> tuple[Path, Path]:
    """Write a detector and a segmenter with fixed random weights, with all that loads them; their folders."""
    torch.manual_seed(0)
    detector, segmenter = folder / "detector", folder / "segmenter"
    GroundingDinoForObjectDetection(_detector_config(size)).save_pretrained(detector)
    words = [_MARKS.get(number, f"[unused{number}]") for number in range(1030)] + [*WORDS]
    BertTokenizerFast(vocab={word: number for number, word in enumerate(words)}).save_pretrained(detector)
    sides = {"shortest_edge": size.short_side, "longest_edge": size.long_side}
    GroundingDinoImageProcessorPil(size=sides).save_pretrained(detector)
    side = size.sam.get("image_size", 1024)
    SamModel(SamConfig(vision_config=dict(size.sam), prompt_encoder_config={"image_size": side})).save_pretrained(
        segmenter
    )
    SamImageProcessorPil(
        size={"longest_edge": side},
        pad_size={"height": side, "width": side},
        mask_size={"longest_edge": side // 4},
        mask_pad_size={"height": side // 4, "width": side // 4},
    ).save_pretrained(segmenter)
    return detector, segmenter


def _detector_config(size: Size) -> GroundingDinoConfig:
    return GroundingDinoConfig(
        backbone_config=SwinConfig(**size.swin, out_features=["stage2", "stage3", "stage4"]),
        text_config=BertConfig(**size.text),
        **size.detector,
    )
