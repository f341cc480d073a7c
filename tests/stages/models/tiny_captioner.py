"""Tiny captioners with random weights, whole checkpoint folders of the classes that the large ones have."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from stages.models.torchvision_compat import ensure_torchvision

ensure_torchvision()

from tokenizers import Tokenizer, models, pre_tokenizers, processors  # noqa: E402
from transformers import (  # noqa: E402
    Blip2Config,
    Blip2ForConditionalGeneration,
    BlipImageProcessorPil,
    CLIPImageProcessorPil,
    Florence2Config,
    Florence2ForConditionalGeneration,
    LlavaNextConfig,
    LlavaNextForConditionalGeneration,
    LlavaNextImageProcessorPil,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2VLImageProcessorPil,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
)

_TEXT = (
    "a an the dog cat man hat bike beach grass red blue big small on in with and of , . ? two what does image describe "
    "photo this is USER ASSISTANT : shows sitting riding green tree sky picture one sentence"
)
WORDS = _TEXT.split()
SPECIAL = (
    "<pad>", "<s>", "</s>", "<unk>", "<image>", "<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>",
)  # fmt: skip
VOCABULARY = {word: number for number, word in enumerate((*SPECIAL, *WORDS))}
SIDE = 56

LLAVA_CHAT = (
    "{% for m in messages %}USER : {% for part in m['content'] %}{% if part['type'] == 'image' %}<image>\n"
    "{% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endfor %} ASSISTANT :"
)
QWEN_CHAT = LLAVA_CHAT.replace("<image>\n", "<|vision_start|><|image_pad|><|vision_end|>")


def tokenizer(special: dict[str, str] | list[str], template: str | None = None) -> PreTrainedTokenizerFast:
    """Whole words; begins with ``<s>``, and ends with ``</s>`` where there is no chat."""
    words = Tokenizer(models.WordLevel(VOCABULARY, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.TemplateProcessing(
        single="<s> $A" if template else "<s> $A </s>",
        special_tokens=[(token, VOCABULARY[token]) for token in ("<s>", "</s>")],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=words,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        extra_special_tokens=special,
        chat_template=template,
    )


_TOWER = dict(hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2)
_IDS = dict(bos_token_id=1, eos_token_id=2, pad_token_id=0)
_LLAMA = dict(_TOWER, num_key_value_heads=2, vocab_size=len(VOCABULARY), max_position_embeddings=512, **_IDS)


def _blip2(text: Mapping[str, Any]) -> tuple[Any, Any, Any]:
    config = Blip2Config(
        vision_config=dict(_TOWER, image_size=SIDE, patch_size=14),
        qformer_config=dict(_TOWER, encoder_hidden_size=32, vocab_size=64),
        text_config=dict(text, vocab_size=len(VOCABULARY), **_IDS),
        num_query_tokens=4,
        image_token_index=VOCABULARY["<image>"],
    )
    image_processor = BlipImageProcessorPil(size={"height": SIDE, "width": SIDE})
    return Blip2ForConditionalGeneration(config), image_processor, tokenizer([])


def blip2_opt() -> tuple[Any, Any, Any]:
    return _blip2(
        dict(
            model_type="opt", hidden_size=32, num_hidden_layers=2, num_attention_heads=2, ffn_dim=48,
            max_position_embeddings=128, word_embed_proj_dim=32,
        )
    )  # fmt: skip


def blip2_t5() -> tuple[Any, Any, Any]:
    return _blip2(
        dict(model_type="t5", d_model=32, d_kv=16, d_ff=48, num_layers=2, num_heads=2, decoder_start_token_id=0)
    )


def llava_next() -> tuple[Any, Any, Any]:
    pinpoints = [[SIDE, 2 * SIDE], [2 * SIDE, SIDE], [2 * SIDE, 2 * SIDE]]
    config = LlavaNextConfig(
        vision_config=dict(_TOWER, model_type="clip_vision_model", image_size=SIDE, patch_size=14),
        text_config=dict(_LLAMA, model_type="llama"),
        image_grid_pinpoints=pinpoints,
        image_token_index=VOCABULARY["<image>"],
    )
    image_processor = LlavaNextImageProcessorPil(
        size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE}, image_grid_pinpoints=pinpoints
    )
    return LlavaNextForConditionalGeneration(config), image_processor, tokenizer({"image_token": "<image>"}, LLAVA_CHAT)


_QWEN = dict(
    image_token_id=VOCABULARY["<|image_pad|>"],
    video_token_id=VOCABULARY["<|video_pad|>"],
    vision_start_token_id=VOCABULARY["<|vision_start|>"],
    vision_end_token_id=VOCABULARY["<|vision_end|>"],
)


def qwen2_5_vl() -> tuple[Any, Any, Any]:
    config = Qwen2_5_VLConfig(
        vision_config=dict(
            depth=2, hidden_size=32, num_heads=2, intermediate_size=48, out_hidden_size=32, fullatt_block_indexes=[1],
            window_size=56,
        ),
        text_config=dict(_LLAMA, rope_parameters=dict(rope_type="default", rope_theta=1e4, mrope_section=[2, 3, 3])),
        **_QWEN,
    )  # fmt: skip
    return (
        Qwen2_5_VLForConditionalGeneration(config),
        Qwen2VLImageProcessorPil(),
        tokenizer(list(SPECIAL[5:]), QWEN_CHAT),
    )


def qwen3_vl() -> tuple[Any, Any, Any]:
    config = Qwen3VLConfig(
        vision_config=dict(
            depth=2, hidden_size=32, num_heads=2, intermediate_size=48, out_hidden_size=32, patch_size=16,
            num_position_embeddings=64, deepstack_visual_indexes=[0],
        ),
        text_config=dict(
            _LLAMA, head_dim=16, rope_parameters=dict(rope_type="default", rope_theta=1e4, mrope_section=[2, 3, 3])
        ),
        **_QWEN,
    )  # fmt: skip
    image_processor = Qwen2VLImageProcessorPil(patch_size=16, image_mean=[0.5] * 3, image_std=[0.5] * 3)
    return Qwen3VLForConditionalGeneration(config), image_processor, tokenizer(list(SPECIAL[5:]), QWEN_CHAT)


def florence2() -> tuple[Any, Any, Any]:
    config = Florence2Config(
        vision_config=dict(
            depths=[1, 1], patch_size=[7, 3], patch_stride=[4, 4], patch_padding=[3, 1], patch_prenorm=[False, True],
            embed_dim=[16, 32], num_heads=[2, 2], num_groups=[2, 2], window_size=4, projection_dim=32,
        ),
        text_config=dict(
            model_type="bart", d_model=32, encoder_layers=2, decoder_layers=2, encoder_attention_heads=2,
            decoder_attention_heads=2, encoder_ffn_dim=48, decoder_ffn_dim=48, vocab_size=len(VOCABULARY),
            max_position_embeddings=128, decoder_start_token_id=2, forced_eos_token_id=None, **_IDS,
        ),
        image_token_id=VOCABULARY["<image>"],
    )  # fmt: skip
    image_processor = CLIPImageProcessorPil(size={"height": 64, "width": 64}, do_center_crop=False, image_seq_length=17)
    return Florence2ForConditionalGeneration(config), image_processor, tokenizer({"image_token": "<image>"})


TINY: Mapping[str, Callable[[], tuple[Any, Any, Any]]] = {
    "blip2_opt": blip2_opt,
    "blip2_t5": blip2_t5,
    "llava_next": llava_next,
    "qwen2_5_vl": qwen2_5_vl,
    "qwen3_vl": qwen3_vl,
    "florence2": florence2,
}


def save(name: str, folder: Path) -> Path:
    """Write a checkpoint folder as its authors would."""
    torch.manual_seed(0)
    model, image_processor, words = TINY[name]()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.2)
    model.generation_config.suppress_tokens = [0, 1, *range(3, len(SPECIAL))]  # else it would stammer special tokens
    model.generation_config.no_repeat_ngram_size = 2
    model.generation_config.min_new_tokens = 3
    model.save_pretrained(folder)
    image_processor.save_pretrained(folder)
    words.save_pretrained(folder)
    return folder
