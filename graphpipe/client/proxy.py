"""The proxy on the way to a server, by the platform's convention: HTTP_PROXY, HTTPS_PROXY and NO_PROXY, or what the
system's settings say where there are any. Never for loopback, nor for a Unix socket.
"""

from __future__ import annotations

import base64
import ipaddress
import os
import sys
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from graphpipe.arguments import came
from graphpipe.client.address import Address
from graphpipe.errors import NoAnswer

__all__ = ["Proxy"]

_HEAD_BYTES_MAX = 64 * 1024


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy that is spoken to in plain HTTP. ``shown`` has no password in it."""

    host: str
    port: int
    login: str
    shown: str

    @classmethod
    def for_address(cls, address: Address, given: str | None) -> Proxy | None:
        """The proxy ``given``, the platform's if that is None, or none if it is empty. Raises ValueError."""
        if given is not None and not isinstance(given, str):
            raise ValueError(f"proxy is a URL, or empty for none; {came(given)}")
        if address.unix_path:
            return None
        url = given if given is not None else _of_platform(address)
        if not url:
            return None
        try:
            parts = urlsplit(url if "://" in url else f"http://{url}")
            port = parts.port
            host = parts.hostname if parts.scheme == "http" else None
        except ValueError:
            host = None
        if not host:
            raise ValueError("a proxy's URL is http://HOST:PORT, with a login if it needs one; " + _where(given))
        login = ""
        if parts.username is not None:
            words = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            login = base64.b64encode(words.encode()).decode()
        return cls(host, port or 80, login, f"http://{host}:{port or 80}")

    @property
    def line(self) -> str:
        """The header that tells it who asks; empty if nobody does."""
        return f"Proxy-Authorization: Basic {self.login}\r\n" if self.login else ""

    def connect_request(self, address: Address) -> bytes:
        """What opens a tunnel to a server."""
        host = f"[{address.host}]" if ":" in address.host else address.host
        return f"CONNECT {host}:{address.port} HTTP/1.1\r\nHost: {host}:{address.port}\r\n{self.line}\r\n".encode()

    def tunnel_is_open(self, received: bytes) -> bool:
        """Whether the answer to ``connect_request`` is whole and good. Raises NoAnswer if it is not good."""
        if b"\r\n\r\n" not in received:
            if len(received) > _HEAD_BYTES_MAX:
                raise NoAnswer(f"the proxy {self.shown} answered with an endless head")
            return False
        status = received.split(b"\r\n", 1)[0].split(b" ", 2)
        if len(status) < 2 or not status[0].startswith(b"HTTP/1.") or not status[1].startswith(b"2"):
            line = received.split(b"\r\n", 1)[0][:80].decode("latin-1")
            raise NoAnswer(f"the proxy {self.shown} opened no way to the server: {line!r}")
        return True


def _where(given: str | None) -> str:
    return "that is not what came" if given is not None else "that is not what the environment has"


def _of_platform(address: Address) -> str:
    settings_elsewhere = sys.platform in ("win32", "darwin")
    if not settings_elsewhere and not any(name.lower().endswith("_proxy") for name in os.environ):
        return ""
    if _is_loopback(address.host):
        return ""
    from urllib.request import getproxies, proxy_bypass  # a third of a client's import, and rarely needed

    if proxy_bypass(f"{address.host}:{address.port}") or proxy_bypass(address.host):
        return ""
    proxies = getproxies()
    return proxies.get("https" if address.tls else "http") or proxies.get("all", "")


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
