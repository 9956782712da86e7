"""How far a download may reach: where its user sent it, and no place inside that a stranger's redirect names.

A URL is the user's own word, and may be of any address: the machine's own, the company's. A redirect is the word of
whoever answers there. It leads to public addresses, or to ones of the same kind as those of the URL itself: not from
the Internet to a private address, not from a company's server to the address where a cloud hands out its keys. A name is
resolved once, what comes of that is looked at, and then that address is connected to, so that a name which means another
place a moment later leads nowhere else.

Through a proxy it is the proxy that resolves names. What is known here of a redirect's host is looked at all the same.
"""

from __future__ import annotations

import http.client
import ipaddress
import socket
import ssl
import threading
import urllib.request
from contextlib import suppress
from typing import Any
from urllib.parse import unquote, urlsplit

__all__ = ["OutOfReach", "Reach", "kind_of_address"]

# Addresses of IPv6 that hold one of IPv4, which is where they lead: 6to4 has its own reading, mapped ones too.
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_NAT64_LOCAL = ipaddress.ip_network("64:ff9b:1::/48")
_COMPATIBLE = ipaddress.ip_network("::/96")
# Between a carrier and its customers: nobody's on the Internet, and Python calls it neither private nor global.
_SHARED = ipaddress.ip_network("100.64.0.0/10")


def kind_of_address(address: str) -> str:
    """Whose an IP address is: ``public``, ``loopback``, ``link-local``, ``private`` or ``reserved``."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour
        if inner is None and (ip in _NAT64 or (ip in _COMPATIBLE and int(ip) > 1)):
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if inner is not None:
            return kind_of_address(str(inner))
    if ip.is_loopback or ip.is_unspecified:  # 0.0.0.0 is this machine too
        return "loopback"
    if ip.is_link_local:
        return "link-local"
    if ip.is_multicast:
        return "reserved"
    if ip in _SHARED or ip in _NAT64_LOCAL or ip.is_private or getattr(ip, "is_site_local", False):
        return "private"
    return "public" if ip.is_global else "reserved"


class OutOfReach(Exception):
    """A redirect leads to where it may not; the words say from where to where."""


class Reach:
    """Where the connections of one download may go. With ``anywhere`` a redirect is followed to any address."""

    def __init__(self, anywhere: bool) -> None:
        self._anywhere = anywhere
        # Of the address that the URL itself led to, by its own name; "public" where only a proxy knows.
        self._own_kind = "public"
        self.redirected = False
        # A second handle of the connection under way: what shuts it down ends whoever reads from it.
        self._connection: socket.socket | None = None
        self._lock = threading.Lock()

    def handlers(self) -> tuple[urllib.request.BaseHandler, ...]:
        """What urllib asks for connections."""
        return _Http(self), _Https(self)

    def cut(self) -> None:
        """End the connection under way, from any thread."""
        with self._lock, suppress(OSError):
            if self._connection is not None:
                self._connection.shutdown(socket.SHUT_RDWR)

    def let_go(self) -> None:
        """Forget the connection under way."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
            self._connection = None

    def connect(self, host: str, port: int, timeout_s: float, proxy: bool) -> socket.socket:
        """A connection to a host, at an address that was looked at. Raises OutOfReach, OSError."""
        failure: OSError | None = None
        for family, kind, protocol, _, place in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
            if self.redirected and not proxy:
                self._look_at(host, str(place[0]))
            connection = socket.socket(family, kind, protocol)
            try:
                connection.settimeout(timeout_s)
                connection.connect(place)
            except OSError as error:
                connection.close()
                failure = error
                continue
            if not self.redirected and not proxy:
                self._own_kind = kind_of_address(str(place[0]))
            self.let_go()
            with self._lock:
                self._connection = connection.dup()
            return connection
        raise failure or OSError(f"{host} has no address")

    def look_at_host(self, host: str) -> None:
        """Look at a host that a proxy will connect to, as far as it is known here. Raises OutOfReach."""
        found: list[str] = []
        with suppress(OSError, UnicodeError):
            found = [str(place[0]) for *_, place in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)]
        kinds = {kind_of_address(address) for address in found}
        if not self.redirected:
            self._own_kind = kinds.pop() if len(kinds) == 1 else "public"
            return
        for address in found:
            self._look_at(host, address)

    def _look_at(self, host: str, address: str) -> None:
        kind = kind_of_address(address)
        if kind not in ("public", self._own_kind) and not self._anywhere:
            where = host if host == address else f"{host}, {address}"
            raise OutOfReach(
                f"redirects from a {self._own_kind} address to a {kind} one ({where}), which is not followed; where that "
                "is as it should be: --download-private"
            )


class _Connection(http.client.HTTPConnection):
    """One that asks Reach for its socket."""

    def __init__(self, host: str, *, reach: Reach, request: urllib.request.Request, **more: Any) -> None:
        super().__init__(host, **more)
        self._reach, self._request = reach, request

    def _reached(self) -> socket.socket:
        request, reach = self._request, self._reach
        tunnel = getattr(request, "_tunnel_host", None)
        # What urllib itself goes by: never whether two spellings of a host are alike.
        proxy = bool(tunnel) or request.has_proxy()
        if proxy:
            # urllib unquotes a host before it uses it.
            reach.look_at_host(unquote(urlsplit(request.full_url).hostname or ""))
        return reach.connect(self.host, self.port, float(self.timeout or 0), proxy)

    def connect(self) -> None:
        """Connect to what was looked at."""
        self._create_connection = lambda *_: self._reached()  # by http.client, in a moment, for what it adds to it
        super().connect()


class _SecureConnection(_Connection, http.client.HTTPSConnection):
    """The same with TLS, whose certificate is for the name, whatever address was looked at."""


class _Http(urllib.request.HTTPHandler):
    def __init__(self, reach: Reach) -> None:
        super().__init__()
        self._reach = reach

    def http_open(self, req: urllib.request.Request) -> Any:
        """Open a URL."""

        def connection(host: str, **more: Any) -> http.client.HTTPConnection:
            return _Connection(host, reach=self._reach, request=req, **more)

        return self.do_open(connection, req)


class _Https(urllib.request.HTTPSHandler):
    def __init__(self, reach: Reach) -> None:
        self._tls = ssl.create_default_context()
        self._tls.set_alpn_protocols(["http/1.1"])
        super().__init__(context=self._tls)
        self._reach = reach

    def https_open(self, req: urllib.request.Request) -> Any:
        """Open a URL."""

        def connection(host: str, **more: Any) -> http.client.HTTPConnection:
            return _SecureConnection(host, reach=self._reach, request=req, **more)

        return self.do_open(connection, req, context=self._tls)
