"""What a caller may send along, who is told, and what refusals say besides."""

import asyncio
import http.server
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

import graphpipe
from graphpipe import errors
from tests.canned import Caller, Canned, answer, canned, outputs

X = np.arange(3, dtype=np.float32)


def call_blocking(url: str, options: dict[str, Any], **call: Any) -> Any:
    with graphpipe.Client(url, **options) as client:
        return client.execute(X, **call)


def call_async(url: str, options: dict[str, Any], **call: Any) -> Any:
    async def run() -> Any:
        async with graphpipe.AsyncClient(url, **options) as client:
            return await client.execute(X, **call)

    return asyncio.run(run())


Call = Callable[..., Any]


@pytest.fixture(params=[call_blocking, call_async], ids=["blocking", "async"])
def call(request: pytest.FixtureRequest) -> Call:
    made: Call = request.param
    return made


@contextmanager
def heads(raw: bytes = b"") -> Iterator[tuple[Canned, list[bytes]]]:
    """A server that keeps the heads of its requests."""
    kept: list[bytes] = []

    def talk(caller: Caller) -> None:
        while caller.read_request():
            kept.append(caller.head)
            caller.send(raw or answer(outputs(X)))

    with canned(talk) as server:
        yield server, kept


def fields(head: bytes) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in head.decode("latin-1").split("\r\n")[1:]:
        name, _, value = line.partition(": ")
        found.setdefault(name.lower(), []).append(value)
    return found


def test_own_headers_are_sent_once_each_and_a_calls_take_the_place_of_its_clients(call: Call) -> None:
    with heads() as (server, kept):
        options = {"headers": {"user-agent": "mine", "X-Team": "a"}, "api_key": "k3y"}
        call(server.url, options, headers={"x-team": "b", "traceparent": "00-1-2-01"})
        call(server.url, options)
    first, second = map(fields, kept)
    assert (first["user-agent"], first["x-team"], first["traceparent"]) == (["mine"], ["b"], ["00-1-2-01"])
    assert (second["x-team"], second["authorization"]) == (["a"], ["Bearer k3y"])
    assert "traceparent" not in second
    assert all(len(values) == 1 for head in (first, second) for values in head.values())


def test_a_login_in_the_url_becomes_basic_and_is_never_shown(call: Call) -> None:
    with heads() as (server, kept):
        url = server.url.replace("http://", "http://ada:s%C3%A9cret@")
        call(url, {})
        assert fields(kept[0])["authorization"] == ["Basic YWRhOnPDqWNyZXQ="]
        call(url, {"api_key": "k"})
        assert fields(kept[1])["authorization"] == ["Bearer k"]
    client = graphpipe.Client("http://ada:s3cret@127.0.0.1:1")
    assert "s3cret" not in repr(client) + client.url
    with pytest.raises(graphpipe.Unreachable) as failure:
        client.execute(X)
    assert "s3cret" not in str(failure.value)


@pytest.mark.parametrize(
    ("headers", "words"),
    [
        ({"Content-Length": "5"}, "cannot be set"),
        ({"transfer-encoding": "chunked"}, "cannot be set"),
        ({"X": "a\r\nEvil: b"}, "characters that no header can have"),
        ({"X": "a\x00"}, "characters that no header can have"),
        ({"X": "日本"}, "characters that no header can have"),
        ({"a b": "c"}, "cannot be a header's name"),
        ({"a:b": "c"}, "cannot be a header's name"),
        ({"": "c"}, "cannot be a header's name"),
        ({"X": 5}, "is a text; an int came"),
        (["X"], "headers is a dict"),
    ],
)
def test_headers_that_would_change_a_request_are_refused_before_anything_is_sent(headers: Any, words: str) -> None:
    with heads() as (server, kept):
        with pytest.raises(graphpipe.InvalidRequest, match=words):
            graphpipe.Client(server.url, headers=headers)
        for call in (call_blocking, call_async):
            with pytest.raises(graphpipe.InvalidRequest, match=words):
                call(server.url, {}, headers=headers)
    assert kept == []


def test_the_one_line_calls_send_headers_too() -> None:
    with heads() as (server, kept):
        graphpipe.remote.execute(server.url, X, headers={"Authorization": "Bearer a"})
    assert fields(kept[0])["authorization"] == ["Bearer a"]


# --- proxies ----------------------------------------------------------------------------------------------------------


class Tunnel(http.server.BaseHTTPRequestHandler):
    """A proxy: it opens tunnels, and answers plain requests itself."""

    asked: list[str]
    protocol_version = "HTTP/1.1"

    def do_CONNECT(self) -> None:
        self.asked.append(f"CONNECT {self.path} {self.headers.get('Proxy-Authorization')}")
        if self.path.startswith("refused"):
            self.send_error(403)
            return
        host, port = self.path.rsplit(":", 1)
        self.send_response(200)
        self.end_headers()
        with socket.create_connection((host, int(port))) as there:
            there_to_here = threading.Thread(target=self._copy, args=(there, self.connection))
            there_to_here.start()
            self._copy(self.connection, there)
            there_to_here.join()
        self.close_connection = True

    def do_POST(self) -> None:
        self.asked.append(f"POST {self.path} {self.headers.get('Proxy-Authorization')}")
        self.rfile.read(int(self.headers["Content-Length"]))
        body = outputs(X)
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    @staticmethod
    def _copy(one: socket.socket, other: socket.socket) -> None:
        try:
            while data := one.recv(65536):
                other.sendall(data)
            other.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@pytest.fixture
