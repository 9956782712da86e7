"""One caller's limits, on every way in: who is over his is told so, and nobody else notices."""

from __future__ import annotations

import contextlib
import gzip
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trustme

import graphpipe
from graphpipe.backends.echo import Echo
from graphpipe.errors import Overloaded
from graphpipe.keyfile import digest_of, key_of, new_key, text_of
from graphpipe.server.life.certificates import Certificates
from graphpipe.wire import encode_request
from graphpipe.wire.messages import encode_metadata_request
from tests.certificates import chain_of, trusting
from tests.front.servers import Function, InProcess, in_process
from tests.front.test_room import quotas_of, request, until
from tests.front.test_turns import From
from tests.raw_http import Wire

X = np.arange(3, dtype=np.float32)
BODY = b"".join(encode_request([X]))
LARGE = b"".join(encode_request([np.zeros(50_000, np.float32)]))
HEADS = ("hot", "odd", "old", "chunked")
# By the plain socket in four ways, and over TLS and a Unix socket by both routes.
WAYS = (*HEADS, "tls hot", "tls odd", "unix hot", "unix odd")
# So slowly comes what is used up that no test sees it come.
NEVER = 0.001


class Doors:
    """Servers with the same settings behind each kind of socket, made when one is wanted."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._authority = trustme.CA()

    @contextlib.contextmanager
    def server(self, way: str, models: Any = None, **settings: Any) -> Iterator[Door]:
        tls, trusts, listen = None, None, "127.0.0.1:0"
        if way.startswith("unix"):
            listen = f"unix:{self._folder}/s"
        if way.startswith("tls"):
            pem = self._folder / "server.pem"
            leaf = self._authority.issue_cert("127.0.0.1")
            leaf.private_key_and_cert_chain_pem.write_to_path(str(pem))
            tls, trusts = Certificates(str(pem)).context, trusting(self._authority)
        with in_process(models, tls=tls, listen=listen, **settings) as server:
            yield Door(server, way.split()[-1], trusts)


@dataclass(frozen=True)
class Door:
    server: InProcess
    way: str
    trusts: ssl.SSLContext | None

    def wire(self) -> Wire:
        return Wire(self.server.url, 20, self.trusts)

    def asks(self, body: bytes, *lines: str, length: int | None = None) -> bytes:
        return request(self.way, body, *lines, length=length)

    @property
    def under_way(self) -> list[tuple[int, int]]:
        """Requests and bytes of each caller who has some."""
        return list(
            self.server.ask(lambda: [(q.requests, q.size) for q in quotas_of(self.server) if q.requests or q.size])
        )


@pytest.fixture
def doors(tmp_path: Path) -> Doors:
    return Doors(tmp_path)


class Held:
    """A model that answers when it may."""

    def __init__(self) -> None:
        self.may_go = threading.Event()
        self.runs = 0

    def __call__(self, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        self.runs += 1
        assert self.may_go.wait(20)
        return {"y": inputs["x"]}


RATES = {
    "--caller-requests-per-s": ({"caller_requests_per_s": NEVER}, "0.001"),
    "--caller-bytes-per-s": ({"caller_bytes_per_s": 1}, "1 bytes"),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("flag", RATES)
@pytest.mark.parametrize("body", [BODY, LARGE, encode_metadata_request()], ids=["small", "large", "a question"])
def test_whoever_asks_more_often_than_he_may_is_told_when_to_come_again(
    doors: Doors, flag: str, body: bytes, way: str
) -> None:
    settings, size = RATES[flag]
    with doors.server(way, **settings) as door, door.wire() as wire:
        wire.send(door.asks(body))
        assert wire.answer().status == 200
        for attempt in range(2):
            wire.send(door.asks(BODY))
            answer = wire.answer()
            assert answer.status == 429, attempt
            if flag == "--caller-requests-per-s":
                assert 900 < int(answer.headers["retry-after"]) <= 1000
            else:  # what the first one left is paid off, and then the bucket is full
                assert 1 <= int(answer.headers["retry-after"]) <= 2 * len(body)
            assert f"({flag})" in answer.text
            assert size in answer.text
            assert "try again in" in answer.text
            if answer.headers.get("connection") == "close":  # as for any other refusal there
                break
        assert door.under_way == []


@pytest.mark.parametrize("way", ["hot", "tls hot", "unix hot"])
@pytest.mark.parametrize("together", [True, False], ids=["in a packet", "in two"])
def test_a_small_request_over_the_limit_keeps_its_connection(doors: Doors, way: str, together: bool) -> None:
    with doors.server(way, caller_requests_per_s=NEVER) as door, door.wire() as wire:
        head = door.asks(b"", length=len(BODY))
        for status in (200, 429, 429):
            wire.send(head + BODY if together else head)
            if not together and status == 200:
                until(lambda: door.under_way == [(1, len(BODY))])
                wire.send(BODY)
            answer = wire.answer()
            assert (answer.status, answer.headers.get("connection")) == (status, None)
            if not together and status == 429:  # it was said already; this is skipped
                wire.send(BODY)
        assert wire.call("GET", "/livez").status == 200


@pytest.mark.parametrize("way", ["hot", "odd", "tls hot", "unix odd"])
def test_a_body_over_the_limit_is_refused_before_it_is_sent(doors: Doors, way: str) -> None:
    with doors.server(way, caller_requests_per_s=NEVER) as door, door.wire() as wire:
        wire.send(door.asks(BODY))
        assert wire.answer().status == 200
        wire.send(door.asks(b"", "Expect: 100-continue", length=len(LARGE)))
        answer = wire.answer()
        assert (answer.status, answer.headers["connection"]) == (429, "close")


@pytest.mark.parametrize("way", WAYS)
def test_so_many_requests_are_in_flight_and_no_more_and_then_again(doors: Doors, way: str) -> None:
    model = Held()
    # Of a Unix socket each connection is a caller, who has one request at a time.
    most = 1 if way.startswith("unix") else 2
    with (
        doors.server(way, {"m": Function(model)}, caller_requests_max=most, threads=4) as door,
        contextlib.ExitStack() as stack,
    ):
        wires = [stack.enter_context(door.wire()) for _ in range(2)]
        for wire in wires:
            wire.send(door.asks(BODY))
        until(lambda: model.runs == 2)
        assert door.under_way == ([(1, len(BODY))] * 2 if most == 1 else [(2, 2 * len(BODY))])
        with door.wire() as third:
            third.send(door.asks(BODY))
            if most == 2:
                answer = third.answer()
                assert (answer.status, answer.headers["retry-after"]) == (429, "1")
                assert "2 requests in flight, of at most 2 (--caller-requests-max)" in answer.text
        model.may_go.set()
        assert [wire.answer().status for wire in wires] == [200, 200]
        until(lambda: door.under_way == [])
        with door.wire() as wire:
            wire.send(door.asks(BODY))
            assert wire.answer().status == 200


@pytest.mark.parametrize("way", ["hot", "odd", "chunked", "tls hot", "tls odd"])
def test_bytes_in_flight_are_bounded_and_one_body_alone_that_is_more_is_too_large(doors: Doors, way: str) -> None:
    model, most = Held(), len(LARGE) + len(BODY)
    with (
        doors.server(way, {"m": Function(model)}, caller_bytes_max=most, threads=4) as door,
        door.wire() as first,
        door.wire() as second,
        door.wire() as third,
    ):
        first.send(door.asks(LARGE))
        until(lambda: model.runs == 1)
        second.send(door.asks(LARGE))
        answer = second.answer()
        assert (answer.status, answer.headers["retry-after"]) == (429, "1")
        assert f"{len(LARGE)} bytes of bodies in flight" in answer.text
        assert f"are over its {most} (--caller-bytes-max)" in answer.text
        third.send(door.asks(BODY))
        until(lambda: model.runs == 2)
        model.may_go.set()
        assert [wire.answer().status for wire in (first, third)] == [200, 200]
        until(lambda: door.under_way == [])
        with door.wire() as wire:
            wire.send(door.asks(b"", length=most + 1))
            answer = wire.answer()
            assert (answer.status, "retry-after" in answer.headers) == (413, False)
            assert f"{most + 1} bytes; a caller may have at most {most} in flight (--caller-bytes-max)" in answer.text
        assert door.under_way == []


@pytest.mark.parametrize("path", ["/", "/?odd"])
@pytest.mark.parametrize(
    "settings", [{"caller_bytes_max": 1000}, {"caller_bytes_per_s": 1}], ids=lambda each: min(each)
)
def test_a_body_in_chunks_counts_as_it_comes(doors: Doors, settings: dict[str, int], path: str) -> None:
    head = f"POST {path} HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    with doors.server("hot", **settings) as door, door.wire() as first, door.wire() as second:
        for wire in (first, second):  # of neither is anything known
            wire.send(head)
        until(lambda: door.under_way == [(2, 0)])
        first.send(b"384\r\n" + bytes(900) + b"\r\n")
        until(lambda: door.under_way == [(2, 900)])
        second.send(b"e0\r\n" + bytes(0xE0) + b"\r\n")
        answer = second.answer()
        assert (answer.status, answer.headers["connection"]) == (429, "close")
        assert f"(--{min(settings).replace('_', '-')})" in answer.text
        until(lambda: door.under_way == [(1, 900)])


def test_a_compressed_body_counts_for_what_it_becomes(doors: Doors) -> None:
    packed = gzip.compress(LARGE)
    assert len(packed) < 2000
    with doors.server("hot", caller_bytes_max=len(LARGE) - 1) as door, door.wire() as wire:
        wire.send(door.asks(packed, "Content-Encoding: gzip"))
        assert wire.answer().status == 413
    with doors.server("hot", caller_bytes_per_s=1) as door:
        with door.wire() as wire:
            wire.send(door.asks(packed, "Content-Encoding: gzip"))
            assert wire.answer().status == 200
        with door.wire() as wire:
            wire.send(door.asks(BODY))
            answer = wire.answer()
            assert (answer.status, answer.headers["retry-after"]) == (429, "86400")  # more than two days; one is named


# --- who it is ---


@pytest.mark.parametrize("way", HEADS)
def test_another_address_does_not_notice_and_another_connection_is_no_way_out(doors: Doors, way: str) -> None:
    with doors.server(way, caller_requests_per_s=NEVER) as door:
        for address in ("127.0.0.2", "127.0.0.3"):
            for status in (200, 429, 429):
                with From(door.server, address) as wire:
                    wire.send(door.asks(BODY))
                    assert wire.answer().status == status, address


@pytest.mark.parametrize("way", ["unix hot", "unix odd"])
def test_of_a_unix_socket_each_connection_is_a_caller(doors: Doors, way: str) -> None:
    with doors.server(way, caller_requests_per_s=NEVER) as door:
        for _ in range(2):
            with door.wire() as wire:
                for status in (200, 429, 429):
                    wire.send(door.asks(BODY))
                    answer = wire.answer()
                    assert answer.status == status
                    if answer.headers.get("connection") == "close":
                        break


@pytest.mark.parametrize("way", HEADS)
def test_a_key_is_a_caller_wherever_it_comes_from_and_strangers_are_none(
    doors: Doors, tmp_path: Path, way: str
) -> None:
    secrets = {name: new_key() for name in ("a", "b")}
    path = tmp_path / "keys"
    path.write_text(
        "".join(
            text_of(key_of(name, digest_of(key.encode()), ["infer", "metadata"])) + "\n"
            for name, key in secrets.items()
        )
    )
    with doors.server(way, {"m": Echo()}, caller_requests_per_s=NEVER, api_key_file=str(path)) as door:

        def ask(address: str, key: str) -> int:
            with From(door.server, address) as wire:
                wire.send(door.asks(BODY, f"Authorization: Bearer {key}"))
                return wire.answer().status

        for _ in range(3):  # who is nobody has no share of anybody's
            assert ask("127.0.0.1", new_key()) == 401
        assert [ask("127.0.0.1", secrets["a"]), ask("127.0.0.2", secrets["a"])] == [200, 429]
        assert [ask("127.0.0.1", secrets["b"]), ask("127.0.0.1", secrets["b"])] == [200, 429]
        assert ask("127.0.0.2", new_key()) == 401
        with From(door.server, "127.0.0.1") as wire:
            wire.send(b"GET /metrics HTTP/1.1\r\nHost: h\r\n\r\n")
            assert wire.answer().status == 401


@pytest.mark.parametrize("way", HEADS)
def test_a_certificates_name_is_a_caller_wherever_it_comes_from(tmp_path: Path, way: str) -> None:
    authority = trustme.CA()
    server_pem, ca_pem = tmp_path / "server.pem", tmp_path / "ca.pem"
    leaf = authority.issue_cert("127.0.0.1")
    server_pem.write_bytes(leaf.private_key_pem.bytes() + chain_of(leaf))
    authority.cert_pem.write_to_path(str(ca_pem))
    context = Certificates(str(server_pem), client_ca=str(ca_pem)).context
    with in_process(tls=context, caller_requests_per_s=NEVER) as server:
        for name in ("ci@example.org", "web@example.org"):
            for status in (200, 429):
                own = authority.issue_cert(name)  # renewed, and the same caller
                with Wire(server.url, 10, trusting(authority, own)) as wire:
                    wire.send(request(way, BODY))
                    assert wire.answer().status == status, name


def test_pages_are_nobodys_requests(doors: Doors) -> None:
    with doors.server("hot", caller_requests_per_s=NEVER, caller_requests_max=1) as door, door.wire() as wire:
        for _ in range(5):
            for path in ("/livez", "/readyz", "/metrics", "/"):
                assert wire.call("GET", path).status == 200
        assert wire.call("POST", "/models/none", BODY).status == 404
    with doors.server("hot", caller_requests_per_s=NEVER) as door, door.wire() as wire:
        assert [wire.call("POST", "/", BODY).status for _ in range(2)] == [200, 429]
        assert [wire.call("GET", path).status for path in ("/livez", "/readyz", "/metrics")] == [200] * 3
        page = wire.call("GET", "/metrics").text
        assert 'graphpipe_requests_total{code="429",model="echo",protocol="graphpipe"} 1.0' in page


# --- what is under way comes back ---


class Moods:
    """A model that does what its input's first number says."""

    def __init__(self, model: Held) -> None:
        self.held = model

    def __call__(self, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        mood = float(inputs["x"][0])
        if mood in MOODS:
            raise MOODS[mood]()
        return self.held(inputs) if mood == 1 else {"y": inputs["x"]}


class Panic(BaseException):
    pass


MOODS: dict[float, Callable[[], BaseException]] = {2: Panic, 3: SystemExit, 4: KeyboardInterrupt, 5: GeneratorExit}


def message(mood: float) -> bytes:
    return b"".join(encode_request([np.full(20_000, mood, np.float32)]))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("quick", [False, True], ids=["in a thread", "on the loop"])
def test_whatever_a_model_raises_its_caller_has_nothing_in_flight_afterwards(
    doors: Doors, way: str, quick: bool
) -> None:
    model = Function(Moods(Held()), quick=quick)
    limits: dict[str, Any] = {"caller_requests_max": 1, "caller_bytes_max": 100_000}
    with doors.server(way, {"m": model}, **limits) as door:
        for mood in MOODS:
            with door.wire() as wire:
                wire.send(door.asks(message(mood)))
                assert wire.answer().status == 500
            until(lambda: door.under_way == [])


@pytest.mark.parametrize("way", WAYS)
def test_whoever_leaves_or_is_too_late_has_nothing_in_flight_afterwards(doors: Doors, way: str) -> None:
    held = Held()
    limits: dict[str, Any] = {"caller_requests_max": 1, "caller_bytes_max": 100_000}
    with doors.server(way, {"m": Function(Moods(held))}, body_timeout_s=0.5, **limits) as door:
        try:
            with door.wire() as wire:  # late while the model runs
                wire.send(door.asks(message(1), "GraphPipe-Timeout-Ms: 50"))
                assert wire.answer().status == 504
            until(lambda: door.under_way == [])
            with door.wire() as wire:  # gone while it runs
                wire.send(door.asks(message(1)))
                until(lambda: bool(door.under_way))
            door.server.pass_time()
            until(lambda: door.under_way == [])
            with door.wire() as wire:  # gone in the middle of a body
                wire.send(door.asks(message(0)[:-5], length=len(message(0))))
                until(lambda: bool(door.under_way))
            door.server.pass_time()
            until(lambda: door.under_way == [])
            with door.wire() as wire:  # too slow
                wire.send(door.asks(message(0)[:100], length=len(message(0))))
                until(lambda: bool(door.under_way))
                door.server.pass_time()
                assert wire.answer().status == 408
            until(lambda: door.under_way == [])
        finally:
            held.may_go.set()


# --- a server with all that belongs to it ---


def test_a_client_of_ours_hears_that_it_is_he_and_how_long_to_wait() -> None:
    with graphpipe.serving(Echo(), caller_requests_per_s=NEVER) as server, graphpipe.Client(server.url) as client:
        client.execute(X)
        with pytest.raises(
            Overloaded, match=r"more than 0\.001 requests a second .*--caller-requests-per-s"
        ) as refused:
            client.execute(X)
        error = refused.value
        assert (error.code, error.http_status, error.safe_to_retry) == (6, 429, True)
        assert error.retry_after_s is not None
        assert 900 < error.retry_after_s <= 1000


def test_without_limits_there_is_no_table() -> None:
    with in_process() as server:
        assert server.app.quotas is None
