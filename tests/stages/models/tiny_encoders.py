"""Tiny T5, DINO, VAE and MOVQ with random weights, as folders of the classes that the large ones have."""

from pathlib import Path
from typing import Any

from tests.stages.models.tiny_sam import perturb  # first: it makes torchvision importable

import torch  # isort: skip
from diffusers import AutoencoderKL, VQModel  # isort: skip
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors  # isort: skip
from transformers import (  # isort: skip
    CLIPImageProcessorPil,
    Dinov2Config,
    Dinov2Model,
    PreTrainedTokenizerFast,
    T5Config,
    T5EncoderModel,
    ViTConfig,
    ViTImageProcessorPil,
    ViTModel,
)

WORDS = ["a", "the", "dog", "cat", "red", "on", "beach", "runs", "and", "sits", "in", "grass", "with", "ball"]


def t5_folder(folder: Path) -> Path:
    torch.manual_seed(0)
    config = T5Config(vocab_size=len(WORDS) + 3, d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2)
    perturb(T5EncoderModel(config)).save_pretrained(folder)
    vocab = {token: number for number, token in enumerate(["<pad>", "</s>", "<unk>", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>")
    fast.save_pretrained(folder)
    return folder


def dino_folder(folder: Path, kind: str = "vit") -> Path:
    torch.manual_seed(0)
    sizes: dict[str, Any] = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, patch_size=8)
    if kind == "vit":
        config = ViTConfig(**sizes, intermediate_size=64, image_size=32)
        perturb(ViTModel(config, add_pooling_layer=False)).save_pretrained(folder)
        ViTImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(folder)
        return folder
    perturb(Dinov2Model(Dinov2Config(**sizes, image_size=56))).save_pretrained(folder)
    CLIPImageProcessorPil(size={"shortest_edge": 36}, crop_size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


def vae_folder(folder: Path) -> Path:
    torch.manual_seed(0)
    model = AutoencoderKL(
        block_out_channels=(8, 16), down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2, norm_num_groups=4, latent_channels=4,
    )  # fmt: skip
    perturb(model).save_pretrained(folder)  # type: ignore[operator]
    return folder


def movq_folder(folder: Path) -> Path:
    torch.manual_seed(0)
    model = VQModel(
        block_out_channels=(32, 32), down_block_types=("DownEncoderBlock2D", "AttnDownEncoderBlock2D"),
        up_block_types=("AttnUpDecoderBlock2D", "UpDecoderBlock2D"), norm_num_groups=8, norm_type="spatial",
        latent_channels=4, vq_embed_dim=4, num_vq_embeddings=16,
    )  # fmt: skip
    perturb(model).save_pretrained(folder)  # type: ignore[operator]
    return folder
