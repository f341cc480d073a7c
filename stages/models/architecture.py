"""What tells one architecture of captioners from another: its classes, how it is asked, and what for."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from PIL import Image
from torch import Tensor

Inputs = Mapping[str, Tensor]
"""What a network takes for one question; along their first axis, those of several questions are joined."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """A class of transformers that writes text about a picture.

    Attributes:
        network: The model's class.
        processor: Makes inputs of a picture and a prompt.
        image_processor: The processor's part for pictures: Pillow's kind, which gives the same pixels on all machines.
        video_processor: Its part for videos, where it insists on one.
        prompt: What to ask for a caption.
        is_chat: It is asked in turns, by the checkpoint's own chat template.
        only_prompts: The prompts it was trained on, if it answers no others.
        settings: Arguments of the processor that follow from a config; checkpoints may leave them out.
    """

    network: Any
    processor: Any
    image_processor: Any
    video_processor: Any = None
    prompt: str
    is_chat: bool
    only_prompts: tuple[str, ...] = ()
    settings: Callable[[Any], Mapping[str, Any]] = lambda config: {}

    def encode(self, processor: Any, image: Image.Image, prompt: str) -> Inputs:
        """One question as the network takes it, by a processor of this architecture."""
        if not self.is_chat:
            return dict(processor(images=[image], text=[prompt], return_tensors="pt"))
        turn = {"role": "user", "content": [{"type": "image", "image": image}, {"type": "text", "text": prompt}]}
        asked = processor.apply_chat_template(
            [turn], add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
        )
        return dict(asked)
