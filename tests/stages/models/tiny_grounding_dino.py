"""Tiny Grounding DINO networks with random weights, of the classes that the large ones have."""

from typing import Any

import torch

from stages.models.detector import BatchDetector, Network
from stages.models.frame import Frame
from stages.models.grounding_dino import GroundingDino
from stages.models.memory import CallSize
from stages.models.prompts import PromptWriter

from transformers import (  # isort: skip
    BertConfig,
    BertTokenizerFast,
    GroundingDinoConfig,
    GroundingDinoForObjectDetection,
    GroundingDinoImageProcessorPil,
    SwinConfig,
)

WORDS = (
    *("a", "red", "blue", "green", "dog", "cat", "hat", "with", "ball", "star", "the", "striped", "in", "man", "shirt"),
    *("st", "bernard", "狗", "##s", "##ed"),
)
MARKS = {0: "[PAD]", 100: "[UNK]", 101: "[CLS]", 102: "[SEP]", 103: "[MASK]", 1012: ".", 1029: "?"}


def tokenizer() -> BertTokenizerFast:
    """A small vocabulary, its marks numbered as BERT's."""
    words = [MARKS.get(number, f"[unused{number}]") for number in range(1030)] + [*WORDS]
    return BertTokenizerFast(vocab={word: number for number, word in enumerate(words)})


def bert_config(layers: int = 1) -> BertConfig:
    return BertConfig(
        vocab_size=1030 + len(WORDS),
        hidden_size=32,
        num_hidden_layers=layers,
        num_attention_heads=2,
        intermediate_size=64,
    )


def perturb(model: Any, seed: int = 0) -> Any:
    """Weights far from their start, so that no part is idle: biases start at 0, norms at 1, offsets on a grid."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.05)
    return model.eval().requires_grad_(False)


def grounding_dino(seed: int = 0) -> GroundingDinoForObjectDetection:
    torch.manual_seed(seed)
    backbone = SwinConfig(
        embed_dim=16,
        depths=[1, 1, 1, 1],
        num_heads=[1, 1, 2, 2],
        window_size=4,
        out_features=["stage2", "stage3", "stage4"],
    )
    config = GroundingDinoConfig(
        backbone_config=backbone,
        text_config=bert_config(),
        d_model=64,
        encoder_layers=1,
        decoder_layers=2,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=64,
        decoder_ffn_dim=64,
        num_queries=12,
    )
    return perturb(GroundingDinoForObjectDetection(config), seed)


def save(folder: Any, seed: int = 0) -> None:
    """A whole model as the hub has them: network, tokenizer, image processor."""
    grounding_dino(seed).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    GroundingDinoImageProcessorPil(size={"shortest_edge": 64, "longest_edge": 107}).save_pretrained(folder)


def batched(network: Network | None = None, images: int = 3, **fields: Any) -> BatchDetector:
    settings: dict[str, Any] = dict(
        network=network or GroundingDino(grounding_dino()),
        frame=Frame(short_side=64, long_side=107),
        writer=PromptWriter(tokenizer(), 256),
        device="cpu",
        precision=torch.float32,
        calls=CallSize(images, "images_per_call"),
    )
    return BatchDetector(**settings | fields)