def proxy() -> Iterator[tuple[str, list[str]]]:
    asked: list[str] = []
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), type("OneTunnel", (Tunnel,), {"asked": asked}))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://ada:pw@127.0.0.1:{server.server_address[1]}", asked
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_proxy_gets_plain_requests_whole_and_opens_tunnels_for_tls(
    call: Call, proxy: tuple[str, list[str]], tmp_path: Any
) -> None:
    trustme = pytest.importorskip("trustme")
    import ssl

    url, asked = proxy
    call("http://models.invalid/models/m", {"proxy": url})
    authority = trustme.CA()
    serving, trusting = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), ssl.create_default_context()
    authority.issue_cert("localhost").configure_cert(serving)
    authority.configure_trust(trusting)

    def talk(caller: Caller) -> None:
        while caller.read_request():
            caller.send(answer(outputs(X)))

    with canned(talk, tls=serving) as server:
        port = server.listener.getsockname()[1]
        call(f"https://localhost:{port}", {"proxy": url, "tls": trusting})
    assert asked == ["POST http://models.invalid/models/m Basic YWRhOnB3", f"CONNECT localhost:{port} Basic YWRhOnB3"]
    with pytest.raises(graphpipe.NoAnswer, match="opened no way to the server: 'HTTP/1.1 403 Forbidden'"):
        call("https://refused:1", {"proxy": url})


