"""A chat model of transformers: a request in, its reply out."""

from dataclasses import dataclass
from typing import Any

import torch

from stages.base import ModelRef
from stages.models.precision import Precision, dtype_of
from stages.models.pretrained import load_pretrained
from stages.models.torchvision_compat import ensure_torchvision
from stages.models.weights import locate, unreadable

ensure_torchvision()

from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoConfig, AutoTokenizer  # noqa: E402


@dataclass(frozen=True, slots=True)
class Chat:
    """A causal language model with a chat template.

    Attributes:
        model: In evaluation mode.
        tokenizer: Its own.
        device: Where it is.
        max_new_tokens: Longest reply.
        temperature: Of sampling.
        top_p: Share of the probability that is sampled from.
    """

    model: Any
    tokenizer: Any
    device: str
    max_new_tokens: int = 1024
    temperature: float = 0.9
    top_p: float = 0.95

    @torch.inference_mode()
    def __call__(self, request: str, seed: int) -> str:
        """The reply, sampled from ``seed``: the same for the same request, seed and machine."""
        messages = [{"role": "user", "content": request}]
        asked = self.tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
        ).to(self.device)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            told = self.model.generate(
                **asked,
                do_sample=True,
                temperature=self.temperature,
                top_p=self.top_p,
                max_new_tokens=self.max_new_tokens,
                pad_token_id=self.tokenizer.eos_token_id,
            )
        reply: str = self.tokenizer.decode(told[0, asked.input_ids.shape[1] :], skip_special_tokens=True)
        return reply


def load_chat(ref: ModelRef, device: str, precision: Precision) -> Chat:
    """A chat model from the hub or a folder; safetensors only, and no code of its own.

    Args:
        ref: Bundled model, folder or hub id.
        device: Where it goes.
        precision: Type that it calculates in.

    Raises:
        ValueError: If it is not there, damaged, no causal language model, or has no chat template.
    """
    where, revision = locate(ref), ref.revision or "main"
    try:
        config = AutoConfig.from_pretrained(where, revision=revision)
        tokenizer: Any = AutoTokenizer.from_pretrained(where, revision=revision)
    except (OSError, ValueError, KeyError) as error:
        raise unreadable(ref, f"cannot load chat model {ref.name!r}", error) from error
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise ValueError(f"{ref.name!r} is no chat model: its config.json says model_type {config.model_type!r}")
    if not tokenizer.chat_template:
        raise ValueError(f"{ref.name!r} is no chat model: its tokenizer has no chat template")
    model = load_pretrained(MODEL_FOR_CAUSAL_LM_MAPPING[type(config)], ref, device, (), dtype_of(precision, device))
    return Chat(model, tokenizer, device)
