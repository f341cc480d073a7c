"""LLaVA-NeXT, also called LLaVA-1.6: a picture whole, and its tiles."""

from typing import Any

from stages.models.architecture import Architecture
from stages.models.torchvision_compat import ensure_torchvision

ensure_torchvision()

from transformers import (  # noqa: E402
    LlavaNextForConditionalGeneration,
    LlavaNextImageProcessorPil,
    LlavaNextProcessor,
)


def _settings(config: Any) -> dict[str, Any]:
    return {
        "patch_size": config.vision_config.patch_size,
        "vision_feature_select_strategy": config.vision_feature_select_strategy,
        "num_additional_image_tokens": 1,  # CLIP's class token, which the strategy "default" takes off again
    }


LLAVA_NEXT = Architecture(
    network=LlavaNextForConditionalGeneration,
    processor=LlavaNextProcessor,
    image_processor=LlavaNextImageProcessorPil,
    prompt="Describe the image concisely.",
    is_chat=True,
    settings=_settings,
)
"""Source: Liu et al. 2024, "LLaVA-NeXT"; the prompt is one of those in "Visual Instruction Tuning", table 11."""
