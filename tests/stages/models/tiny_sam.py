"""Tiny SAM networks with random weights, of the classes that the large ones have."""

import re
from functools import partial

import torch
from torch import Tensor, nn

from stages.models.memory import CallSize
from stages.models.sam_native import Sam as NativeModel  # first: it makes torchvision importable
from stages.models.segmenter import BatchSegmenter, Network

from segment_anything.modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, TwoWayTransformer  # isort: skip
from transformers import Sam2Config, Sam2HieraDetConfig, Sam2Model, Sam2VisionConfig, SamConfig, SamModel  # isort: skip

SIDE = 128


def perturb(model: nn.Module, seed: int = 0) -> nn.Module:
    """Weights far from their start, so that no part is idle: position embeddings start at 0, norms at 1."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return model.eval()


def native_sam(seed: int = 0) -> NativeModel:
    torch.manual_seed(seed)
    encoder = ImageEncoderViT(
        depth=2, embed_dim=32, img_size=SIDE, mlp_ratio=2, norm_layer=partial(nn.LayerNorm, eps=1e-6), num_heads=2,
        patch_size=16, qkv_bias=True, use_rel_pos=True, global_attn_indexes=(1,), window_size=5, out_chans=32,
    )  # fmt: skip
    grid = (SIDE // 16, SIDE // 16)
    prompts = PromptEncoder(embed_dim=32, image_embedding_size=grid, input_image_size=(SIDE, SIDE), mask_in_chans=4)
    transformer = TwoWayTransformer(depth=2, embedding_dim=32, mlp_dim=64, num_heads=2)
    decoder = MaskDecoder(
        num_multimask_outputs=3, transformer=transformer, transformer_dim=32, iou_head_depth=3, iou_head_hidden_dim=32
    )
    return perturb(NativeModel(image_encoder=encoder, prompt_encoder=prompts, mask_decoder=decoder), seed)


def sam(seed: int = 0) -> SamModel:
    torch.manual_seed(seed)
    vision = dict(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=SIDE, output_channels=32,
        global_attn_indexes=[1], window_size=5, mlp_dim=64, num_pos_feats=16,
    )  # fmt: skip
    config = SamConfig(
        vision_config=vision,
        prompt_encoder_config=dict(hidden_size=32, image_size=SIDE, mask_input_channels=4),
        mask_decoder_config=dict(hidden_size=32, mlp_dim=64, num_attention_heads=2, iou_head_hidden_dim=32),
    )
    return perturb(SamModel(config), seed)


def sam2(seed: int = 0) -> Sam2Model:
    torch.manual_seed(seed)
    backbone = Sam2HieraDetConfig(
        hidden_size=12, num_attention_heads=1, blocks_per_stage=[1, 1, 2, 1], embed_dim_per_stage=[12, 24, 48, 96],
        num_attention_heads_per_stage=[1, 1, 2, 2], window_size_per_stage=[4, 2, 4, 2], global_attention_blocks=[3],
        image_size=[SIDE, SIDE], window_positional_embedding_background_size=[4, 4],
    )  # fmt: skip
    vision = Sam2VisionConfig(
        backbone_config=backbone, backbone_channel_list=[96, 48, 24, 12], fpn_hidden_size=32,
        backbone_feature_sizes=[[SIDE // 4] * 2, [SIDE // 8] * 2, [SIDE // 16] * 2],
    )  # fmt: skip
    config = Sam2Config(
        vision_config=vision,
        prompt_encoder_config=dict(hidden_size=32, image_size=SIDE, mask_input_channels=4),
        mask_decoder_config=dict(hidden_size=32, mlp_dim=64, num_attention_heads=2, iou_head_hidden_dim=32),
    )
    return perturb(Sam2Model(config), seed)


def batched(
    network: Network, images: int = 4, boxes: int = 8, precision: torch.dtype = torch.float32
) -> BatchSegmenter:
    return BatchSegmenter(
        network=network,
        device="cpu",
        precision=precision,
        image_calls=CallSize(images, "images_per_call"),
        box_calls=CallSize(boxes, "boxes_per_call"),
    )


_RENAMED = (
    ("iou_prediction_head.layers.0", "iou_prediction_head.proj_in"),
    ("iou_prediction_head.layers.1", "iou_prediction_head.layers.0"),
    ("iou_prediction_head.layers.2", "iou_prediction_head.proj_out"),
    ("mask_decoder.output_upscaling.0", "mask_decoder.upscale_conv1"),
    ("mask_decoder.output_upscaling.1", "mask_decoder.upscale_layer_norm"),
    ("mask_decoder.output_upscaling.3", "mask_decoder.upscale_conv2"),
    ("mask_downscaling.0", "mask_embed.conv1"),
    ("mask_downscaling.1", "mask_embed.layer_norm1"),
    ("mask_downscaling.3", "mask_embed.conv2"),
    ("mask_downscaling.4", "mask_embed.layer_norm2"),
    ("mask_downscaling.6", "mask_embed.conv3"),
    ("point_embeddings", "point_embed"),
    ("pe_layer.positional_encoding_gaussian_matrix", "shared_embedding.positional_embedding"),
    ("image_encoder", "vision_encoder"),
    ("neck.0", "neck.conv1"),
    ("neck.1", "neck.layer_norm1"),
    ("neck.2", "neck.conv2"),
    ("neck.3", "neck.layer_norm2"),
    ("patch_embed.proj", "patch_embed.projection"),
    (".norm", ".layer_norm"),
    ("blocks", "layers"),
)
_MLP = {"0": "proj_in", "1": "layers.0", "2": "proj_out"}


def as_transformers(native: NativeModel) -> SamModel:
    """The same network as transformers has it."""
    weights: dict[str, Tensor] = {}
    for name, weight in native.state_dict().items():
        for old, new in _RENAMED:
            name = name.replace(old, new)
        name = re.sub(r"(output_hypernetworks_mlps\.\d+\.)layers\.(\d)", lambda found: found[1] + _MLP[found[2]], name)
        weights[name] = weight
    shared = weights["prompt_encoder.shared_embedding.positional_embedding"]
    model = sam()
    model.load_state_dict(weights | {"shared_image_embedding.positional_embedding": shared})
    return model.eval()
