"""A model on the hub: its files chosen, downloaded into the hub's cache, and checked by their hashes."""

import hashlib
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from huggingface_hub import HfApi, constants, snapshot_download, try_to_load_from_cache
from huggingface_hub.errors import (  # type: ignore[attr-defined]  # HTTPError: of whichever library the client uses
    GatedRepoError,
    HTTPError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.hf_api import RepoSibling
from huggingface_hub.utils.tqdm import disable_progress_bars

HUB_ERRORS = (HTTPError, OSError, ValueError)
"""What the hub's client raises where it cannot give a file."""

_TEXTS = ("*.json", "*.txt", "*.model", "*.jinja", "*.spm", "*.tiktoken")
_WEIGHTS = (("*.safetensors",), ("*.onnx",), ("*.bin", "*.pt", "*.pth"))
"""By preference; of the first that a model has, all are taken. The last ones may be pickles, which no stage loads."""
_ANY_WEIGHTS = tuple(pattern for patterns in _WEIGHTS for pattern in patterns)
_ANY_MODEL = (*_TEXTS, *_ANY_WEIGHTS)

_VARIANT = re.compile(r"\.(fp16|bf16|non_ema)\b")


@dataclass(frozen=True, slots=True, kw_only=True)
class HubFile:
    """A file of a model.

    Attributes:
        path: In the model's folder.
        size: Bytes.
        sha256: Hex SHA-256 of its bytes; the hub tells it of large files only.
        git_sha1: Hex SHA-1 that git names it by.
    """

    path: str
    size: int
    sha256: str | None = None
    git_sha1: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HubModel:
    """A model at one commit, with the files that are needed of it."""

    name: str
    commit: str
    files: tuple[HubFile, ...]

    @property
    def size(self) -> int:
        """Bytes in all."""
        return sum(file.size for file in self.files)


def look_up(name: str, revision: str | None, patterns: Sequence[str]) -> HubModel:
    """Ask the hub for a model's commit and files. Raises :data:`HUB_ERRORS`.

    Args:
        name: Hub id.
        revision: Branch, tag or commit; ``None``: the main branch.
        patterns: Of the files that are needed; none: what any model of transformers, diffusers or open_clip has.
    """
    info = HfApi().model_info(name, revision=revision, files_metadata=True)
    siblings = {sibling.rfilename: sibling for sibling in info.siblings or ()}
    chosen = choose(list(siblings), patterns)
    if info.sha is None or not chosen:
        raise ValueError(f"it has no file like {', '.join(patterns) or 'config.json or model.safetensors'}")
    if pickles := pickles_alone(chosen):
        raise ValueError(
            f"its weights at {revision or 'main'!r} are pickles alone ({', '.join(pickles[:3])}), which could run code "
            "and are not loaded; name a revision that has safetensors, such as a conversion at refs/pr/NUMBER, or set "
            "model to a folder with model.safetensors"
        )
    files = tuple(_told(siblings[path]) for path in sorted(chosen))
    return HubModel(name=name, commit=info.sha, files=files)


def _told(file: RepoSibling) -> HubFile:
    sha256 = file.lfs.sha256 if file.lfs else None
    if file.size is None or not (sha256 or file.blob_id):
        raise ValueError(f"the hub tells no size or hash of {file.rfilename}")
    # Of a large file git keeps a pointer, and its SHA-1 is the pointer's.
    return HubFile(path=file.rfilename, size=file.size, sha256=sha256, git_sha1=None if sha256 else file.blob_id)


def choose(paths: Sequence[str], patterns: Sequence[str] = ()) -> list[str]:
    """The files that loading a model needs: of its weights only one format, in one precision.

    A model of diffusers has its weights in folders; what lies beside ``model_index.json`` repeats them in one file.

    Args:
        paths: All its files.
        patterns: Of those that are needed; none: what any model of transformers, diffusers or open_clip has.
    """
    matching = [path for path in paths if _matches(path, patterns or _ANY_MODEL)]
    weights = [path for path in matching if _matches(path, _ANY_WEIGHTS)]
    if "model_index.json" in matching:
        weights = [path for path in weights if "/" in path]
    for format_patterns in _WEIGHTS:
        if alike := [path for path in weights if _matches(path, format_patterns)]:
            weights = [path for path in alike if not _VARIANT.search(path)] or alike
            break
    return [path for path in matching if path in weights or not _matches(path, _ANY_WEIGHTS)]


def pickles_alone(paths: Sequence[str]) -> list[str]:
    """The weights among files, if all of them may be pickles."""
    weights = [path for path in paths if _matches(path, _ANY_WEIGHTS)]
    return weights if all(_matches(path, _WEIGHTS[-1]) for path in weights) else []


def _matches(path: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch(path, pattern) for pattern in patterns)


def download(model: HubModel, revision: str, cache: Path) -> None:
    """Bring what is not there yet into the cache, several files at once. Raises :data:`HUB_ERRORS`.

    Args:
        model: What to bring.
        revision: Its commit, or the branch or tag that the cache shall know it by too.
        cache: The hub's cache, or a folder of that form.
    """
    if not sys.stderr.isatty():
        disable_progress_bars()
    paths = [file.path.replace("[", "[[]") for file in model.files]
    folder = Path(snapshot_download(model.name, revision=revision, cache_dir=cache, allow_patterns=paths))
    if folder.name != model.commit:
        raise ValueError(f"revision {revision!r} moved from {model.commit} to {folder.name} meanwhile; run again")


def inspect(model: HubModel, cache: Path) -> tuple[list[HubFile], list[tuple[HubFile, str]]]:
    """The files in the cache that are as they should be, each with its SHA-256, and the others with what is wrong."""
    good, bad = [], []
    for file in model.files:
        found = _cached(model, file, cache)
        if found is None:
            bad.append((file, "is missing"))
        elif (size := found.stat().st_size) != file.size:
            bad.append((file, f"has {size:,} bytes, not {file.size:,}"))
        else:
            sha256, git_sha1 = _digests(found)
            if sha256 == file.sha256 or (not file.sha256 and git_sha1 == file.git_sha1):
                good.append(HubFile(path=file.path, size=size, sha256=sha256))
            else:
                bad.append((file, "has other bytes than the hub's"))
    return good, bad


def remove(model: HubModel, file: HubFile, cache: Path) -> None:
    """Remove a file from the cache, with the blob it points at, so that it is downloaded anew."""
    found = _cached(model, file, cache)
    if found:
        found.resolve().unlink()
        found.unlink(missing_ok=True)


def _cached(model: HubModel, file: HubFile, cache: Path) -> Path | None:
    found = try_to_load_from_cache(model.name, file.path, cache_dir=cache, revision=model.commit)
    return Path(found) if isinstance(found, str) else None


def _digests(file: Path) -> tuple[str, str]:
    """Hex SHA-256 of a file's bytes, and the SHA-1 that git names it by."""
    sha256 = hashlib.sha256()
    sha1 = hashlib.sha1(b"blob %d\0" % file.stat().st_size, usedforsecurity=False)
    with file.open("rb") as data:
        while chunk := data.read(1 << 20):
            sha256.update(chunk)
            sha1.update(chunk)
    return sha256.hexdigest(), sha1.hexdigest()


def explain(error: Exception, name: str) -> str:
    """Why the hub does not give a model, in a few words."""
    endpoint = constants.ENDPOINT
    match error:
        case OfflineModeIsEnabled():
            return "HF_HUB_OFFLINE is set; unset it to download"
        case GatedRepoError():
            return f"it is gated: accept its terms at {endpoint}/{name}, then `hf auth login`"
        case RepositoryNotFoundError():
            return f"{endpoint} has no such model, or shows it only after `hf auth login`"
        case RevisionNotFoundError():
            return f"{endpoint} has the model but no such revision"
        case OSError(errno=int()):
            return str(error)
        case HTTPError() | OSError():
            return f"{endpoint} cannot be reached, or fails ({' '.join(str(error).split())[:200]})"
        case _:
            return " ".join(str(error).split())[:300]
