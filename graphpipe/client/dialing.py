"""From a server's name to a connected socket.

A name may have several addresses, of which some lead nowhere: each gets a head start over the next, and the first that
takes us is the one (the idea of RFC 8305).
"""

from __future__ import annotations

import errno
import os
import selectors
import socket
from collections import deque
from collections.abc import Sequence
from time import monotonic
from typing import Any, cast

from graphpipe.client.address import Address
from graphpipe.client.proxy import Proxy
from graphpipe.memory.rights import take_none

__all__ = ["connected"]

_HEAD_START_S = 0.25

Place = tuple[int, Any]


def connected(address: Address, proxy: Proxy | None, deadline: float) -> socket.socket:
    """A blocking socket that leads to the server, through a proxy's tunnel where that is the way.

    Raises OSError, TimeoutError after the ``deadline`` in monotonic seconds, NoAnswer if a proxy refuses.
    """
    connection = _first(_places(address, proxy), deadline)
    try:
        if proxy is not None and address.tls:
            _tunnel(connection, address, proxy, deadline)
    except BaseException:
        connection.close()
        raise
    return connection


def _places(address: Address, proxy: Proxy | None) -> Sequence[Place]:
    if address.unix_path:
        if not hasattr(socket, "AF_UNIX"):
            raise OSError("Python has no Unix sockets on this system")
        return [(socket.AF_UNIX, address.unix_path)]
    host, port = (address.host, address.port) if proxy is None else (proxy.host, proxy.port)
    return [(family, place) for family, _, _, _, place in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


def _first(places: Sequence[Place], deadline: float) -> socket.socket:
    if len(places) == 1:
        return _only(*places[0], deadline)
    waiting: list[socket.socket] = []
    failure: OSError = TimeoutError()
    try:
        left = deque(places)
        while left or waiting:
            if left:
                try:
                    waiting.append(_begun(*left.popleft()))
                except OSError as error:
                    failure = error
                    continue
            for connection in _ready(waiting, min(deadline, monotonic() + _HEAD_START_S) if left else deadline):
                waiting.remove(connection)
                if (error_number := connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)) == 0:
                    _without_delay(connection)
                    connection.settimeout(max(0.001, deadline - monotonic()))
                    return connection
                connection.close()
                failure = OSError(error_number, os.strerror(error_number))
            if monotonic() >= deadline:
                raise TimeoutError
        raise failure
    finally:
        del failure  # it remembers this frame
        for connection in waiting:
            connection.close()


def _begun(family: int, place: Any) -> socket.socket:
    """A socket on its way to a place."""
    connection = socket.socket(family, socket.SOCK_STREAM)
    connection.setblocking(False)
    error_number = connection.connect_ex(place)
    if error_number not in (0, errno.EINPROGRESS, errno.EWOULDBLOCK):
        connection.close()
        raise OSError(error_number, os.strerror(error_number))
    return connection


def _ready(waiting: Sequence[socket.socket], until: float) -> list[socket.socket]:
    """Those of the sockets that have arrived, or never will; none if that takes too long."""
    with selectors.DefaultSelector() as selector:
        for connection in waiting:
            selector.register(connection, selectors.EVENT_WRITE)
        return [cast(socket.socket, key.fileobj) for key, _ in selector.select(max(0.0, until - monotonic()))]


def _only(family: int, place: Any, deadline: float) -> socket.socket:
    left = deadline - monotonic()
    if left <= 0:
        raise TimeoutError
    connection = socket.socket(family, socket.SOCK_STREAM)
    try:
        take_none(connection)  # a server has none to give us
        connection.settimeout(left)
        connection.connect(place)
        _without_delay(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _without_delay(connection: socket.socket) -> None:
    if connection.family in (socket.AF_INET, socket.AF_INET6):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _tunnel(connection: socket.socket, address: Address, proxy: Proxy, deadline: float) -> None:
    """Have the proxy lead on to the server."""
    connection.settimeout(max(0.001, deadline - monotonic()))
    connection.sendall(proxy.connect_request(address))
    received = b""
    while not proxy.tunnel_is_open(received):
        connection.settimeout(max(0.001, deadline - monotonic()))
        # A byte at a time: what comes behind the head is the server's.
        came = connection.recv(1)
        if not came:
            raise ConnectionResetError(errno.ECONNRESET, f"the proxy {proxy.shown} closed the connection")
        received += came
