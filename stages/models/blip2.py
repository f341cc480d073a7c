"""BLIP-2 with either of its language models: OPT continues the prompt, Flan-T5 answers it."""

from typing import Any

from stages.models.architecture import Architecture
from stages.models.torchvision_compat import ensure_torchvision

ensure_torchvision()

from transformers import Blip2ForConditionalGeneration, Blip2Processor, BlipImageProcessorPil  # noqa: E402


def _settings(config: Any) -> dict[str, Any]:
    return {"num_query_tokens": config.num_query_tokens}


BLIP2 = Architecture(
    network=Blip2ForConditionalGeneration,
    processor=Blip2Processor,
    image_processor=BlipImageProcessorPil,
    prompt="a photo of",
    is_chat=False,
    settings=_settings,
)
"""Source: Li et al. 2023, "BLIP-2", section 4.2, for the prompt too."""
