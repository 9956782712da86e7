"""One request, one meaning: a table of heads, and what must come, the same on every way into a server."""

from __future__ import annotations

import gzip
import re
import socket
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from graphpipe.server.http.head import HEAD_BYTES_MAX
from graphpipe.version import SERVER
from graphpipe.wire import encode_request
from tests.front.servers import Function, InProcess, Way, in_process
from tests.raw_http import Answer, Wire

BODY = b"".join(encode_request([np.arange(6, dtype=np.float32)], ["x"]))
LENGTH = f"Content-Length: {len(BODY)}"
GZIPPED = gzip.compress(BODY)
ALL = ("hot", "odd", "unix", "passing", "tls", "HTTP/1.0")
NEW = ("hot", "odd", "unix", "passing", "tls")  # what HTTP/1.0 knows nothing of


@dataclass(frozen=True)
class Row:
    """A request, and the status of each answer. ``after`` comes in the same packet; ``stays``: the connection does."""

    first: str
    lines: tuple[str, ...]
    want: tuple[int, ...]
    body: bytes = b""
    after: bytes = b""
    stays: bool = True
    headers: Mapping[str, str] = field(default_factory=dict)
    ways: tuple[str, ...] = ALL
    head_bytes: int = 0  # the head is filled up to so many

    def on(self, way: str) -> bytes:
        """Its bytes."""
        first, lines = self.first, list(self.lines)
        if way == "odd":
            lines.append("TE: trailers")
        if way == "HTTP/1.0":
            first = first.replace("HTTP/1.1", "HTTP/1.0")
            lines.append("Connection: keep-alive")
        head = "\r\n".join([first, *lines, "", ""])
        if self.head_bytes:
            head = head[:-2] + "X: " + "a" * (self.head_bytes - len(head) - 5) + "\r\n\r\n"
            assert len(head) == self.head_bytes
        return head.encode("latin-1") + self.body + self.after


def post(*lines: str, want: tuple[int, ...] = (200,), first: str = "POST / HTTP/1.1", **more: Any) -> Row:
    """An inference."""
    return Row(first, (*lines, LENGTH), want, BODY, **more)


def get(*lines: str, want: tuple[int, ...] = (200,), first: str = "GET / HTTP/1.1", **more: Any) -> Row:
    """Whatever has no body."""
    return Row(first, lines, want, **more)


CHUNKED = b"%x\r\n" % len(BODY) + BODY + b"\r\n0\r\n\r\n"
JUNK = b"\0\1\2 junk\r\n\r\n"

