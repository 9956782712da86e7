"""Copies of a client, by copy and by pickle: a new client with the same options, and connections of its own."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from graphpipe.arguments import came
from graphpipe.client.address import Address

__all__ = ["made_anew", "pickled", "tls_context"]

T = TypeVar("T")


def tls_context(tls: ssl.SSLContext | None, address: Address) -> ssl.SSLContext | None:
    """The context to connect with; None where there is no TLS. Raises TypeError for what is no context."""
    if tls is not None and not isinstance(tls, ssl.SSLContext):
        raise TypeError(f"tls is an ssl.SSLContext, of ssl.create_default_context(cafile=...) say; {came(tls)}")
    return (tls or ssl.create_default_context()) if address.tls else None


def made_anew(kind: Callable[..., T], options: Mapping[str, Any]) -> T:
    """A client with these arguments."""
    return kind(**options)


def pickled(kind: Callable[..., T], options: Mapping[str, Any]) -> tuple[Callable[..., T], tuple[Any, ...]]:
    """What a client's ``__reduce__`` gives. Raises TypeError if it has a TLS context of its own."""
    if options["tls"] is not None:
        # Its keys and its trust lie in OpenSSL's memory.
        name = getattr(kind, "__name__", "a client")
        raise TypeError(
            f"{name} with a TLS context of its own cannot be pickled: Python cannot pickle an SSLContext; "
            "make the client where it is used, or name the certificates in SSL_CERT_FILE and leave tls out"
        )
    return made_anew, (kind, options)
