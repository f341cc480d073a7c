"""A tiny SDXL with random weights, of the classes that the large one has, and CLIP's own vocabulary."""

from pathlib import Path

import torch

from tests.stages.models.tiny_clip import tokenizer
from tests.stages.models.tiny_sam import perturb  # first: it makes torchvision importable

from diffusers import AutoencoderKL, EulerDiscreteScheduler, StableDiffusionXLPipeline, UNet2DConditionModel  # isort: skip
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection  # isort: skip

WIDTH, PROJECTION = 16, 24


def text_config() -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=49408, hidden_size=WIDTH, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        projection_dim=PROJECTION, bos_token_id=49406, eos_token_id=49407, pad_token_id=49407,
    )  # fmt: skip


def pipeline() -> StableDiffusionXLPipeline:
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=8, in_channels=4, out_channels=4, block_out_channels=(16, 32), layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=2 * WIDTH, attention_head_dim=(2, 4), norm_num_groups=8, use_linear_projection=True,
        addition_embed_type="text_time", addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=6 * 8 + PROJECTION,
    )  # fmt: skip
    vae = AutoencoderKL(
        in_channels=3, out_channels=3, block_out_channels=(8, 16, 16, 16), down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4, latent_channels=4, norm_num_groups=8, sample_size=64,
        scaling_factor=0.13025,
    )  # fmt: skip
    return StableDiffusionXLPipeline(
        vae=perturb(vae), unet=perturb(unet),
        text_encoder=perturb(CLIPTextModel(text_config())),
        text_encoder_2=perturb(CLIPTextModelWithProjection(text_config()), 1),
        tokenizer=tokenizer(), tokenizer_2=tokenizer(),
        scheduler=EulerDiscreteScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", timestep_spacing="leading",
            steps_offset=1,
        ),
        add_watermarker=False,
    )  # type: ignore[arg-type]  # fmt: skip


def folder(path: Path) -> Path:
    """A folder as diffusers writes one."""
    pipeline().save_pretrained(path)
    return path
