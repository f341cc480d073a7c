"""TLS, always verified."""

import ssl
from collections.abc import Sequence


def verifying_context(ca_file: str | None, protocols: Sequence[str]) -> ssl.SSLContext:
    """A client's context that verifies certificates and host names.

    Args:
        ca_file: PEM file of authorities to trust beside the system's.
        protocols: Offered by ALPN, the dearest first.

    Raises:
        ValueError: If ``ca_file`` cannot be read or holds no certificate.
    """
    context = ssl.create_default_context()
    if ca_file:
        try:
            context.load_verify_locations(ca_file)
        except OSError as error:  # SSLError, too
            raise ValueError(f"ca_file: {ca_file} is no PEM file of certificates that can be read: {error}") from error
    context.set_alpn_protocols(list(protocols))
    return context