TABLE = {
    "an inference": post("Host: h"),
    "by its name": post("Host: h", first="POST /models/echo HTTP/1.1"),
    "any free path": post("Host: h", first="POST /some/where/else HTTP/1.1"),
    "an empty segment": post("Host: h", first="POST //models/nobody HTTP/1.1"),
    "an unknown model": post("Host: h", first="POST /models/nobody HTTP/1.1", want=(404,)),
    "a reserved path": post("Host: h", first="POST /metrics/x HTTP/1.1", want=(404,)),
    "dots": post("Host: h", first="POST /v2/../models/./echo HTTP/1.1"),
    "dots that lead to a reserved path": post("Host: h", first="POST /x/../metrics/y HTTP/1.1", want=(404,)),
    "dots, escaped": post("Host: h", first="POST /x/%2e%2E/models/nobody HTTP/1.1", want=(404,)),
    "dots to a page": get("Host: h", first="GET /x/../livez HTTP/1.1"),
    "a description": get("Host: h"),
    "a description by its name": get("Host: h", first="GET /models/echo HTTP/1.1"),
    "a page": get("Host: h", first="GET /livez HTTP/1.1"),
    "HEAD of a description": get("Host: h", first="HEAD / HTTP/1.1"),
    "HEAD of a page": get("Host: h", first="HEAD /livez HTTP/1.1"),
    "OPTIONS of a model": get(
        "Host: h", first="OPTIONS / HTTP/1.1", want=(204,), headers={"allow": "GET, HEAD, OPTIONS, POST"}
    ),
    "OPTIONS of a page": get(
        "Host: h", first="OPTIONS /livez HTTP/1.1", want=(204,), headers={"allow": "GET, HEAD, OPTIONS"}
    ),
    "OPTIONS of the server": get(
        "Host: h", first="OPTIONS * HTTP/1.1", want=(204,), headers={"allow": "GET, HEAD, OPTIONS, POST"}
    ),
    "OPTIONS of nothing": get("Host: h", first="OPTIONS /models/nobody HTTP/1.1", want=(404,)),
    "GET of nothing but a star": get("Host: h", first="GET * HTTP/1.1", want=(400,), stays=False),
    "PUT": post("Host: h", first="PUT / HTTP/1.1", want=(405,), headers={"allow": "GET, HEAD, OPTIONS, POST"}),
    "shutdown by GET": get(
        "Host: h", first="GET /control/shutdown HTTP/1.1", want=(405,), headers={"allow": "OPTIONS, POST"}
    ),
    "CONNECT": get("Host: h", first="CONNECT h:80 HTTP/1.1", want=(501,), stays=False, ways=NEW),
    "a method that nobody knows": get("Host: h", first="BREW / HTTP/1.1", want=(400,), stays=False),
    "no host": post(want=(400,), stays=False, ways=NEW),
    "two hosts": post("Host: h", "Host: h", want=(400,), stays=False),
    "no host's name": post("Host: a b", want=(400,), stays=False),
    "a path for a host": post("Host: h/x", want=(400,), stays=False),
    "a host with a bad port": post("Host: h:http", want=(400,), stays=False),
    "a host with a port": post("Host: h:80"),
    "a host in brackets": post("Host: [::1]:80"),
    "a host without a name": post("Host:"),
    "gzip, chunked": Row(
        "POST / HTTP/1.1",
        ("Host: h", "Transfer-Encoding: gzip, chunked"),
        (501,),
        CHUNKED,
        stays=False,
        ways=NEW,
    ),
    "gzip alone": Row(
        "POST / HTTP/1.1", ("Host: h", "Transfer-Encoding: gzip"), (400,), CHUNKED, stays=False, ways=NEW
    ),
    "chunked": Row("POST / HTTP/1.1", ("Host: h", "Transfer-Encoding: chunked"), (200,), CHUNKED, ways=NEW),
    "chunked with a length": Row(
        "POST / HTTP/1.1",
        ("Host: h", "Transfer-Encoding: chunked", LENGTH),
        (400,),
        CHUNKED,
        stays=False,
        ways=NEW,
    ),
    "a body in a coding that nobody knows": post("Host: h", "Content-Encoding: br", want=(415,)),
    "a body that is not in its coding": post("Host: h", "Content-Encoding: gzip", want=(400,)),
    "a compressed body": Row(
        "POST / HTTP/1.1", ("Host: h", "Content-Encoding: gzip", f"Content-Length: {len(GZIPPED)}"), (200,), GZIPPED
    ),
    "HTTP/2 in the first line": post("Host: h", first="POST / HTTP/2.0", want=(505,), stays=False, ways=NEW),
    "HTTP/1.2": post("Host: h", first="POST / HTTP/1.2", want=(505,), stays=False, ways=NEW),
    "HTTP/3 of a page": get("Host: h", first="GET /livez HTTP/3", want=(505,), stays=False, ways=NEW),
    "a target without a path": post("Host: h", first="POST http://h HTTP/1.1"),
    "a target without a path, and a query": get("Host: h", first="GET http://h?x=1 HTTP/1.1"),
    "a target with a host and a path": post("Host: h", first="POST http://h:80/models/echo HTTP/1.1"),
    "a query": post("Host: h", first="POST /models/echo?a=b HTTP/1.1"),
    "an escaped name": post("Host: h", first="POST /models/%65cho HTTP/1.1"),
    "the largest head": post("Host: h", head_bytes=HEAD_BYTES_MAX),
    "a larger head": post("Host: h", head_bytes=HEAD_BYTES_MAX + 1, want=(431,), stays=False),
    "the largest head of a page": get("Host: h", first="GET /livez HTTP/1.1", head_bytes=HEAD_BYTES_MAX),
    "a larger head of a page": get("Host: h", head_bytes=HEAD_BYTES_MAX + 1, want=(431,), stays=False),
    "many fields": post("Host: h", *["X: 1"] * 2000),
    "too many fields": post("Host: h", *["X: 1"] * 3000, want=(431,), stays=False),
    "a request in front of junk": post("Host: h", after=JUNK, want=(200, 400), stays=False),
    "a request in front of a TLS hello": post("Host: h", after=b"\x16\x03\x01\x02\0", want=(200, 400), stays=False),
    "a page in front of junk": get("Host: h", first="GET /livez HTTP/1.1", after=JUNK, want=(200, 400), stays=False),
    "a request in front of another": post("Host: h", after=b"GET /livez HTTP/1.1\r\nHost: h\r\n\r\n", want=(200, 200)),
    "a request in front of HTTP/2": post(
        "Host: h", after=b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", want=(200, 505), stays=False
    ),
    "a request in front of a large head": post(
        "Host: h", after=b"GET / HTTP/1.1\r\nHost: h\r\nX: " + b"a" * 17_000 + b"\r\n\r\n", want=(200, 431), stays=False
    ),
    "a refusal in front of another request": Row(
        "POST / HTTP/1.1",
        ("Host: h", "Content-Length: 4"),
        (400, 200),
        b"junk",
        b"GET /livez HTTP/1.1\r\nHost: h\r\n\r\n",
    ),
    "a request that says what it is called": post("Host: h", "X-Request-Id: a-1", headers={"x-request-id": "a-1"}),
    "a refusal of a request that says what it is called": Row(
        "POST / HTTP/1.1",
        ("Host: h", "X-Request-Id: a-1", "Content-Length: 4"),
        (400,),
        b"junk",
        headers={"x-request-id": "a-1"},
    ),
    "nothing that says what it is called": post(
        "Host: h",
        "X-Request-Id: a-1",
        first="POST /models/nobody HTTP/1.1",
        want=(404,),
        headers={"x-request-id": "a-1"},
    ),
    "HEAD that says what it is called": get(
        "Host: h", "X-Request-Id: a-1", first="HEAD / HTTP/1.1", headers={"x-request-id": "a-1"}
    ),
    "a method that is not served, called something": get(
        "Host: h", "X-Request-Id: a-1", first="PUT /livez HTTP/1.1", want=(405,), headers={"x-request-id": "a-1"}
    ),
    "HTTP/1.2, called something": post(
        "Host: h",
        "X-Request-Id: a-1",
        first="POST / HTTP/1.2",
        want=(505,),
        stays=False,
        ways=NEW,
        headers={"x-request-id": "a-1"},
    ),
    "a body over the limit, called something": Row(
        "POST / HTTP/1.1",
        ("Host: h", "X-Request-Id: a-1", "Content-Length: 99999999"),
        (413,),
        stays=False,
        headers={"x-request-id": "a-1"},
    ),
    "a chunked request that says what it is called": Row(
        "POST / HTTP/1.1",
        ("Host: h", "X-Request-Id: a-1", "Transfer-Encoding: chunked"),
        (200,),
        CHUNKED,
        ways=NEW,
        headers={"x-request-id": "a-1"},
    ),
    "a name for a request that cannot be shown": post(
        "Host: h", "X-Request-Id: a \t\xe9\xff\x9bb", headers={"x-request-id": "a?????b"}
    ),
    "a name for a request that is long": post(
        "Host: h", "X-Request-Id: " + "a" * 5000, headers={"x-request-id": "a" * 128}
    ),
    "a name for a request that is none": post("Host: h", "X-Request-Id:"),
    "a page that says what it is called": get("Host: h", "X-Request-Id: a-1", headers={"x-request-id": "a-1"}),
    "fields that never repeat": post(
        "Host: h",
        "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "GraphPipe-Timeout-Ms: 60000",
        "X-Request-Id: b-2",
        "tracestate: a=b",
        headers={"x-request-id": "b-2"},
    ),
    "a deadline that is no number": post("Host: h", "GraphPipe-Timeout-Ms: soon", want=(400,)),
    "what nobody expects": post("Host: h", "Expect: 200-ok"),
    "a NUL in a field": post("Host: h", "X: a\0b", want=(400,), stays=False),
    "an end of line that is half of one": post("Host: h", "X: a\nb", want=(400,), stays=False),
    "a body that is no message": Row("POST / HTTP/1.1", ("Host: h", "Content-Length: 9"), (400,), b"not a msg"),
    "a body over the limit": Row(
        "POST / HTTP/1.1", ("Host: h", "Content-Length: 99999999"), (413,), b"", stays=False, ways=ALL
    ),
}


