"""Models of diffusers from published weights, or of the same sizes with fresh ones."""

from typing import Any

from training.weights import Weights, load_weights


def diffusers_model(model: Any, weights: Weights, load: bool, **options: Any) -> Any:
    """An instance; without ``load`` only the configuration is read.

    Raises:
        OSError: If it is not there.
    """
    if load:
        return load_weights(model, weights, **options)
    return load_weights(_Configured(model), weights)


class _Configured:
    """Reads the configuration where the weights are, and stops there."""

    def __init__(self, model: Any) -> None:
        self._model = model

    def from_pretrained(self, name: str, **options: Any) -> Any:
        options.pop("use_safetensors")
        return self._model.from_config(self._model.load_config(name, **options))
