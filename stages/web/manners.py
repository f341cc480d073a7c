"""What an answer's headers say of our using it: X-Robots-Tag and TDM-Reservation."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from stages.web.reasons import FetchError
from stages.web.transport import Answer

_VALUED = frozenset({"unavailable_after", "max-snippet", "max-image-preview", "max-video-preview"})
"""Directives that have a value after a colon, as a bot's name has directives."""

_NONE = ("noindex", "nofollow")
"""What ``none`` is short for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manners:
    """Which wishes are followed.

    Attributes:
        bot: Our name, in lower case.
        refused_tags: Directives of ``X-Robots-Tag`` for which a file is left.
        respects_tdm: ``TDM-Reservation: 1`` is one too.
    """

    bot: str
    refused_tags: frozenset[str]
    respects_tdm: bool

    def check(self, answer: Answer) -> None:
        """Refuse an answer that asks not to be used; called before its body is read.

        Raises:
            FetchError: ``robots_tag`` or ``tdm_reservation``, with the header in the message.
        """
        for value in answer.all("x-robots-tag"):
            refused = self.refused_tags.intersection(directives(value, self.bot))
            if refused:
                raise FetchError("robots_tag", f"X-Robots-Tag: {value} ({', '.join(sorted(refused))})")
        if self.respects_tdm and "1" in answer.all("tdm-reservation"):
            policy = answer.first("tdm-policy")
            raise FetchError("tdm_reservation", "TDM-Reservation: 1" + (f", TDM-Policy: {policy}" if policy else ""))


def directives(value: str, bot: str) -> frozenset[str]:
    """The directives of one ``X-Robots-Tag`` that hold for all bots or for ``bot``, in lower case.

    ``none`` is spelled out; ``unavailable_after`` counts as ``noindex`` once its date is past.

    Source: developers.google.com/search/docs/crawling-indexing/robots-meta-tag, "Using the X-Robots-Tag HTTP header".
    """
    ours = (directive for name, directive in _split(value.lower()) if name in ("", "*", bot))
    return frozenset(word for directive in ours for word in _words(directive))


def _split(value: str) -> Iterator[tuple[str, str]]:
    """Each directive with the bot it is for; a bot's name holds up to the next."""
    bot = ""
    for part in _parts(value):
        name, colon, rest = (piece.strip() for piece in part.partition(":"))
        if colon and name not in _VALUED:
            bot, part = name, rest
        yield bot, part


def _parts(value: str) -> Iterator[str]:
    """A header's parts at its commas, but for the one in a date such as ``Sun, 25 Jun 2010 15:00:00 GMT``."""
    pieces = iter(value.split(","))
    for piece in pieces:
        is_cut_date = "unavailable_after" in piece and not any(letter.isdigit() for letter in piece)
        yield (f"{piece},{next(pieces, '')}" if is_cut_date else piece).strip()


def _words(directive: str) -> Iterable[str]:
    name, _, value = (piece.strip() for piece in directive.partition(":"))
    if name == "unavailable_after":
        return ("noindex",) if _is_past(value) else ()
    return (*_NONE, name) if name == "none" else (name,)


def _is_past(text: str) -> bool:
    """Whether a date is past; one that cannot be read is not."""
    for read in (parsedate_to_datetime, datetime.fromisoformat):
        try:
            date = read(text.upper())
        except (ValueError, OverflowError):
            continue
        return (date if date.tzinfo else date.replace(tzinfo=UTC)) < datetime.now(UTC)
    return False
