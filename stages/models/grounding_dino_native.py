"""Grounding DINO as its authors' package has it, from their checkpoint files (``groundingdino_swint_ogc.pth``).

The package was written for transformers 4: its text encoder reaches into parts of BERT that are gone. Here BERT is
called as any caller does, with the same mask, and its weights keep the names that the checkpoints give them.
"""

from argparse import Namespace
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from types import SimpleNamespace
from typing import Any, Literal

from torch import Tensor, nn

from stages.base import ModelRef
from stages.models.checkpoint import load_checkpoint
from stages.models.frame import Frame
from stages.models.grounding_dino import Loaded
from stages.models.parts import load_part
from stages.models.prompts import PromptWriter
from stages.models.torchvision_compat import ensure_torchvision

ensure_torchvision()

from groundingdino.models import build_model  # noqa: E402
from groundingdino.models.GroundingDINO import groundingdino as package  # noqa: E402
from groundingdino.util.misc import NestedTensor  # noqa: E402
from transformers import AutoTokenizer, BatchEncoding, BertConfig, BertModel  # noqa: E402

ModelType = Literal["swin_t", "swin_b"]

_CONFIGS: Mapping[ModelType, str] = {"swin_t": "GroundingDINO_SwinT_OGC", "swin_b": "GroundingDINO_SwinB_cfg"}
"""The package's own configurations."""

_LEFT_OVER = ("label_enc.weight", "bert.embeddings.position_ids")
"""What the released checkpoints hold beside the network: a part of its training, and numbers that older BERTs saved."""

FRAME = Frame(short_side=800, long_side=1333, is_rounded_first=True)
"""Source: groundingdino/util/inference.py, ``load_image``."""


class TextEncoder(nn.Module):
    """BERT as the package expects it: under the checkpoints' names, with a mask for each pair of tokens."""

    def __init__(self, bert_model: BertModel) -> None:
        super().__init__()
        self.config = bert_model.config
        self.embeddings, self.encoder, self.pooler = bert_model.embeddings, bert_model.encoder, bert_model.pooler
        self._calls = (bert_model,)  # in a tuple, so that its weights are not there twice

    def forward(self, attention_mask: Tensor, **inputs: Tensor) -> Any:
        """BERT's output; ``attention_mask`` is (prompt, token, token), true where one may see the other."""
        return self._calls[0](attention_mask=attention_mask[:, None], **inputs)


@dataclass(frozen=True, slots=True)
class NativeGroundingDino:
    """Grounding DINO. Source: Liu et al. 2023; package ``groundingdino-py`` 0.4.0."""

    model: nn.Module

    def detect(self, pixels: Tensor, is_picture: Tensor, ids: Tensor, is_text: Tensor) -> tuple[Tensor, Tensor]:
        """Boxes and logits, as :meth:`stages.models.detector.Network.detect`."""
        prompts = BatchEncoding(
            {"input_ids": ids, "attention_mask": is_text, "token_type_ids": ids.new_zeros(ids.shape)}
        )
        found = self.model(NestedTensor(pixels, ~is_picture), captions=prompts)
        return found["pred_boxes"], found["pred_logits"]


def load_native(model_type: ModelType, ref: ModelRef, text_encoder: ModelRef, device: str) -> Loaded:
    """A network from a native checkpoint, in evaluation mode. Code in the file is refused, not run.

    Args:
        model_type: The size it was trained at.
        ref: The ``.pth`` file. It holds BERT's weights too.
        text_encoder: Folder or hub id of ``bert-base-uncased``, of which the configuration and the tokenizer are read.
        device: Where it goes.

    Raises:
        ValueError: If a part of it is not there, damaged, of another size, or a pickle of more than tensors.
    """
    tokenizer = load_part(AutoTokenizer, text_encoder)
    model = build(official_config(model_type), BertModel(load_part(BertConfig, text_encoder)), tokenizer)
    load_checkpoint(model, ref, weights_of)
    network = NativeGroundingDino(model.eval().requires_grad_(False).to(device))
    return Loaded(network, FRAME, PromptWriter(tokenizer, model.max_text_len))


def official_config(model_type: ModelType) -> Namespace:
    """The package's configuration, without the checkpointing that saves memory in training."""
    config = vars(import_module(f"groundingdino.config.{_CONFIGS[model_type]}"))
    settings = {name: value for name, value in config.items() if not name.startswith("__")}
    return Namespace(**settings | {"use_checkpoint": False, "use_transformer_ckpt": False})


def build(config: Namespace, bert: BertModel, tokenizer: Any) -> Any:
    """The package's network around a text encoder, with random weights; it takes prompts as token numbers."""
    with _text_side(bert, tokenizer):
        model = build_model(config)
    model.tokenizer = lambda prompts, **_: prompts
    for layer in model.transformer.encoder.text_layers:
        layer.register_forward_pre_hook(_mask_for_each_head, with_kwargs=True)
    return model


def _mask_for_each_head(layer: Any, args: tuple[Any, ...], inputs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Give each prompt's mask to its own heads.

    The layer would repeat the prompts' masks in an order that ``MultiheadAttention`` does not have, so that prompts
    in a batch get each other's masks (groundingdino-py 0.4.0, transformer_vanilla.py, line 111).
    """
    return args, inputs | {"src_mask": inputs["src_mask"].repeat_interleave(layer.nhead, dim=0)}


@contextmanager
def _text_side(bert: BertModel, tokenizer: Any) -> Iterator[None]:
    """Let the package, which would load both by name in its constructor, find these."""
    loaders = SimpleNamespace(get_tokenlizer=lambda _: tokenizer, get_pretrained_language_model=lambda _: bert)
    ours = {"get_tokenlizer": loaders, "BertModelWarper": TextEncoder}
    theirs = {name: getattr(package, name) for name in ours}
    try:
        vars(package).update(ours)
        yield
    finally:
        vars(package).update(theirs)


def weights_of(checkpoint: Mapping[str, Any]) -> dict[str, Tensor]:
    """The network's weights by its own names, of what a released checkpoint holds."""
    weights = {name.removeprefix("module."): weight for name, weight in checkpoint.get("model", checkpoint).items()}
    return {name: weight for name, weight in weights.items() if name not in _LEFT_OVER}
