"""What a client is made with: checked in one place, for the blocking and the asynchronous one."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from graphpipe.arguments import came, seconds, whole
from graphpipe.client.address import Address
from graphpipe.client.headers import Headers, own_headers
from graphpipe.client.proxy import Proxy

__all__ = ["ANSWER_BYTES_MAX", "Options", "made_anew", "pickled"]

T = TypeVar("T")

ANSWER_BYTES_MAX = 1 << 30


@dataclass(frozen=True, slots=True, repr=False)
class Options:
    """A client's options, as its calls use them; ``given`` is what makes another client with the same.

    Raises ValueError, TypeError or InvalidRequest for what cannot be one.
    """

    address: Address
    timeout: float
    connect_timeout: float
    answer_bytes_max: int
    tls: ssl.SSLContext | None
    proxy: Proxy | None
    headers: Headers
    given: Mapping[str, Any]

    @classmethod
    def of(
        cls,
        url: str,
        *,
        timeout: Any,
        connect_timeout: Any,
        answer_bytes_max: Any,
        tls: Any,
        proxy: Any,
        headers: Any,
        api_key: Any,
        **more: Any,
    ) -> Options:
        """The options of a client; ``more`` is kept for copies of it."""
        address = Address.of(url)
        own = own_headers(headers, api_key)
        way = Proxy.for_address(address, proxy)
        # A proxy wants the whole URL; through a tunnel the server is spoken to as ever.
        target = address.target if way is None or address.tls else f"http://{address.host_header}{address.target}"
        given = {
            "url": url, "timeout": timeout, "connect_timeout": connect_timeout, "answer_bytes_max": answer_bytes_max,
            "tls": tls, "proxy": proxy, "headers": None if headers is None else dict(headers), "api_key": api_key, **more,
        }  # fmt: skip
        return cls(
            address,
            seconds(timeout),
            seconds(connect_timeout, "connect_timeout"),
            whole(answer_bytes_max, "answer_bytes_max"),
            _tls_context(tls, address),
            way,
            Headers(address, own, target, way.line if way is not None and not address.tls else ""),
            given,
        )

    def start(self, headers: Mapping[str, str] | None) -> bytes:
        """What the head of a call begins with that has these headers of its own."""
        return self.headers.start if headers is None else self.headers.with_own(own_headers(headers))


def _tls_context(tls: ssl.SSLContext | None, address: Address) -> ssl.SSLContext | None:
    """The context to connect with; None where there is no TLS. Raises TypeError for what is no context."""
    if tls is not None and not isinstance(tls, ssl.SSLContext):
        raise TypeError(f"tls is an ssl.SSLContext, of ssl.create_default_context(cafile=...) say; {came(tls)}")
    return (tls or ssl.create_default_context()) if address.tls else None


# A copy of a client, by copy or by pickle, is a new client with the same options, and connections of its own.


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
