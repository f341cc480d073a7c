"""A reduced network of groundingdino-py with random weights, and the same network as transformers has it."""

import re
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from stages.models import grounding_dino_native as native
from tests.stages.models.tiny_grounding_dino import bert_config, perturb, tokenizer

from groundingdino.models.GroundingDINO.backbone import backbone  # isort: skip
from groundingdino.models.GroundingDINO.backbone.swin_transformer import SwinTransformer  # isort: skip
from transformers import BertModel, GroundingDinoConfig, GroundingDinoForObjectDetection, SwinConfig  # isort: skip

_LAYERS, _QUERIES, _WIDE = 2, 30, 64
_SWIN_T = {"embed_dim": 24, "depths": [1, 1, 2, 1], "num_heads": [1, 2, 2, 4], "window_size": 7}
_SWINS = {"swin_T_224_1k": _SWIN_T, "swin_B_384_22k": _SWIN_T | {"embed_dim": 32}}
_official_config = native.official_config


def reduce_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the adapter build networks with few layers, boxes and channels."""
    monkeypatch.setattr(native, "official_config", _reduced_config)
    monkeypatch.setattr(backbone, "build_swin_transformer", _reduced_swin)


def _reduced_config(model_type: native.ModelType) -> Namespace:
    config = _official_config(model_type)
    config.enc_layers = config.dec_layers = _LAYERS
    config.num_queries, config.dim_feedforward = _QUERIES, _WIDE
    return config


def _reduced_swin(name: str, **settings: Any) -> Any:
    return SwinTransformer(**_SWINS[name] | settings)


def native_grounding_dino(seed: int = 0) -> Any:
    torch.manual_seed(seed)
    with pytest.MonkeyPatch.context() as monkeypatch:
        reduce_sizes(monkeypatch)
        model = native.build(native.official_config("swin_t"), BertModel(bert_config()), tokenizer())
    return perturb(model, seed)


def save_text_encoder(folder: Path) -> None:
    bert_config().save_pretrained(folder)
    tokenizer().save_pretrained(folder)


_SWIN = "model.backbone.conv_encoder.model."
_ENCODER, _DECODER = r"^transformer\.encoder\.layers\.(\d+)\.", r"^transformer\.decoder\."
_TEXT, _FUSION = r"^transformer\.encoder\.text_layers\.(\d+)\.", r"^transformer\.encoder\.fusion_layers\.(\d+)\."
_RENAMED = (
    (r"^backbone\.0\.norm(\d)\.", lambda found: f"{_SWIN}hidden_states_norms.stage{int(found[1]) + 1}."),
    (r"^backbone\.0\.patch_embed\.proj", f"{_SWIN}swin.embeddings.patch_embeddings.projection"),
    (r"^backbone\.0\.patch_embed\.norm", f"{_SWIN}swin.embeddings.norm"),
    (r"^backbone\.0\.layers", f"{_SWIN}swin.encoder.layers"),
    (r"(blocks\.\d+\.)norm1", r"\1layernorm_before"),
    (r"(blocks\.\d+\.)norm2", r"\1layernorm_after"),
    (r"attn\.relative_position_bias_table", "attention.relative_position_bias.relative_position_bias_table"),
    (r"(blocks\.\d+\.)attn\.proj", r"\1attention.o_proj"),
    (r"^bert\.", "model.text_backbone."),
    (r"^feat_map", "model.text_projection"),
    (r"^input_proj", "model.input_proj_vision"),
    (r"^transformer\.level_embed", "model.level_embed"),
    (r"^transformer\.tgt_embed", "model.query_position_embeddings"),
    (r"^transformer\.enc_output", "model.enc_output"),
    (r"^transformer\.enc_out_bbox_embed", "model.encoder_output_bbox_embed"),
    (_ENCODER + "self_attn", r"model.encoder.layers.\1.deformable_layer.self_attn"),
    (_ENCODER + "norm1", r"model.encoder.layers.\1.deformable_layer.self_attn_layer_norm"),
    (_ENCODER + "norm2", r"model.encoder.layers.\1.deformable_layer.final_layer_norm"),
    (_ENCODER + "linear", r"model.encoder.layers.\1.deformable_layer.fc"),
    (_TEXT + "linear", r"model.encoder.layers.\1.text_enhancer_layer.fc"),
    (_TEXT + "norm1", r"model.encoder.layers.\1.text_enhancer_layer.layer_norm_before"),
    (_TEXT + "norm2", r"model.encoder.layers.\1.text_enhancer_layer.layer_norm_after"),
    (_TEXT + "self_attn", r"model.encoder.layers.\1.text_enhancer_layer.self_attn"),
    (_FUSION, r"model.encoder.layers.\1.fusion_layer."),
    ("gamma_v", "vision_param"),
    ("gamma_l", "text_param"),
    (r"layer_norm_v\.", "layer_norm_vision."),
    (r"layer_norm_l\.", "layer_norm_text."),
    (r"fusion_layer\.attn\.v_proj", "fusion_layer.attn.vision_proj"),
    (r"fusion_layer\.attn\.l_proj", "fusion_layer.attn.text_proj"),
    (r"(values|out)_v_proj", r"\1_vision_proj"),
    (r"(values|out)_l_proj", r"\1_text_proj"),
    (_DECODER + "norm", "model.decoder.layer_norm"),
    (_DECODER + "ref_point_head", "model.decoder.reference_points_head"),
    (_DECODER + "bbox_embed", "model.decoder.bbox_embed"),
    (_DECODER + "layers", "model.decoder.layers"),
    (r"(decoder\.layers\.\d+\.)cross_attn", r"\1encoder_attn"),
    (r"(decoder\.layers\.\d+\.)norm1", r"\1encoder_attn_layer_norm"),
    (r"(decoder\.layers\.\d+\.)norm2", r"\1self_attn_layer_norm"),
    (r"(decoder\.layers\.\d+\.)norm3", r"\1final_layer_norm"),
    (r"(decoder\.layers\.\d+\.)linear", r"\1fc"),
    ("ca_text", "encoder_attn_text"),
    ("catext_norm", "encoder_attn_text_layer_norm"),
)


def as_transformers(model: Any) -> GroundingDinoForObjectDetection:
    """The same network as transformers has it."""
    config = GroundingDinoConfig(
        backbone_config=SwinConfig(**_SWIN_T, out_features=["stage2", "stage3", "stage4"]),
        text_config=bert_config(),
        encoder_layers=_LAYERS,
        decoder_layers=_LAYERS,
        encoder_ffn_dim=_WIDE,
        decoder_ffn_dim=_WIDE,
        num_queries=_QUERIES,
    )
    other = GroundingDinoForObjectDetection(config)
    report = other.load_state_dict(_renamed(model.state_dict()), strict=False)
    assert all("swin.layernorm." in name for name in report.missing_keys), report.missing_keys
    assert all("pooler" in name for name in report.unexpected_keys), report.unexpected_keys
    other.tie_weights()
    return other.eval().requires_grad_(False)


def _renamed(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    renamed: dict[str, Tensor] = {}
    for name, weight in weights.items():
        if "relative_position_index" in name or "position_ids" in name:
            continue
        for old, new in _RENAMED:
            name = re.sub(old, new, name)
        renamed |= _split(name, weight)
    return renamed


def _split(name: str, weight: Tensor) -> dict[str, Tensor]:
    """Queries, keys and values apart, where the package has them in one matrix."""
    for whole, parts in (
        (".attn.qkv.", [f".attention.{part}_proj." for part in "qkv"]),
        (".in_proj_", [".query.", ".key.", ".value."]),
    ):
        if whole in name:
            return {name.replace(whole, part): rows for part, rows in zip(parts, weight.chunk(3), strict=True)}
    return {name: weight}
