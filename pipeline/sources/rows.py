"""Rows as sources make them: metadata values become a record, and what cannot be had becomes a verdict."""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from manifests.files import AnyPath
from manifests.record import Record, Row, Verdict
from pipeline.sources.annotations import grit_annotations
from pipeline.sources.base import Part, SourceError
from pipeline.sources.columns import is_unicode, read_id, read_score, read_size, read_text
from pipeline.sources.paths import FileError
from pipeline.sources.trees import Tree

NODE = "source"
"""What stands as the node in verdicts of sources."""

_REASONS: Mapping[str, str] = {
    "bad_json": "The sample's JSON member is not a JSON object.",
    "bad_text": "The URL or the caption is not valid Unicode.",
    "missing_file": "The image or caption file is not there, or cannot be read.",
    "no_image": "The sample has no image, or an empty one.",
    "no_url": "The row has no URL.",
    "truncated": "The tar ends, or is damaged, in or right after this sample.",
    "unreadable_row_group": "The row stands in a part of a Parquet file that is damaged; the other parts are read.",
    "unsafe_path": "The file name leads out of its folder.",
}
_READERS: Mapping[str, Callable[[object], object]] = {
    "source_id": read_id,
    "url": read_text,
    "alt_text": read_text,
    "stated_width": read_size,
    "stated_height": read_size,
    "aesthetic": read_score,
    "similarity": read_score,
    "watermark": read_score,
    "nsfw": read_score,
    "group": read_id,
}


def reasons(*names: str) -> dict[str, str]:
    """What these reasons to fail a row mean, each in a line for people."""
    return {name: _REASONS[name] for name in names}


def make_row(part: Part, row: int, values: Mapping[str, object], chunks: Iterable[object] = ()) -> Row:
    """A row from raw values by record field; failed as ``bad_text`` where its words are not Unicode.

    Args:
        part: Where it comes from.
        row: Its position there.
        values: Raw values by record field: text, bytes, numbers or ``None``.
        chunks: GRIT's lists of boxes.
    """
    record = Record(
        key=part.key(row),
        source=part.name,
        row=row,
        **{field: _READERS[field](value) for field, value in values.items()},  # type: ignore[arg-type]
    )
    made = Row(record=replace(record, annotations=grit_annotations(record.alt_text, chunks)))
    bad = [field for field in ("url", "alt_text") if not is_unicode(values.get(field))]
    return fail(made, "bad_text", f"{' and '.join(bad)}: not valid Unicode: {values[bad[0]]!r:.80}") if bad else made


def fail(row: Row, reason: str, message: str) -> Row:
    """The row, failed for a reason that the source declares."""
    return replace(row, verdict=Verdict(kind="failed", node=NODE, reason=reason, message=message))


def with_original(row: Row, data: bytes) -> Row:
    """The row with its picture file's bytes and their hash."""
    return replace(row, record=replace(row.record, original=data, sha256=hashlib.sha256(data).hexdigest()))


def changed(path: AnyPath) -> SourceError:
    """What to raise for something that is no longer what was planned."""
    return SourceError(f"{path}: has changed since the run was planned; restore it to resume, or start a new run")


def load_picture(row: Row, root: Tree, name: str, size: int) -> Row:
    """The row with the bytes of the picture ``name`` in ``root``; failed if it could not be read when planned either.

    Args:
        row: One that has failed stays as it is.
        root: The folder.
        name: The file in it.
        size: The file's bytes when the run was planned, -1 if it could not be read.

    Raises:
        SourceError: If the file is no longer what was planned.
    """
    if row.verdict:
        return row
    try:
        data = root.read(name)
    except FileError as error:
        if size >= 0:
            raise changed(root.where / name) from None
        return fail(row, error.reason, str(error))
    if len(data) != size:
        raise changed(root.where / name)
    return with_original(row, data)


def caption_text(data: bytes) -> bytes | None:
    """What a caption file says: without byte-order mark and line ends after it; ``None`` if that is blank."""
    text = data.removeprefix(b"\xef\xbb\xbf").rstrip(b"\r\n")
    return text if text.strip() else None
