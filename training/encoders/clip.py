"""CLIP live, where no features are kept: states and vectors as the engine's ``embed`` makes them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor, nn

from training.modules.overwrite import TokenisedText
from training.torchvision_compat import ensure_torchvision
from training.weights import Weights, absence, load_weights


@dataclass(frozen=True, slots=True)
class TextFeatures:
    """What CLIP says of texts: states after the final norm, a text's each, and projected vectors."""

    states: Tensor | tuple[Float[Tensor, "token dim"], ...]
    pooled: Float[Tensor, "text dim"]


class Clip(nn.Module):
    """CLIP's two halves, frozen.

    Source: Radford et al. 2021, "Learning Transferable Visual Models From Natural Language Supervision".
    """

    def __init__(self, network: Any, processor: Any, pad: int) -> None:
        super().__init__()
        self.network = network.requires_grad_(False).eval()
        self.processor = processor
        self.pad = pad

    def train(self, mode: bool = True) -> "Clip":
        """It stays as it is: it is frozen."""
        return super().train(False)

    @property
    def length(self) -> int:
        """Tokens that the text half takes."""
        return int(self.network.config.text_config.max_position_embeddings)

    @torch.no_grad()
    def read(self, texts: Sequence[TokenisedText]) -> TextFeatures:
        """Features of texts; texts do not touch each other."""
        rows = [[*text.ids, *[self.pad] * (self.length - len(text.ids))] for text in texts]
        ids = torch.tensor(rows, device=self.network.device)
        found = self.network.text_model(input_ids=ids)
        return TextFeatures(found.last_hidden_state, self.network.text_projection(found.pooler_output))

    @torch.no_grad()
    def see(self, pictures: Sequence[UInt8[Tensor, "height width 3"]]) -> Float[Tensor, "picture dim"]:
        """Projected vectors of pictures, cut and resized as the checkpoint's own preprocessing says."""
        images = [Image.fromarray(picture.cpu().numpy()) for picture in pictures]
        return self._vectors(self.processor(images, return_tensors="pt")["pixel_values"])

    @torch.no_grad()
    def see_nothing(self) -> Float[Tensor, " dim"]:
        """The vector of pixels that are all 0 after normalisation: Kandinsky's and λ-ECLIPSE's absent picture."""
        side = self.network.config.vision_config.image_size
        return self._vectors(torch.zeros(1, 3, side, side))[0]

    def _vectors(self, values: Float[Tensor, "picture 3 side side"]) -> Float[Tensor, "picture dim"]:
        network = self.network
        found = network.vision_model(pixel_values=values.to(network.device, network.dtype))
        vectors: Tensor = network.visual_projection(found.pooler_output)
        return vectors


def load_clip(weights: Weights, device: torch.device | str = "cpu", load: bool = True) -> Clip:
    """CLIP from a folder or the hub, in float32; without ``load``, its network has fresh weights.

    Raises:
        OSError: If it is not there.
    """
    ensure_torchvision()
    from transformers import CLIPImageProcessorPil

    processor: Any = CLIPImageProcessorPil
    network = _loaded(weights, device) if load else _fresh(weights, device)
    return Clip(network, load_weights(processor, weights), load_clip_tokenizer(weights).pad_token_id)


def _loaded(weights: Weights, device: torch.device | str) -> Any:
    from transformers import CLIPModel

    model: Any = CLIPModel
    return load_weights(model, weights, dtype=torch.float32).to(device)


def _fresh(weights: Weights, device: torch.device | str) -> Any:
    from transformers import CLIPModel

    with torch.device(device):
        return CLIPModel(load_clip_config(weights))


def load_clip_config(weights: Weights) -> Any:
    """CLIP's sizes from a folder or the hub.

    Raises:
        OSError: If they are not there.
    """
    ensure_torchvision()
    from transformers import CLIPConfig

    config: Any = CLIPConfig
    return load_weights(config, weights)


def load_clip_tokenizer(weights: Weights) -> Any:
    """CLIP's tokenizer from a folder or the hub.

    Raises:
        OSError: If it is not there.
    """
    ensure_torchvision()
    from transformers import CLIPTokenizer

    loader: Any = CLIPTokenizer
    tokenizer = load_weights(loader, weights)
    if len(tokenizer) <= len(tokenizer.all_special_ids):  # what transformers makes of missing files
        raise absence(weights, "it has no tokenizer, which is tokenizer.json, or vocab.json and merges.txt")
    return tokenizer
