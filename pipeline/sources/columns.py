"""What web data sets call their columns, and what their values mean: LAION, COYO, GRIT, img2dataset."""

import sys
from collections.abc import Mapping, Sequence
from typing import TypeAlias, TypeGuard

Columns: TypeAlias = Mapping[str, tuple[str, ...]]
"""Record field -> the columns that fill it: several for ``annotations``, one for any other."""

ALIASES: Mapping[str, tuple[str, ...]] = {
    "source_id": ("id", "sample_id", "hash", "key"),
    "url": ("url",),
    "alt_text": ("text", "caption", "alt_text"),
    "stated_width": ("original_width", "width"),
    "stated_height": ("original_height", "height"),
    "aesthetic": ("aesthetic", "aesthetic_score", "aesthetic_score_laion_v2"),
    # ViT-B/32 first: LAION's own `similarity` is of that model, so one threshold means the same in both.
    "similarity": ("similarity", "clip_similarity_vitb32", "clip_similarity_vitl14"),
    "watermark": ("watermark", "pwatermark", "watermark_score"),
    # Not `nsfw`: in LAION-400M and LAION-2B that column is a word ("UNLIKELY"), not a score.
    "nsfw": ("punsafe", "nsfw_score_opennsfw_v2", "nsfw_score_gantman"),
    "group": ("group", "identity", "album"),
    "annotations": ("noun_chunks", "ref_exps"),
}
"""Record field -> column names in lower case, the preferred first."""


def find_columns(names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The columns that fill record fields, whatever their case; of names that differ only in case, the first."""
    by_alias: dict[str, str] = {}
    for name in names:
        by_alias.setdefault(name.lower(), name)
    found = {field: tuple(by_alias[a] for a in aliases if a in by_alias) for field, aliases in ALIASES.items()}
    return {field: names if field == "annotations" else names[:1] for field, names in found.items() if names}


def read_text(value: object) -> str | None:
    """A text from ``str`` or UTF-8 ``bytes``, what is not Unicode replaced by marks; ``None`` from anything else."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else None


def is_unicode(value: object) -> bool:
    """False for ``bytes`` that are not UTF-8 and for ``str`` with lone surrogates."""
    try:
        if isinstance(value, bytes):
            value.decode()
        elif isinstance(value, str):
            value.encode()
    except UnicodeError:
        return False
    return True


def read_id(value: object) -> str | None:
    """An identifier as text: integers exactly, whole floats as integers, bytes that are not UTF-8 as hex."""
    if isinstance(value, bytes) and not is_unicode(value):
        return value.hex()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value) if _is_number(value) else read_text(value)


def read_size(value: object) -> int | None:
    """Pixels from an integer or float; ``None`` from NaN, zero, less, and what no picture has."""
    return int(value) if _is_number(value) and 1 <= value < 2**31 else None


def read_score(value: object) -> float | None:
    """A finite float; ``None`` from NaN, infinities, words."""
    return float(value) if _is_number(value) else None


def _is_number(value: object) -> TypeGuard[int | float]:
    """True for finite ones; JSON has integers that no float holds."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return -sys.float_info.max <= value <= sys.float_info.max
