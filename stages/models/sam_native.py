"""SAM as its authors' package has it, from their checkpoint files (``sam_vit_b_01ec64.pth`` and the like)."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from stages.base import ModelRef
from stages.models.canvas import Canvas
from stages.models.checkpoint import load_checkpoint
from stages.models.segmenter import Embedding
from stages.models.torchvision_compat import ensure_torchvision

ensure_torchvision()

from segment_anything import sam_model_registry  # noqa: E402
from segment_anything.modeling import Sam  # noqa: E402


@dataclass(frozen=True, slots=True)
class NativeSam:
    """SAM. Source: Kirillov et al. 2023, "Segment Anything"; package ``segment-anything`` 1.0."""

    model: Sam

    @property
    def canvas(self) -> Canvas:
        """A padded square."""
        return Canvas(self.model.image_encoder.img_size, is_padded=True)

    def embed(self, pixels: Tensor) -> Embedding:
        """One map a picture."""
        return (self.model.image_encoder(pixels),)

    def decode(self, embedding: Embedding, pictures: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """Three masks a box; boxes of all pictures at once.

        The package's own decoder takes boxes of one picture only. This is its ``MaskDecoder.predict_masks`` with each
        box's own picture, by the same layers.
        """
        decoder, prompts = self.model.mask_decoder, self.model.prompt_encoder
        sparse, dense = prompts(points=None, boxes=boxes, masks=None)
        outputs = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])
        tokens = torch.cat([outputs.expand(len(boxes), -1, -1), sparse], dim=1)
        maps = embedding[0][pictures] + dense
        tokens, seen = decoder.transformer(maps, prompts.get_dense_pe().expand_as(maps), tokens)
        fine = decoder.output_upscaling(seen.transpose(1, 2).reshape(maps.shape))
        weights = torch.stack(
            [mlp(tokens[:, 1 + number]) for number, mlp in enumerate(decoder.output_hypernetworks_mlps)], dim=1
        )
        logits = (weights @ fine.flatten(2)).unflatten(2, fine.shape[2:])
        return logits[:, 1:], decoder.iou_prediction_head(tokens[:, 0])[:, 1:]


def load_native(model_type: Literal["vit_b", "vit_l", "vit_h"], ref: ModelRef, device: str) -> NativeSam:
    """A network from a native checkpoint, in evaluation mode. Code in the file is refused, not run.

    Args:
        model_type: The size it was trained at.
        ref: The ``.pth`` file.
        device: Where it goes.

    Raises:
        ValueError: If it is not there, damaged, of another size, or a pickle of more than tensors.
    """
    model: Sam = sam_model_registry[model_type]()
    load_checkpoint(model, ref)
    return NativeSam(model.eval().to(device))
