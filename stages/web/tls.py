"""TLS, always verified."""

import ssl
from collections.abc import Sequence


def verifying_context(ca_file: str | None, protocols: Sequence[str]) -> ssl.SSLContext:
    """A client's context that verifies certificates and host names.

    Args:
        ca_file: PEM file of authorities to trust beside the system's.
        protocols: Offered by ALPN, the dearest first.
    """
    context = ssl.create_default_context()
    if ca_file:
        context.load_verify_locations(ca_file)
    context.set_alpn_protocols(list(protocols))
    return context
