"""DPT and Depth Anything with a few thousand random weights that answer with more than rounding."""

from pathlib import Path

import torch
from torch import nn

from stages.models.torchvision_compat import ensure_torchvision

ensure_torchvision()

from transformers import (  # noqa: E402
    DepthAnythingConfig,
    DepthAnythingForDepthEstimation,
    Dinov2Config,
    DPTConfig,
    DPTForDepthEstimation,
    DPTImageProcessorPil,
)

DPT_PROCESSOR = DPTImageProcessorPil(
    size={"height": 32, "width": 32}, image_mean=[0.5] * 3, image_std=[0.5] * 3, resample=2
)
ANYTHING_PROCESSOR = DPTImageProcessorPil(
    size={"height": 42, "width": 42}, keep_aspect_ratio=True, ensure_multiple_of=14, resample=3
)


def dpt() -> DPTForDepthEstimation:
    """Takes squares, as all without a backbone do."""
    torch.manual_seed(0)
    config = DPTConfig(
        hidden_size=16,
        num_hidden_layers=4,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=32,
        patch_size=8,
        backbone_out_indices=[0, 1, 2, 3],
        neck_hidden_sizes=[8, 8, 8, 8],
        fusion_hidden_size=8,
        is_hybrid=False,
    )
    return _lively(DPTForDepthEstimation(config).eval())


def depth_anything(kind: str = "relative") -> DepthAnythingForDepthEstimation:
    torch.manual_seed(0)
    config = DepthAnythingConfig(
        backbone_config=Dinov2Config(
            image_size=28,
            patch_size=14,
            hidden_size=16,
            num_hidden_layers=4,
            num_attention_heads=2,
            out_features=["stage1", "stage2", "stage3", "stage4"],
            reshape_hidden_states=False,
        ),
        patch_size=14,
        reassemble_hidden_size=16,
        neck_hidden_sizes=[8, 8, 8, 8],
        fusion_hidden_size=8,
        head_hidden_size=8,
        depth_estimation_type=kind,
        max_depth=10,
    )
    return _lively(DepthAnythingForDepthEstimation(config).eval())


def _lively(model: nn.Module):  # type: ignore[no-untyped-def]
    """Weights large enough that the last ReLU lets something through, and small enough that no sigmoid is full."""
    torch.manual_seed(1)
    for name, weight in model.named_parameters():
        if "head" in name or "neck" in name:
            nn.init.uniform_(weight, -0.03, 0.08)
    return model


def save(folder: Path, kind: str) -> Path:
    """A checkpoint on disk."""
    model, processor = (dpt(), DPT_PROCESSOR) if kind == "dpt" else (depth_anything(), ANYTHING_PROCESSOR)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder
