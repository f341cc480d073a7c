"""A sample's bytes cut into its members, each checked against the index."""

from zlib_ng import zlib_ng

from training.stream.catalog import Entry
from training.stream.example import SampleError


def cut_members(entry: Entry, data: bytes, verify: bool) -> dict[str, bytes]:
    """The members of a sample by name.

    Args:
        entry: The sample by the index.
        data: Its bytes, from ``entry.offset`` on.
        verify: Compare checksums.

    Raises:
        SampleError: ``duplicate_key``, ``duplicate_member``, ``too_large`` (what the index alone shows), ``truncated``,
            ``empty_member``, ``crc_mismatch``.
    """
    if entry.fault:
        raise SampleError(entry.fault, f"{entry.path}: {entry.key}: {entry.fault.replace('_', ' ')}")
    members = {}
    for name, start, size, crc32 in entry.members:
        part = data[start : start + size]
        if len(part) < size:
            raise SampleError("truncated", f"{entry.path}: {entry.key}.{name} has {len(part)} of {size} bytes")
        if not size:
            raise SampleError("empty_member", f"{entry.path}: {entry.key}.{name} is empty")
        if verify and zlib_ng.crc32(part) != crc32:
            raise SampleError("crc_mismatch", f"{entry.path}: {entry.key}.{name} is not what was written (crc32)")
        members[name] = part
    return members
