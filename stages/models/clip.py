"""Pictures and texts as unit vectors in one space: what CLIP-like networks are asked for, in batches."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from stages.models.clip_pixels import ClipPixels
from stages.models.memory import CallSize
from stages.pixels import Pixels

Vectors: TypeAlias = npt.NDArray[np.float32]
"""One a row, of length 1; NaN where the network gives no number."""

_LONGEST = 1000
"""Characters beyond which a text is split unseen: 77 tokens rarely hold more, and BPE in Python takes their square."""


class ImageTextModel(Protocol):
    """Tells how near pictures and texts are: by the cosine of their vectors, their dot product."""

    @property
    def logit_scale(self) -> float:
        """What the network multiplies cosines by."""
        ...

    def embed_images(self, images: Sequence[Pixels]) -> Vectors:
        """A vector for each picture. Pictures do not influence each other."""
        ...

    def embed_texts(self, texts: Sequence[str]) -> Vectors:
        """A vector for each text, however long it is. Texts do not influence each other."""
        ...


class Network(Protocol):
    """A CLIP-like network as one library has it."""

    @property
    def canvas(self) -> ClipPixels:
        """What its image encoder sees."""
        ...

    @property
    def logit_scale(self) -> float:
        """What it multiplies cosines by."""
        ...

    def fits(self, text: str) -> bool:
        """Whether the text encoder takes the whole text at once."""
        ...

    def tokenize(self, texts: Sequence[str]) -> Tensor:
        """Token ids of texts that fit, (text, token), always of the text encoder's full length."""
        ...

    def encode_image(self, pixels: Tensor) -> Tensor:
        """Projected vectors, not yet of length 1, of normalised squares (picture, channel, side, side)."""
        ...

    def encode_text(self, tokens: Tensor) -> Tensor:
        """Projected vectors, not yet of length 1, of token ids."""
        ...


@dataclass(slots=True, kw_only=True)
class BatchClip:
    """An :class:`ImageTextModel` around a network.

    Every call has its full size, filled up with what is thrown away, so that a vector does not hang on what else is
    asked. What remains is the last bits of a sum that hang on the place in the call (about 1e-7).

    A text that is too long is not cut off but split (:func:`windows`); its vector has the direction of the mean of
    its parts' vectors.

    Attributes:
        network: On ``device``, in evaluation mode.
        device: Where it is.
        precision: Type that it calculates in.
        images_per_call: Pictures encoded at once; halved once if memory is short.
        texts_per_call: Texts, or parts of texts, encoded at once; likewise.
    """

    network: Network
    device: str
    precision: torch.dtype = torch.float32
    images_per_call: int = 16
    texts_per_call: int = 16
    _images: CallSize = field(init=False)
    _texts: CallSize = field(init=False)

    def __post_init__(self) -> None:
        self._images = CallSize(self.images_per_call, "images_per_call")
        self._texts = CallSize(self.texts_per_call, "texts_per_call")

    @property
    def logit_scale(self) -> float:
        """What the network multiplies cosines by."""
        return self.network.logit_scale

    @torch.inference_mode()
    def embed_images(self, images: Sequence[Pixels]) -> Vectors:
        """A vector for each picture."""
        return _stacked(self._images.run(images, self._encode_images))

    @torch.inference_mode()
    def embed_texts(self, texts: Sequence[str]) -> Vectors:
        """A vector for each text."""
        split = [windows(text, self.network.fits) for text in texts]
        rows = iter(self._texts.run([part for mine in split for part in mine], self._encode_texts))
        return _stacked([unit(torch.stack(list(islice(rows, len(mine)))).mean(0)) for mine in split])

    def _encode_images(self, images: Sequence[Pixels], size: int) -> list[Tensor]:
        pixels = self.network.canvas.normalise(self.network.canvas.draw(images).to(self.device))
        return self._call(self.network.encode_image, pixels, size)

    def _encode_texts(self, texts: Sequence[str], size: int) -> list[Tensor]:
        return self._call(self.network.encode_text, self.network.tokenize(texts).to(self.device), size)

    def _call(self, encode: Callable[[Tensor], Tensor], rows: Tensor, size: int) -> list[Tensor]:
        full = torch.cat([rows, rows[-1:].expand(size - len(rows), *rows.shape[1:])])
        with torch.autocast(self.device, self.precision, enabled=self.precision != torch.float32):
            vectors = encode(full)
        return list(unit(vectors[: len(rows)].float()))


def _stacked(vectors: Sequence[Tensor]) -> Vectors:
    return torch.stack(list(vectors)).cpu().numpy() if vectors else np.zeros((0, 0), np.float32)


def unit(vectors: Tensor) -> Tensor:
    """The vectors at length 1; NaN where a vector has no direction."""
    lengths: Tensor = vectors.norm(dim=-1, keepdim=True)
    return vectors / lengths


def windows(text: str, fits: Callable[[str], bool]) -> list[str]:
    """The text whole if it fits, or else in parts that do, each about as long as the others.

    Parts are halves, quarters and so on, cut at the space nearest to the middle, or in the middle where there is none;
    they are in order, and nothing but white space is lost between them. An empty text is one empty part.
    """
    text = " ".join(text.split())
    if len(text) < 2 or (len(text) <= _LONGEST and fits(text)):
        return [text]
    middle = _near_middle(text)
    return windows(text[:middle], fits) + windows(text[middle:], fits)


def _near_middle(text: str) -> int:
    """Where to cut a text of two characters or more so that both parts have some."""
    middle = len(text) // 2
    after, before = text.find(" ", middle), text.rfind(" ", 0, middle)
    spaces = [place for place in (after, before) if place > 0]
    return min(spaces, key=lambda place: abs(place - middle)) if spaces else middle
