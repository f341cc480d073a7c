"""The captioners there are, by what a checkpoint's config says it is, and how one is loaded."""

import math
import re
from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import Any

from stages.base import ModelRef
from stages.models.architecture import Architecture
from stages.models.blip2 import BLIP2
from stages.models.captioner import BatchCaptioner, Settings
from stages.models.florence2 import FLORENCE2
from stages.models.llava_next import LLAVA_NEXT
from stages.models.memory import CallSize
from stages.models.parts import load_part
from stages.models.pretrained import load_pretrained
from stages.models.qwen_vl import QWEN2_5_VL, QWEN3_VL
from stages.models.weights import absent, is_on_hub, locate

from transformers import AutoTokenizer, GenerationConfig, GenerationMixin, PreTrainedConfig  # isort: skip

ARCHITECTURES: Mapping[str, Architecture] = {
    "blip-2": BLIP2,
    "florence2": FLORENCE2,
    "llava_next": LLAVA_NEXT,
    "qwen2_5_vl": QWEN2_5_VL,
    "qwen3_vl": QWEN3_VL,
}
"""Captioners by the ``model_type`` in config.json."""


def load_captioner(ref: ModelRef, device: str, settings: Settings) -> BatchCaptioner:
    """A captioner from the hub or a folder.

    Args:
        ref: Bundled model, folder or hub id.
        device: Where it goes.
        settings: How it is asked.

    Raises:
        ValueError: If something is not there, damaged, no safetensors, of an architecture not in ``ARCHITECTURES``, or
            unfit for the rest.
    """
    architecture = _architecture(ref)
    network = load_pretrained(architecture.network, ref, device, (), settings.precision)
    processor = _processor(ref, architecture, network.config)
    _check_tokens(ref, network, processor)
    _set_up(ref, network, processor.tokenizer, settings)
    return BatchCaptioner(
        network=network,
        processor=processor,
        architecture=architecture,
        settings=settings,
        device=device,
        room=_room(ref, network, processor.tokenizer, settings),
        special=_special(processor.tokenizer),
        calls=CallSize(settings.images_per_call, "images_per_call"),
    )


def _architecture(ref: ModelRef) -> Architecture:
    kind = str(_told(PreTrainedConfig.get_config_dict, ref).get("model_type"))
    if kind not in ARCHITECTURES:
        known = " or ".join(ARCHITECTURES)
        raise ValueError(f"{ref.name!r} is no captioner: its config.json says model_type {kind!r}, not {known}")
    return ARCHITECTURES[kind]


def _processor(ref: ModelRef, architecture: Architecture, config: Any) -> Any:
    """Built part by part: transformers' own loader would take torchvision's image processors."""
    parts = [load_part(architecture.image_processor, ref), load_part(AutoTokenizer, ref)]
    parts += [architecture.video_processor()] if architecture.video_processor else []
    settings = {**architecture.settings(config), **_told(architecture.processor.get_processor_dict, ref)}
    processor = architecture.processor.from_args_and_dict(parts, settings)
    if architecture.is_chat and not (processor.chat_template or processor.tokenizer.chat_template):
        raise ValueError(f"{ref.name!r} has no chat template: it needs its chat_template.jinja")
    return processor


def _told(read: Callable[..., tuple[dict[str, Any], Any]], ref: ModelRef) -> dict[str, Any]:
    """What a JSON file of a checkpoint says, read by a function of transformers."""
    try:
        return read(locate(ref), revision=ref.revision or "main")[0]
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:300]
        if is_on_hub(ref):
            raise ValueError(absent(ref, f"and the hub does not give it ({reason})")) from error
        raise ValueError(f"cannot read what kind of model {ref.name!r} is: {reason}") from error


def _check_tokens(ref: ModelRef, network: Any, processor: Any) -> None:
    """Refuse a tokenizer that is not the network's: it would give text, and the wrong one."""
    known = network.get_input_embeddings().num_embeddings
    image = processor.tokenizer.convert_tokens_to_ids(str(processor.image_token))
    if len(processor.tokenizer) > known or image != network.config.image_token_id:
        raise ValueError(
            f"the tokenizer of {ref.name!r} has {len(processor.tokenizer)} tokens, that of pictures {image}; the "
            f"network knows {known}, that of pictures {network.config.image_token_id}"
        )


def _set_up(ref: ModelRef, network: Any, tokenizer: Any, settings: Settings) -> None:
    """Let the network generate as the settings say, and for the rest as the checkpoint does."""
    generation = _generation(network, tokenizer)
    stops = generation.eos_token_id
    if stops is None:
        raise ValueError(f"{ref.name!r} names no eos_token_id: its answers would have no end")
    generation.update(  # type: ignore[no-untyped-call]
        eos_token_id=stops if isinstance(stops, list) else [stops],
        max_new_tokens=settings.max_new_tokens,
        max_length=None,
        num_beams=settings.num_beams,
        num_return_sequences=1,
        do_sample=False,  # SeededSampler samples
        temperature=None,
        top_k=None,
        top_p=None,
        forced_eos_token_id=None,  # it would make an answer that is cut look whole
    )
    for part in network.modules():
        if isinstance(part, GenerationMixin):
            part.generation_config = generation


def _generation(network: Any, tokenizer: Any) -> GenerationConfig:
    """The checkpoint's generation config, its token ids filled in from its other files where it leaves them out."""
    generation: GenerationConfig = deepcopy(network.generation_config)
    told = (generation, network.config.get_text_config(), tokenizer)
    for name in ("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id"):
        found = (getattr(source, name, None) for source in told)
        setattr(generation, name, next((token for token in found if token is not None), None))
    return generation


def _room(ref: ModelRef, network: Any, tokenizer: Any, settings: Settings) -> float:
    """Tokens of picture and prompt for which there are positions; T5 has no end of them, but its tokenizer has."""
    positions = getattr(network.config.get_text_config(), "max_position_embeddings", None) or math.inf
    limit: float = min(positions, tokenizer.model_max_length)
    if settings.max_new_tokens >= limit:
        raise ValueError(
            f"max_new_tokens is {settings.max_new_tokens}; {ref.name!r} has room for {limit} tokens in all"
        )
    return limit if network.config.is_encoder_decoder else limit - settings.max_new_tokens


def _special(tokenizer: Any) -> re.Pattern[str]:
    tokens = [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]
    return re.compile("|".join(map(re.escape, sorted(tokens, key=len, reverse=True))) or "(?!)")
