"""What goes with a network and is no network: tokenizer, image processor, configuration."""

from typing import Any

from stages.base import ModelRef
from stages.models.weights import locate, unreadable


def load_part(loader: Any, ref: ModelRef) -> Any:
    """A part of a model, from a folder or the hub.

    Args:
        loader: A class with ``from_pretrained``.
        ref: Bundled model, folder or hub id.

    Raises:
        ValueError: If it is not there or damaged.
    """
    try:
        return loader.from_pretrained(locate(ref), revision=ref.revision or "main")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise unreadable(ref, f"cannot load the {loader.__name__} of {ref.name!r}", error) from error