def answers(wire: Wire, row: Row) -> list[Answer]:
    """The answers to a row, interim ones left out."""
    found: list[Answer] = []
    while len(found) < len(row.want):
        answer = wire.answer(to_head=row.first.startswith("HEAD") and not found)
        if answer.status >= 200:
            found.append(answer)
    return found


# A row's answers on the first way that it was tried on: what they say must not depend on the way.
_said: dict[str, list[tuple[int, bytes]]] = {}


@pytest.mark.parametrize(("name", "way"), [(name, way) for name, row in TABLE.items() for way in row.ways])
def test_a_request_means_the_same_on_every_way(ways: dict[str, Way], name: str, way: str) -> None:
    row = TABLE[name]
    with ways[way].wire() as wire:
        wire.send(row.on(way))
        found = answers(wire, row)
        assert tuple(answer.status for answer in found) == row.want
        assert {answer.headers["server"] for answer in found} == {SERVER}
        assert row.headers.items() <= found[0].headers.items()
        for answer in found:
            if answer.status >= 400:
                assert answer.headers["content-type"] == "text/plain; charset=utf-8"
                assert answer.body.endswith(b"\n") or not answer.body
        said = [(answer.status, answer.body) for answer in found if b"this " not in answer.body[:5]]  # parser's words
        assert said == _said.setdefault(name, said)
        if row.stays:
            wire.send(b"GET /livez HTTP/1.1\r\nHost: h\r\n\r\n")
            assert wire.answer().text == "ok\n"
        else:
            assert found[-1].headers.get("connection", "close" if way == "HTTP/1.0" else "") == "close"
            # TLS knows no end of one direction alone: who was refused is listened to for a while there.
            assert way == "tls" or wire.ended()


