"""What is read of a published multimodal model: network, tokenizer, and how its pictures are normalised."""

from dataclasses import dataclass
from typing import Any

from training.torchvision_compat import ensure_torchvision
from training.weights import Weights, load_weights


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The parts of a reader; means and deviations by channel, of pixels on [0, 1]."""

    network: Any
    tokenizer: Any
    mean: tuple[float, ...]
    deviation: tuple[float, ...]


def pretrained_parts(model: Any, processor: Any, weights: Weights, *, types: tuple[str, ...], load: bool) -> Parts:
    """A model's parts; without ``load``, its network has fresh weights.

    Args:
        model: An auto class of transformers.
        processor: The class of its image processor.
        weights: Where all of it is.
        types: What its configuration may say that it is.
        load: Whether to load the network's weights, in the type that they are kept in.

    Raises:
        OSError: If something is not there.
        ValueError: If the model is of another type.
    """
    ensure_torchvision()
    import transformers

    configuration: Any = transformers.AutoConfig
    tokenizer: Any = transformers.AutoTokenizer
    config = load_weights(configuration, weights)
    if config.model_type not in types:
        raise ValueError(f"{weights.name} is a {config.model_type} model, expected {' or '.join(types)}")
    pictures = load_weights(processor, weights)
    return Parts(
        network=load_weights(model, weights, dtype="auto") if load else model.from_config(config),
        tokenizer=load_weights(tokenizer, weights),
        mean=tuple(pictures.image_mean),
        deviation=tuple(pictures.image_std),
    )
