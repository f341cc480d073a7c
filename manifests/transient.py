"""Which errors of stores and networks may pass: the same call can succeed a little later."""

import errno
import sys
from collections.abc import Mapping

_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})
_ERRNOS = frozenset(
    {
        *(None, errno.EIO, errno.EBUSY, errno.EAGAIN, errno.EINTR, errno.ENETDOWN, errno.ENETUNREACH),
        *(errno.EHOSTUNREACH, getattr(errno, "EREMOTEIO", errno.EIO)),
    }
)

_NO_CREDENTIALS = ("NoCredentialsError", "DefaultCredentialsError")

_Names = Mapping[str, tuple[str, ...]]

_CLIENT_ERRORS: _Names = {
    "aiohttp": ("ClientError",),
    "botocore.exceptions": ("BotoCoreError",),
    "gcsfs.retry": ("HttpError",),
    "google.auth.exceptions": ("GoogleAuthError",),
}
"""Module -> what a store's client raises that is no ``OSError``. Named, not imported: most runs use none of them."""

_PASSING: _Names = {
    "aiohttp": ("ClientConnectionError", "ClientPayloadError"),
    "botocore.exceptions": ("ConnectTimeoutError", "EndpointConnectionError", "HTTPClientError", "IncompleteReadError"),
    "google.auth.exceptions": ("TransportError",),
    "requests.exceptions": ("ChunkedEncodingError", "ConnectionError", "Timeout"),
}


def client_errors() -> tuple[type[Exception], ...]:
    """What a call to a store may raise: ``OSError``, and the errors of those clients that are loaded."""
    return (OSError, *_loaded(_CLIENT_ERRORS))


def is_refusal(error: BaseException) -> bool:
    """Whether credentials are missing or do not suffice."""
    is_forbidden = type(error) is OSError and str(error).startswith("Forbidden:")  # how gcsfs 2025 says 403
    is_unknown = _status(error) == 401
    return isinstance(error, PermissionError) or is_forbidden or is_unknown or type(error).__name__ in _NO_CREDENTIALS


def _status(error: BaseException) -> object:
    """Of HTTP, under the name that the client has for it; aiohttp warns of its ``code``."""
    return next((getattr(error, name) for name in ("status", "status_code", "code") if hasattr(error, name)), None)


def is_transient(error: BaseException) -> bool:
    """Whether the same call may succeed a little later: a lost connection, a timeout, an overloaded server."""
    if is_refusal(error):
        return False
    if isinstance(error, FileNotFoundError) and error.__cause__ is not None:
        return is_transient(error.__cause__)  # fsspec's HTTP calls every failure of a HEAD request "not found"
    status = _status(error)
    if isinstance(status, int):
        return status in _STATUSES
    if isinstance(error, (TimeoutError, ConnectionError, *_loaded(_PASSING))):
        return True
    return isinstance(error, OSError) and type(error) is OSError and error.errno in _ERRNOS


def _loaded(names: _Names) -> tuple[type[Exception], ...]:
    return tuple(
        getattr(sys.modules[module], name) for module in names if module in sys.modules for name in names[module]
    )