@pytest.mark.parametrize("way", ["hot", "odd"])
def test_whoever_speaks_http_1_0_is_never_told_to_continue(ways: dict[str, Way], way: str) -> None:
    row = Row("POST / HTTP/1.0", ("Host: h", LENGTH, "Expect: 100-continue"), (200,))
    with ways[way].wire() as wire:
        wire.send(row.on(way))
        wire.send(BODY)
        assert wire.answer().status == 200


@pytest.mark.parametrize("way", ["hot", "odd", "unix", "passing"])
@pytest.mark.parametrize("name", ["an inference", "a description", "chunked", "a request in front of another"])
def test_a_caller_who_has_said_all_and_closes_his_side_gets_his_answer(
    ways: dict[str, Way], name: str, way: str
) -> None:
    row = TABLE[name]
    with ways[way].wire() as wire:
        wire.send(row.on(way))
        wire.socket.shutdown(socket.SHUT_WR)
        assert tuple(answer.status for answer in answers(wire, row)) == row.want
        assert wire.ended()


@pytest.mark.parametrize("way", ["hot", "odd", "unix", "passing"])
def test_half_a_request_is_not_waited_for_once_its_sender_has_closed_his_side(ways: dict[str, Way], way: str) -> None:
    for cut in (-1, -len(BODY), -len(BODY) - 10):
        with ways[way].wire() as wire:
            wire.send(TABLE["an inference"].on(way)[:cut])
            wire.socket.shutdown(socket.SHUT_WR)
            assert wire.ended()