def test_the_environments_proxy_is_for_others_than_loopback(
    call: Call, proxy: tuple[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, asked = proxy
    monkeypatch.setenv("HTTP_PROXY", url)
    monkeypatch.setenv("http_proxy", url)
    monkeypatch.setenv("no_proxy", "spared.invalid")
    call("http://models.invalid", {})
    assert asked == ["POST http://models.invalid/ Basic YWRhOnB3"]
    with heads() as (server, kept):
        call(server.url, {})
        assert len(kept) == 1
    for spared, options in (("http://spared.invalid", {}), ("http://models.invalid", {"proxy": ""})):
        with pytest.raises(graphpipe.Unreachable):
            call(spared, options)
    assert len(asked) == 1


# --- refusals ---------------------------------------------------------------------------------------------------------

TEXT = "Content-Type: text/plain"
HTML = "Content-Type: text/html; charset=utf-8"
DATES = ("Date: Thu, 26 Nov 2026 10:00:00 GMT", "Retry-After: Thu, 26 Nov 2026 10:00:09 GMT")


@pytest.mark.parametrize(
    ("raw", "kind", "words", "after"),
    [
        (answer(b"busy", "503 X", TEXT, "Retry-After: 7"), graphpipe.Overloaded, "busy", 7),
        (answer(b"busy", "503 X", TEXT), graphpipe.Overloaded, "busy", None),
        (answer(b"busy", "429 X", TEXT, "Retry-After: 7"), graphpipe.Overloaded, "busy", 7),
        (answer(b"busy", "429 X", TEXT, *DATES), graphpipe.Overloaded, "busy", 9),
        (answer(b"busy", "429 X", TEXT, "Retry-After: -1"), graphpipe.Overloaded, "busy", None),
        (answer(b"busy", "429 X", TEXT, "Retry-After: 99999999999"), graphpipe.Overloaded, "busy", 86400),
        (
            answer(b"<html>", "413 X", HTML, "Server: nginx/1.22"),
            graphpipe.TooLarge, "nginx answered 413: is its client_max_body_size too small?", None,
        ),
        (
            answer(b"<html>", "502 X", HTML),
            graphpipe.UpstreamFailed, "something in between answered 502 Bad Gateway", None,
        ),
    ],
)  # fmt: skip
def test_a_refusal_says_when_to_try_again_and_who_spoke(
    call: Call, raw: bytes, kind: type[graphpipe.ServiceError], words: str, after: float | None
) -> None:
    with heads(raw) as (server, _), pytest.raises(kind) as refused:
        call(server.url, {})
    assert type(refused.value) is kind
    assert (refused.value.message, refused.value.retry_after_s) == (words, after)
    assert refused.value.safe_to_retry == (kind is graphpipe.Overloaded)


def test_every_error_is_at_the_top_level_and_says_whether_another_try_is_safe() -> None:
    kinds = [name for name in errors.__all__ if isinstance(getattr(errors, name), type)]
    assert len(kinds) == 22
    for name in kinds:
        assert getattr(graphpipe, name) is getattr(errors, name)
        assert name in graphpipe.__all__
    safe = {name for name in kinds if getattr(errors, name).safe_to_retry}
    assert safe == {"Overloaded", "NotReady", "Unreachable"}


def test_an_endless_answer_takes_no_more_memory_than_the_limit(call: Call) -> None:
    import tracemalloc

    def talk(caller: Caller) -> None:
        if caller.read_request():
            caller.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            while True:
                caller.send(b"10000\r\n" + bytes(0x10000) + b"\r\n")

    with canned(talk) as server:
        tracemalloc.start()
        try:
            with pytest.raises(graphpipe.NoAnswer, match="more than 16,777,216 bytes"):
                call(server.url, {"answer_bytes_max": 1 << 24})
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert peak < 48 << 20


def test_a_call_after_close_is_an_error() -> None:
    with heads() as (server, kept):
        client = graphpipe.Client(server.url)
        client.execute(X)
        client.close_idle()
        client.execute(X)
        client.close()
        with pytest.raises(graphpipe.GraphPipeError, match="is closed; make another one"):
            client.execute(X)
    assert len(kept) == 2


# --- addresses side by side -------------------------------------------------------------------------------------------


def test_an_address_that_leads_nowhere_does_not_hold_up_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as full, heads() as (server, _):
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        waiting = [socket.socket() for _ in range(4)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(full.getsockname())
        places = [
            (socket.AF_INET, socket.SOCK_STREAM, 0, "", full.getsockname()),
            (socket.AF_INET, socket.SOCK_STREAM, 0, "", server.listener.getsockname()),
        ]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: places)
        assert np.array_equal(graphpipe.Client("http://two.invalid", timeout=20).execute(X), X)
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: places[:1] * 2)
        with pytest.raises(graphpipe.Unreachable, match="in time") as failure:
            graphpipe.Client("http://none.invalid", connect_timeout=0.6).execute(X)
        assert isinstance(failure.value, graphpipe.TimedOut)
        for one in waiting:
            one.close()


# What Windows lacks, taken away before anything of ours is imported.
WITHOUT = """
import select, socket, sys
for name in ("poll", "epoll", "kqueue", "devpoll"):
    vars(select).pop(name, None)
for name in ("AF_UNIX", "TCP_INFO"):
    vars(socket).pop(name, None)
for name in ("fcntl", "resource", "pwd", "grp", "termios", "uvloop"):
    sys.modules[name] = None
class Gone:
    def __get__(self, instance, owner):
        raise AttributeError("sendmsg")
class Without(socket.socket):
    sendmsg = Gone()
socket.socket = Without
import graphpipe, numpy
print(graphpipe.Client(sys.argv[1]).execute(numpy.arange(3, dtype="float32")).tolist())
try:
    graphpipe.Client("unix:/x").execute(numpy.zeros(1))
except graphpipe.Unreachable as error:
    print(error)
"""


def test_the_client_works_where_there_is_no_poll_no_sendmsg_and_no_unix_socket() -> None:
    with heads() as (server, kept):
        ended = subprocess.run(
            [sys.executable, "-c", WITHOUT, server.url], capture_output=True, text=True, timeout=60, check=False
        )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.startswith(
        "[0.0, 1.0, 2.0]\nno connection to unix:/x: Python has no Unix sockets on this system"
    )
    assert len(kept) == 1


def test_a_thousand_clients_leave_no_thread_and_no_descriptor(tmp_path: Any) -> None:
    trustme = pytest.importorskip("trustme")
    import os
    import ssl

    authority = trustme.CA()
    serving, trusting = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), ssl.create_default_context()
    authority.issue_cert("localhost").configure_cert(serving)
    authority.configure_trust(trusting)

    def talk(caller: Caller) -> None:
        while caller.read_request():
            caller.send(answer(outputs(X)))

    def open_now() -> tuple[int, int]:
        return len(os.listdir("/proc/self/fd")), threading.active_count()

    async def many(url: str, options: dict[str, Any]) -> None:
        for _ in range(250):
            async with graphpipe.AsyncClient(url, **options) as client:
                await client.execute(X)

    with canned(talk) as plain, canned(talk, tls=serving) as secure:
        port = secure.listener.getsockname()[1]
        places: list[tuple[str, dict[str, Any]]] = [(plain.url, {}), (f"https://localhost:{port}", {"tls": trusting})]
        for url, options in places:
            call_blocking(url, options)
            call_async(url, options)
        before = open_now()
        for url, options in places:
            for _ in range(250):
                call_blocking(url, options)
            asyncio.run(many(url, options))
        for _ in range(400):  # the server by hand has a thread and a socket for each until it has seen it go
            if (after := open_now())[0] <= before[0] and after[1] <= before[1]:
                break
            threading.Event().wait(0.025)
        assert after[0] <= before[0]
        assert after[1] <= before[1]


def test_a_proxy_that_cannot_be_reached_is_named_and_not_the_server_blamed(call: Call) -> None:
    with pytest.raises(graphpipe.Unreachable, match=r"by way of the proxy http://127\.0\.0\.1:1: .*is a proxy running"):
        call("http://models.invalid", {"proxy": "http://ada:pw@127.0.0.1:1"})
    with pytest.raises(ValueError, match="a proxy's URL is http://HOST:PORT"):
        call("http://models.invalid", {"proxy": "http://[::1"})
