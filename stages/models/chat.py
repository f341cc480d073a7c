"""A chat model of transformers: a request in, its reply out."""

from dataclasses import dataclass
from typing import Any

import torch

from stages.models.torchvision_compat import ensure_torchvision

ensure_torchvision()

from transformers import AutoConfig, AutoModelForCausalLM  # noqa: E402


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


class _CausalLM:
    """``AutoModelForCausalLM`` as :func:`load_pretrained` wants a class: with a way to its config."""

    config_class = AutoConfig
    from_pretrained = AutoModelForCausalLM.from_pretrained
