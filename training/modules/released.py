"""Released weights of a module of ours: one file of safetensors in a folder or a repository of the hub."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor, nn

from training.weights import Weights


def load_released(module: nn.Module, weights: Weights, files: Sequence[str], what: str, without: str = "") -> None:
    """Take weights.

    Args:
        module: That takes them.
        weights: Where they are.
        files: Names that the file may have: the first that is there is taken.
        what: The module is, a noun for errors.
        without: What names of parameters begin with that the file may have beside the module's; empty: nothing.

    Raises:
        OSError: If the file is not there.
        ValueError: If its parameters are not the module's.
    """
    held = load_file(_find(weights, files, what)).items()
    state = {name: value for name, value in held if not (without and name.startswith(without))}
    _check(module.state_dict(), state, weights.name, what)
    module.load_state_dict(state)


def _find(weights: Weights, files: Sequence[str], what: str) -> Path:
    folder = Path(weights.name)
    if not folder.is_dir():
        return _fetched(weights, files)
    paths = [folder / weights.subfolder / file for file in files]
    found = next((path for path in paths if path.is_file()), None)
    if found is None:
        others = "".join(f", nor {file}" for file in files[1:])
        raise OSError(
            f"{paths[0]}: no such file{others}; name the folder of the {what} itself, which is one of those that "
            "`python -m training export` writes"
        )
    return found


def _fetched(weights: Weights, files: Sequence[str]) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    errors: list[Exception] = []
    for file in files:
        try:
            found = hf_hub_download(weights.name, file, subfolder=weights.subfolder or None, revision=weights.revision)
            return Path(found)
        except (HfHubHTTPError, LocalEntryNotFoundError) as error:
            errors.append(error)
    raise OSError(
        f"{weights.name}: {files[0]} can't be had: {errors[0]}; name a local folder in the recipe"
    ) from errors[0]


def _check(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor], name: str, what: str) -> None:
    differing = sorted(
        key
        for key in ours.keys() | theirs.keys()
        if key not in ours or key not in theirs or ours[key].shape != theirs[key].shape
    )
    if differing:
        raise ValueError(
            f"{name} is no {what} of these sizes: {', '.join(differing[:4])} and {len(differing)} in all differ"
        )
