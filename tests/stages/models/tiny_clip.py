"""Tiny CLIP networks with random weights and CLIP's own vocabulary, of the classes that the large ones have."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from stages.models.clip import BatchClip, Network
from tests.stages.models.tiny_sam import perturb  # first: it makes torchvision importable

import open_clip  # isort: skip
from open_clip.tokenizer import SimpleTokenizer  # isort: skip
from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, CLIPTokenizer  # isort: skip

SIDE, DIM, LENGTH = 32, 24, 77
ARCHITECTURE: dict[str, Any] = dict(
    embed_dim=DIM,
    vision_cfg=dict(image_size=SIDE, layers=2, width=32, patch_size=8, head_width=16),
    text_cfg=dict(context_length=LENGTH, vocab_size=49408, width=16, heads=2, layers=2),
)
END = 49407


def open_network(seed: int = 0) -> open_clip.CLIP:
    torch.manual_seed(seed)
    return perturb(open_clip.CLIP(**ARCHITECTURE), seed)  # type: ignore[return-value]


def open_folder(folder: Path, seed: int = 0, **preprocess: object) -> Path:
    """A folder as open_clip writes one."""
    config = {"model_cfg": ARCHITECTURE, "preprocess_cfg": preprocess}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    save_file(open_network(seed).state_dict(), folder / "open_clip_model.safetensors")
    return folder


def tokenizer() -> CLIPTokenizer:
    """CLIP's own, from the vocabulary inside open_clip."""
    simple = SimpleTokenizer()
    names = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}
    vocab = {names.get(token, token): number for token, number in simple.encoder.items()}
    return CLIPTokenizer(vocab=vocab, merges=list(simple.bpe_ranks), model_max_length=LENGTH)


def hf_network(weights: dict[str, Tensor] | None = None) -> CLIPModel:
    text = dict(
        vocab_size=49408, hidden_size=16, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=LENGTH, projection_dim=DIM, hidden_act="gelu",
        bos_token_id=END - 1, eos_token_id=END, pad_token_id=END,
    )  # fmt: skip
    vision = dict(
        hidden_size=32, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2, image_size=SIDE,
        patch_size=8, projection_dim=DIM, hidden_act="gelu",
    )  # fmt: skip
    torch.manual_seed(0)
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=DIM))
    if weights is not None:
        model.load_state_dict(weights)
    return model.eval()


def hf_folder(folder: Path, weights: dict[str, Tensor] | None = None) -> Path:
    """A folder as transformers writes one: weights, tokenizer, preprocessing."""
    hf_network(weights or as_transformers(open_network())).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    CLIPImageProcessorPil(size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE}).save_pretrained(
        folder
    )
    return folder


def batched(network: Network, images: int = 4, texts: int = 4) -> BatchClip:
    return BatchClip(network=network, device="cpu", images_per_call=images, texts_per_call=texts)


_RENAMED = (
    ("visual.class_embedding", "vision_model.embeddings.class_embedding"),
    ("visual.positional_embedding", "vision_model.embeddings.position_embedding.weight"),
    ("visual.conv1", "vision_model.embeddings.patch_embedding"),
    ("visual.ln_pre", "vision_model.pre_layrnorm"),
    ("visual.ln_post", "vision_model.post_layernorm"),
    ("visual.transformer.resblocks", "vision_model.encoder.layers"),
    ("transformer.resblocks", "text_model.encoder.layers"),
    ("token_embedding", "text_model.embeddings.token_embedding"),
    ("positional_embedding", "text_model.embeddings.position_embedding.weight"),
    ("ln_final", "text_model.final_layer_norm"),
    ("attn.out_proj", "self_attn.out_proj"),
    ("ln_1", "layer_norm1"),
    ("ln_2", "layer_norm2"),
    ("mlp.c_fc", "mlp.fc1"),
    ("mlp.c_proj", "mlp.fc2"),
)


def as_transformers(network: open_clip.CLIP) -> dict[str, Tensor]:
    """An open_clip network's weights by the names of transformers' ``CLIPModel``."""
    state = dict(network.state_dict())
    weights = {
        "logit_scale": state.pop("logit_scale"),
        "visual_projection.weight": state.pop("visual.proj").T.contiguous(),
        "text_projection.weight": state.pop("text_projection").T.contiguous(),
    }
    state.pop("attn_mask", None)
    for name, weight in state.items():
        for old, new in _RENAMED:
            if old in name:
                name = name.replace(old, new)
                if name.endswith("position_embedding.weight"):
                    break
        if ".in_proj_" in name:
            kind = name.rpartition("_")[2]
            parts = zip("qkv", weight.chunk(3), strict=True)
            stem = name.partition("attn.in_proj")[0]
            weights |= {f"{stem}self_attn.{part}_proj.{kind}": piece for part, piece in parts}
        else:
            weights[name] = weight
    return weights
