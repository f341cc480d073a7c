"""Every class of bad input: the row, how its URL is served, and what is right to do with it."""

from dataclasses import dataclass
from enum import StrEnum

CAPTION = "rolling hills under a wide sky"


class Serve(StrEnum):
    """What the server does when it is asked for a file."""

    PLAIN = "plain"
    AS_JPEG = "as_jpeg"
    EMPTY = "empty"
    SHORT = "short"
    ENDLESS = "endless"
    DRIP = "drip"
    HANG = "hang"
    LOOP = "loop"
    TO_PRIVATE = "to_private"
    TO_LINK_LOCAL = "to_link_local"
    TO_FILE = "to_file"
    GZIP = "gzip"
    STATUS_404 = "404"
    STATUS_500 = "500"
    ONCE_503 = "once_503"
    ONCE_429 = "once_429"
    NOAI = "noai"
    OTHER_BOT = "other_bot"
    RESERVED = "reserved"


@dataclass(frozen=True, slots=True)
class Case:
    """A row.

    Attributes:
        name: The class of input.
        reasons: Reasons that are right to reject it for; none: it is to be kept.
        file: Kind of its picture, of ``pictures.MAKERS``.
        serve: What the server does.
        url: The URL where it is none of our server's: ``{base}`` stands for the server, ``{refused}`` for a port that
            nobody listens on, ``{secret}`` for the path of a picture on this machine, ``{path}`` for its usual path.
        caption: Its caption; ``said`` what that is in the shard.
        is_slow: It takes seconds by its nature, and is left out of the quick scorecard.
        repeats: The number of the row, counted from this one backwards, whose URL it has.
    """

    name: str
    reasons: tuple[str, ...] = ()
    file: str = "jpeg"
    serve: Serve = Serve.PLAIN
    url: str | None = "{base}{path}"
    caption: str | None = CAPTION
    said: str = CAPTION
    is_slow: bool = False
    repeats: int = 0


_SCHEME = ("scheme_refused", "bad_url")

_PRIVATE = ("private_address",)

CASES: tuple[Case, ...] = (
    Case("ordinary JPEG"),
    Case("16-bit gray PNG", file="deep_gray"),
    Case("16-bit RGB PNG", file="deep_rgb"),
    Case("float gray TIFF", file="float_gray"),
    Case("float RGB TIFF", file="float_rgb"),
    Case("EXIF-rotated JPEG", file="rotated"),
    Case("CMYK JPEG", file="cmyk"),
    Case("palette PNG with alpha", file="palette_alpha"),
    Case("gray PNG with alpha", file="gray_alpha"),
    Case("animated GIF", file="animated_gif"),
    Case("animated WebP", file="animated_webp"),
    Case("WebP", file="webp"),
    Case("AVIF", file="avif"),
    Case("1-bit PNG", file="bilevel"),
    Case("JPEG with a Display P3 profile", file="display_p3"),
    Case("PNG with an sRGB profile", file="tagged_srgb"),
    Case("PNG of linear light (gAMA)", file="linear_png"),
    Case("ICO", ("unsupported_format",), "icon"),
    Case("SVG", ("not_an_image",), "svg"),
    Case("1 x 1 tracker", ("too_small",), "tracker"),
    Case("flat placeholder", ("flat",), "flat"),
    Case("40:1 banner", ("extreme_aspect",), "banner"),
    Case("16,000 x 16,000 PNG of 250 kB", ("bomb",), "bomb"),
    Case("HTML as image/jpeg", ("not_an_image",), "html", Serve.AS_JPEG),
    Case("empty body", ("empty",), serve=Serve.EMPTY),
    Case("truncated half", ("truncated",), "half"),
    Case("truncated tail", ("truncated",), "no_tail"),
    Case("body shorter than stated", ("short_body",), serve=Serve.SHORT),
    Case("endless body, 400 MB", ("too_large",), serve=Serve.ENDLESS),
    Case("1 byte a second", ("timeout",), serve=Serve.DRIP, is_slow=True),
    Case("hang", ("timeout",), serve=Serve.HANG, is_slow=True),
    Case("redirect loop", ("too_many_redirects",), serve=Serve.LOOP),
    Case("redirect to a private address", _PRIVATE, serve=Serve.TO_PRIVATE),
    Case("redirect to a link-local address", _PRIVATE, serve=Serve.TO_LINK_LOCAL),
    Case("redirect to file://", _SCHEME, serve=Serve.TO_FILE),
    Case("gzip Content-Encoding", serve=Serve.GZIP),
    Case("404", ("http_404",), serve=Serve.STATUS_404),
    Case("500", ("http_5xx",), serve=Serve.STATUS_500),
    Case("503, then 200", serve=Serve.ONCE_503),
    Case("429 with Retry-After, then 200", serve=Serve.ONCE_429),
    Case("connection refused", ("connect",), url="http://127.0.0.1:{refused}/a.jpg"),
    Case("bad DNS", ("dns",), url="http://no-such-host.invalid/a.jpg"),
    Case("private address", _PRIVATE, url="http://10.255.255.1/a.jpg"),
    Case("file:// URL", _SCHEME, url="file://{secret}"),
    Case("path of a file as URL", _SCHEME, url="{secret}"),
    Case("data: URL", _SCHEME, url="data:image/gif;base64,R0lGODlhAQABAAAAACH5BAEKAAEALAAAAAABAAEAAAICTAEAOw=="),
    Case("URL without scheme", _SCHEME, url="example.org/a.jpg"),
    Case("null URL", ("no_url",), url=None),
    Case("empty URL", ("no_url",), url=""),
    Case("non-ASCII URL", url="{base}{path}?größe=Ünïcode/例"),
    Case("URL with spaces", url=" {base}{path}?a name with spaces "),
    Case("duplicate URL, first"),
    Case("duplicate URL, second", ("duplicate_url",), repeats=1),
    Case("X-Robots-Tag: noai", ("robots_tag",), serve=Serve.NOAI),
    Case("X-Robots-Tag for another bot", serve=Serve.OTHER_BOT),
    Case("TDM-Reservation: 1", ("tdm_reservation",), serve=Serve.RESERVED),
    Case("null caption", ("no_caption",), caption=None),
    Case("empty caption", ("no_caption",), caption=""),
    Case("caption with NUL", caption="hills\0 and sky", said="hills and sky"),
    Case("caption with a line end", caption="hills\nand sky", said="hills and sky"),
    Case("caption with emoji", caption="hills 🏔️ and sky 🌤", said="hills 🏔️ and sky 🌤"),
)


def quick_cases() -> tuple[Case, ...]:
    """Those that take no seconds by their nature."""
    return tuple(case for case in CASES if not case.is_slow)
