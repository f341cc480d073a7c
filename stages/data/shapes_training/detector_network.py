"""The bundled detector's network: what it is made of, how it starts, and how it is written down."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from stages.data.shapes_training.detector_prompts import vocabulary
from stages.data.shapes_training.detector_scenes import LONG_SIDE, SHORT_SIDE
from stages.models.torchvision_compat import ensure_torchvision

ensure_torchvision()

from transformers import (  # noqa: E402
    BertConfig,
    BertTokenizerFast,
    GroundingDinoConfig,
    GroundingDinoForObjectDetection,
    GroundingDinoImageProcessorPil,
    ResNetConfig,
)
from transformers.models.grounding_dino.modeling_grounding_dino import (  # noqa: E402
    GroundingDinoFrozenBatchNorm2d as FrozenBatchNorm,
)

WIDTH = 64
MAX_TOKENS = 64
_PRIOR = 3.0
"""Minus the logit that every pair of a query and a token starts from, as most are not of each other."""


def config() -> GroundingDinoConfig:
    """A Grounding DINO of about a million parameters, on a residual network, as scenes are small and time is short."""
    backbone = ResNetConfig(
        embedding_size=32,
        hidden_sizes=[32, 64, 128],
        depths=[2, 2, 2],
        layer_type="basic",
        out_features=["stage2", "stage3"],
    )
    text = BertConfig(
        vocab_size=len(vocabulary()),
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=128,
        max_position_embeddings=MAX_TOKENS,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    return GroundingDinoConfig(
        backbone_config=backbone,
        text_config=text,
        d_model=WIDTH,
        encoder_layers=1,
        decoder_layers=2,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=128,
        decoder_ffn_dim=128,
        encoder_n_points=2,
        decoder_n_points=4,
        num_feature_levels=2,
        num_queries=16,
        max_text_len=MAX_TOKENS,
        dropout=0.0,
        fusion_droppath=0.0,
        auxiliary_loss=True,
    )


def build() -> GroundingDinoForObjectDetection:
    """A network to train: random weights, batch normalisation that learns, and logits that start low."""
    model = GroundingDinoForObjectDetection(config()).requires_grad_(True).train()
    _thaw(model.model.backbone)
    _start_low(model)
    return model


def _thaw(module: nn.Module) -> None:
    """Let batch normalisation follow its batches, which the published network never does."""
    for name, child in module.named_children():
        if isinstance(child, FrozenBatchNorm):
            setattr(module, name, nn.BatchNorm2d(len(child.weight)))
        else:
            _thaw(child)


@torch.no_grad()
def _start_low(model: GroundingDinoForObjectDetection) -> None:
    """Make logits, products of a text's and a query's normalised features, start at about -3 instead of +-8."""
    parts = model.model
    text = parts.encoder.layers[-1].text_enhancer_layer.layer_norm_after
    text.weight[0], text.bias[0] = 0.0, 1.0
    for query in (parts.enc_output_norm, parts.decoder.layer_norm):
        query.weight.fill_(0.25)
        query.weight[0], query.bias[0] = 0.0, -_PRIOR


def export(state: Mapping[str, Tensor], folder: Path) -> None:
    """Write a network as transformers loads it: half precision, batch normalisation frozen."""
    folder.mkdir(parents=True, exist_ok=True)
    model = GroundingDinoForObjectDetection(config())
    model.load_state_dict(dict(_frozen(state)))
    model.half().save_pretrained(folder)
    tokenizer = BertTokenizerFast(vocab=vocabulary(), model_max_length=MAX_TOKENS)
    tokenizer.save_pretrained(folder)
    size = {"shortest_edge": SHORT_SIDE, "longest_edge": LONG_SIDE}
    GroundingDinoImageProcessorPil(size=size).save_pretrained(folder)


def _frozen(state: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    return ((name, value) for name, value in state.items() if not name.endswith("num_batches_tracked"))
