"""Qwen2.5-VL and Qwen3-VL: pictures at their own size and shape, in as many tokens as that needs."""

from stages.models.architecture import Architecture
from stages.models.torchvision_compat import ensure_torchvision

ensure_torchvision()

from transformers import (  # noqa: E402
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2VLImageProcessorPil,
    Qwen2VLVideoProcessor,
    Qwen3VLForConditionalGeneration,
    Qwen3VLProcessor,
    Qwen3VLVideoProcessor,
)

_PROMPT = "Describe this image in one sentence."

QWEN2_5_VL = Architecture(
    network=Qwen2_5_VLForConditionalGeneration,
    processor=Qwen2_5_VLProcessor,
    image_processor=Qwen2VLImageProcessorPil,
    video_processor=Qwen2VLVideoProcessor,
    prompt=_PROMPT,
    is_chat=True,
)
"""Source: Bai et al. 2025, "Qwen2.5-VL Technical Report"; the prompt is our choice."""

QWEN3_VL = Architecture(
    network=Qwen3VLForConditionalGeneration,
    processor=Qwen3VLProcessor,
    image_processor=Qwen2VLImageProcessorPil,
    video_processor=Qwen3VLVideoProcessor,
    prompt=_PROMPT,
    is_chat=True,
)
"""Source: Bai et al. 2025, "Qwen3-VL Technical Report"; the prompt is our choice."""