@pytest.mark.parametrize("way", ["hot", "odd", "unix", "passing", "HTTP/1.0"])
@pytest.mark.parametrize("how", ["by a reset", "in silence", "after he closed his side"])
def test_a_caller_who_is_gone_is_noticed_while_his_model_runs(tmp_path: Path, way: str, how: str) -> None:
    may_go, began = threading.Event(), threading.Event()

    def slow(inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        began.set()
        assert may_go.wait(20)
        return {"y": inputs["x"]}

    listen = f"unix:{tmp_path}/s" if way in ("unix", "passing") else "127.0.0.1:0"
    with in_process({"m": Function(slow)}, listen=listen) as server:
        try:
            with Way(server, passing=way == "passing").wire() as wire:
                wire.send(TABLE["an inference"].on(way))
                assert began.wait(10)
                if how == "by a reset" and way not in ("unix", "passing"):
                    wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                if how == "after he closed his side":
                    wire.socket.shutdown(socket.SHUT_WR)
                    server.pass_time()
            server.pass_time()
            until(lambda: server.ask(lambda: server.app.state.in_flight) == 0)
        finally:
            may_go.set()


@pytest.mark.parametrize("way", ["hot", "odd", "unix", "passing"])
def test_a_caller_who_closed_his_side_is_waited_for_as_long_as_his_model_takes(tmp_path: Path, way: str) -> None:
    may_go = threading.Event()

    def slow(inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        assert may_go.wait(20)
        return {"y": inputs["x"]}

    listen = f"unix:{tmp_path}/s" if way in ("unix", "passing") else "127.0.0.1:0"
    with (
        in_process({"m": Function(slow)}, listen=listen) as server,
        Way(server, passing=way == "passing").wire() as wire,
    ):
        row = TABLE["an inference"]
        wire.send(row.on(way))
        wire.socket.shutdown(socket.SHUT_WR)
        server.pass_time(4)
        may_go.set()
        assert [answer.status for answer in answers(wire, row)] == [200]
        assert wire.ended()


@pytest.mark.parametrize("line", ["X: 1", "TE: trailers"])
def test_whoever_speaks_http_1_0_and_closes_his_side_is_not_asked_whether_he_is_there(line: str) -> None:
    """He would take it for the answer. What takes long is taken for a hang-up instead."""
    may_go = threading.Event()

    def slow(inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        assert may_go.wait(20)
        return {"y": inputs["x"]}

    with in_process({"m": Function(slow)}) as server, Way(server).wire() as wire:
        try:
            wire.send(post("Host: h", line, first="POST / HTTP/1.0").on("hot"))
            wire.socket.shutdown(socket.SHUT_WR)
            assert wire.ended()
            assert server.ask(lambda: server.app.state.in_flight) == 0
        finally:
            may_go.set()


def until(condition: Any) -> None:
    for _ in range(2000):
        if condition():
            return
        threading.Event().wait(0.01)
    raise AssertionError("it did not become true")


def test_what_is_refused_by_any_parser_is_counted(ways: dict[str, Way]) -> None:
    def counted(status: int) -> int:
        with ways["hot"].wire() as wire:
            page = wire.call("GET", "/metrics").text
        found = re.search(
            rf'^graphpipe_requests_total\{{code="{status}",model="",protocol="graphpipe"\}} ([0-9.]+)$', page, re.M
        )
        return int(float(found[1])) if found else 0

    for name in ("two hosts", "a NUL in a field", "gzip, chunked", "a larger head of a page", "HTTP/1.2"):
        row = TABLE[name]
        for way in ("hot", "odd"):
            before = counted(row.want[0])
            with ways[way].wire() as wire:
                wire.send(row.on(way))
                answers(wire, row)
            assert counted(row.want[0]) == before + 1, (name, way)


PATHS = {
    "/": 200,
    "/?x=y": 200,
    "/.": 200,
    "/x/..": 200,
    "/../": 200,
    "/%2e%2E/models/second": 200,
    "/models/second": 200,
    "/models/second/": 200,
    "/models/second//": 404,
    "/models//second": 404,
    "/models/second/x": 404,
    "//": 404,
    "/x": 404,
    "/second": 404,
    "/models/x/../second": 200,
    "/models%2Fsecond": 404,
}


@pytest.fixture(scope="module")
def several() -> Iterator[InProcess]:
    models = {name: Function(lambda inputs: {"y": inputs["x"]}, quick=True) for name in ("first", "second")}
    with in_process(models) as server:
        yield server


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("way", ["hot", "odd", "GET"])
def test_of_several_models_none_has_the_paths_that_are_nobodys(several: InProcess, path: str, way: str) -> None:
    first = f"{'GET' if way == 'GET' else 'POST'} {path} HTTP/1.1"
    row = get("Host: h", first=first) if way == "GET" else post("Host: h", first=first)
    with Way(several).wire() as wire:
        wire.send(row.on(way))
        answer = wire.answer()
    assert answer.status == PATHS[path]
    if answer.status == 404 and not path.startswith("/models/"):
        assert "first, second" in answer.text
        assert ("did you mean /models/second?" in answer.text) == ("second" in path)


def test_a_connection_over_tls_begins_without_a_word_in_the_log(
    ways: dict[str, Way], caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(3):
        with ways["tls"].wire() as wire:
            assert wire.call("GET", "/livez").text == "ok\n"
    assert [record.getMessage() for record in caplog.records if record.name == "asyncio"] == []
