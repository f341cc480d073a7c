"""The encoder that the parameters of ``embed`` choose."""

from typing import Any

import torch

from stages.embed_params import EmbedParams
from stages.models.encoder import BatchEncoder, Draw, Network, PictureEncoder
from stages.models.face_encoder import FaceEncoder, Faces
from stages.models.memory import CallSize
from stages.models.precision import dtype_of
from stages.models.squares import Squares
from stages.models.tokens import TextEncoder, Tokens

_T5_LENGTH = 128
"""Source: Hu et al. 2024, "ELLA", and EMMA, which stands on it."""


def load_encoder(params: EmbedParams, device: str) -> TextEncoder | PictureEncoder | FaceEncoder:
    """A network from the hub or a folder, ready to be asked.

    Raises:
        ValueError: If it is not there, damaged, of another kind, or does not have what is wanted of it.
    """
    match params.kind:
        case "clip_text" | "t5":
            network, tokens = _load_text(params, device)
            truncate = params.long_captions == "truncate"
            encode = _batched(params, device, network)
            return TextEncoder(tokens=tokens, encode=encode, truncate=truncate, padding=params.padding)
        case "adaface":
            from stages.models.face_embedder import load_face_network

            size: Any = params.architecture
            return FaceEncoder(_batched(params, device, Faces(load_face_network(params.ref, size, device))))
        case _:
            network, draw = _load_picture(params, device)
            return PictureEncoder(draw, _batched(params, device, network))


def _load_text(params: EmbedParams, device: str) -> tuple[Network, Tokens]:
    if params.kind == "t5":
        from stages.models.t5 import load_t5

        network, tokens = load_t5(params.ref, device)
        return network, tokens.limited(params.max_length or _T5_LENGTH)
    from stages.models.clip_states import load_clip, text_half

    half, tokens = text_half(load_clip(params, device), params.layer)
    return half, tokens.limited(params.max_length)


def _load_picture(params: EmbedParams, device: str) -> tuple[Network, Draw]:
    if params.kind == "vae" or params.kind == "movq":
        from stages.models.autoencoder import BucketPixels, load_autoencoder

        draw = BucketPixels(buckets=params.buckets, side=params.side, multiple=params.multiple)
        return load_autoencoder(params.kind, params.ref, device), draw
    if params.kind == "dino":
        from stages.models.dino import load_dino

        dino = load_dino(params.ref, device)
        return dino, Squares(dino.canvas, params.fit, params.fill)
    from stages.models.clip_states import image_half, load_clip

    clip = load_clip(params, device)
    return image_half(clip, params.layer), Squares(clip.canvas, params.fit, params.fill)


def _batched(params: EmbedParams, device: str, network: Network) -> BatchEncoder:
    per_call = params.per_call or (1 if device == "cpu" else 16)
    return BatchEncoder(
        network=network,
        device=device,
        precision=_precision(params, device),
        outputs=params.outputs,
        calls=CallSize(per_call, "per_call"),
    )


def _precision(params: EmbedParams, device: str) -> torch.dtype:
    """As told; latents are not left to ``auto``, which would cost them detail."""
    is_latent = params.kind in ("vae", "movq")
    return dtype_of("float32" if is_latent and params.precision == "auto" else params.precision, device)
