"""Florence-2, which knows tasks and takes no instructions."""

from stages.models.architecture import Architecture
from stages.models.torchvision_compat import ensure_torchvision

ensure_torchvision()

from transformers import CLIPImageProcessorPil, Florence2ForConditionalGeneration, Florence2Processor  # noqa: E402

FLORENCE2 = Architecture(
    network=Florence2ForConditionalGeneration,
    processor=Florence2Processor,
    image_processor=CLIPImageProcessorPil,
    prompt="<CAPTION>",
    is_chat=False,
    only_prompts=("<CAPTION>", "<DETAILED_CAPTION>", "<MORE_DETAILED_CAPTION>"),
)
"""Source: Xiao et al. 2023, "Florence-2"; transformers' Florence2Processor for the tasks' names."""
