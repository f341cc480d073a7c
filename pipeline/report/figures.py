"""Numbers as people read them. Number and unit never part at a line's end."""

from datetime import UTC, datetime

_GAP = "\N{NO-BREAK SPACE}"


def number(count: int) -> str:
    """A count with its thousands apart: ``52,310``."""
    return f"{count:,}"


def share(part: float, whole: float) -> str:
    """A part in percent with one decimal: ``12.5 %``; a dash where there is no whole."""
    return f"{100 * part / whole:.1f}{_GAP}%" if whole else "–"


def size(count: int) -> str:
    """Bytes in powers of 1000: ``817 bytes``, ``1.2 GB``."""
    if count < 1000:
        return f"{count}{_GAP}bytes"
    amount = count / 1000
    for unit in ("kB", "MB", "GB"):
        if amount < 999.95:
            return f"{amount:.1f}{_GAP}{unit}"
        amount /= 1000
    return f"{amount:,.1f}{_GAP}TB"


def duration(seconds: float) -> str:
    """Seconds in the one or two units that matter: ``80 ms``, ``4.2 s``, ``3 min 20 s``, ``5 h 12 min``."""
    if seconds < 0.9995:
        return f"{1000 * seconds:.0f}{_GAP}ms"
    if seconds < 9.95:
        return f"{seconds:.1f}{_GAP}s"
    amounts, names = [round(seconds)], ["s", "min", "h", "d"]
    for length in (60, 60, 24):
        amounts[-1:] = [amounts[-1] % length, amounts[-1] // length]
    top = max(place for place, amount in enumerate(amounts) if amount)
    places = [top, top - 1] if top else [0]
    return _GAP.join(f"{amounts[place]:,}{_GAP}{names[place]}" for place in places)


def moment(when: str | datetime) -> str:
    """A point in time: ``2025-03-01 09:00 UTC``."""
    parsed = when if isinstance(when, datetime) else datetime.fromisoformat(when)
    return parsed.astimezone(UTC).strftime(f"%Y-%m-%d %H:%M{_GAP}UTC")
