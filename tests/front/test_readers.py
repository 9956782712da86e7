"""An answer goes out as long as its reader goes on, and no longer, whichever way the request came in."""

from __future__ import annotations

import gc
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
import trustme

from tests.front.servers import UPGRADE, Function, InProcess, in_process
from tests.front.test_room import WAYS, held, message, request, until

MIB = 1 << 20
ANSWER_BYTES = 12 * MIB


@pytest.fixture(autouse=True)
def without_collector() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module", params=["tcp", "tls", "unix", "passing"])
def server(request: pytest.FixtureRequest, authority: trustme.CA, tmp_path_factory: Any) -> Iterator[InProcess]:
    tls = None
    if request.param == "tls":
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(tls)
    folder: Path = tmp_path_factory.mktemp("s")

    def much(inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"y": np.zeros(ANSWER_BYTES, np.uint8)}

    listen = f"unix:{folder}/s" if request.param in ("unix", "passing") else "127.0.0.1:0"
    with in_process({"m": Function(much)}, listen=listen, tls=tls, send_timeout_s=0.5) as running:
        running.passing = request.param == "passing"
        yield running


def connect(server: InProcess, authority: trustme.CA) -> socket.socket:
    """A connection that the kernel buffers little of."""
    url = urlsplit(server.url)
    is_unix = server.url.startswith("unix:")
    connection = socket.socket(socket.AF_UNIX if is_unix else socket.AF_INET)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * 1024)
    connection.settimeout(20)
    if is_unix:
        connection.connect(server.url[len("unix:") :])
        if server.passing:
            connection.sendall(UPGRADE)
            assert connection.recv(4096).startswith(b"HTTP/1.1 101 ")
        return connection
    connection.connect((url.hostname, url.port))
    if url.scheme == "https":
        trusting = ssl.create_default_context()
        authority.configure_trust(trusting)
        return trusting.wrap_socket(connection, server_hostname="127.0.0.1")
    return connection


def test_a_steady_slow_reader_gets_its_whole_answer(server: InProcess, authority: trustme.CA) -> None:
    """Four times as long as nothing may move. The ways at once, since each takes its time."""
    got: dict[str, int] = {}

    def read(way: str) -> None:
        with connect(server, authority) as connection:
            connection.sendall(request(way, message()))
            began, count = time.monotonic(), 0
            while count < ANSWER_BYTES:
                piece = connection.recv(256 * 1024)
                if not piece:
                    break
                count += len(piece)
                time.sleep(max(0.0, began + 2.0 * count / ANSWER_BYTES - time.monotonic()))
            got[way] = count

    readers = [threading.Thread(target=read, args=(way,)) for way in WAYS]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    assert {way: got[way] >= ANSWER_BYTES for way in WAYS} == dict.fromkeys(WAYS, True)
    until(lambda: held(server) == 0)


def test_a_reader_who_stops_is_cut_and_nothing_is_kept_for_him(server: InProcess, authority: trustme.CA) -> None:
    connections = []
    for way in WAYS:
        connection = connect(server, authority)
        connection.sendall(request(way, message()))
        connections.append(connection)
        assert b" 200 OK" in connection.recv(100)
    assert held(server) > MIB
    until(lambda: server.ask(server.app.state.connections) == 0)
    until(lambda: held(server) == 0)
    for connection in connections:
        connection.close()
