"""Lists of contents and styles written by a chat model, for the ``prompts`` source.

Source: MUMU, section 3.1, whose contents and styles are mined and written by a language model.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from manifests.files import write_atomically
from stages.base import ModelRef, record_rng


class ListError(ValueError):
    """A list that cannot be written; the message says what to do."""


class Kind(StrEnum):
    """What a list is of."""

    CONTENTS = "contents"
    STYLES = "styles"


@dataclass(frozen=True, slots=True, kw_only=True)
class ListRequest:
    """What a list should be.

    Attributes:
        kind: What it is of.
        count: How many texts.
        seed: Of the sampling.
        examples: Texts to write more like; they do not come into the list.
    """

    kind: Kind
    count: int
    seed: int = 0
    examples: Sequence[str] = ()


Ask = Callable[[str, int], str]
"""A chat model: request and seed in, reply out."""

_EACH = 40
"""Texts asked for at once: more make a model repeat itself."""

_SHOWN = 8
"""Examples shown at once, drawn anew for every request."""

_LONGEST = 200
"""Characters of a text; contents and styles together must fit CLIP's 77 tokens."""

_BARREN = 5
"""Replies without anything new after which the model is given up."""

_REQUESTS: Mapping[Kind, str] = {
    Kind.CONTENTS: "Write {each} different descriptions of pictures, of at most fifteen words each. Say what is to be "
    "seen: people, animals, things, places, what they do. Do not say how the picture looks: no style, no medium, no "
    "artist, no camera, no light.",
    Kind.STYLES: "Write {each} different styles that a picture of anything could be made in, of at most eight words "
    "each: medium, technique, period, palette, light. Do not say what is to be seen, and name no living artist.",
}

_NUMBERED = re.compile(r"\s*\d+\s*[.):]\s*(\S.*?)\s*")


def write_list(request: ListRequest, ref: ModelRef, device: str, out: Path) -> None:
    """Have a chat model write a list to a file that is not there yet, a text a line.

    Raises:
        ListError: If the file is there, the model cannot be had, or it does not write enough.
    """
    if out.exists():
        raise ListError(f"{out} is there already: choose another file, or remove it")
    try:
        from stages.models.chat import load_chat

        ask = load_chat(ref, device, "auto")
    except (ValueError, ImportError) as error:
        raise ListError(str(error)) from error
    write_atomically(out, "".join(f"{text}\n" for text in gather(request, ask)).encode())


def gather(request: ListRequest, ask: Ask) -> list[str]:
    """So many different texts, asking as often as it takes; the same for the same request and model.

    Raises:
        ListError: If several replies in a row have nothing new.
    """
    known = {text.casefold() for text in request.examples}
    found: list[str] = []
    turn = barren = 0
    while len(found) < request.count:
        seed = record_rng(request.seed, str(turn), "reply").getrandbits(32)
        new = list(_new(parse(ask(_wording(request, turn), seed)), known))
        turn, barren = turn + 1, 0 if new else barren + 1
        if barren == _BARREN:
            raise ListError(
                f"the model wrote {len(found)} of {request.count} {request.kind}, then nothing new in {_BARREN} "
                "replies: lower --count, give other examples by --about, or take a larger model"
            )
        found += new
    return found[: request.count]


def parse(reply: str) -> Iterator[str]:
    """The texts of a reply: its numbered lines, without number, marks and quotes; what else is said is none."""
    for line in reply.splitlines():
        match = _NUMBERED.fullmatch(line)
        text = " ".join(match[1].replace("*", "").strip("\"'“”‘’").split()).rstrip(" .") if match else ""
        if text and len(text) <= _LONGEST:
            yield text


def _new(texts: Iterator[str], known: set[str]) -> Iterator[str]:
    """Those not known yet; they are then."""
    for text in texts:
        if text.casefold() not in known:
            known.add(text.casefold())
            yield text


def _wording(request: ListRequest, turn: int) -> str:
    lines = [_REQUESTS[request.kind].format(each=_EACH)]
    if request.examples:
        rng = record_rng(request.seed, str(turn), "examples")
        shown = rng.sample(list(request.examples), min(_SHOWN, len(request.examples)))
        lines += ["Examples, which you must not repeat:", *(f"- {text}" for text in shown)]
    return "\n".join([*lines, "Answer with a numbered list, one a line, and nothing else."])
