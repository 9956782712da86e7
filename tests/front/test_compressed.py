"""A compressed request is answered as the plain one is, a bomb is refused while it is small, and nobody else notices."""

from __future__ import annotations

import contextlib
import gzip
import socket
import subprocess
import threading
import zlib
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

import graphpipe
from graphpipe.errors import MalformedMessage, ServiceError, TooLarge
from graphpipe.server.http.codings import STEP_BYTES, Inflating, codings_of, takes_gzip
from graphpipe.wire import encode_request
from tests.front.servers import Function, InProcess, Way, in_process
from tests.front.test_room import assert_nothing_is_left, held, until
from tests.raw_http import Answer, Wire, call, chunked
from tests.serving import serving

MIB = 1 << 20
WAYS = ("hot", "odd", "HTTP/1.0", "unix", "passing", "tls")


def raw(data: bytes) -> bytes:
    deflate = zlib.compressobj(wbits=-15)
    return deflate.compress(data) + deflate.flush()


def members(data: bytes) -> bytes:
    third = len(data) // 3
    return b"".join(gzip.compress(part, mtime=0) for part in (data[:third], b"", data[third:]))


CODINGS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": lambda data: gzip.compress(data, mtime=0),
    "X-GZip": lambda data: gzip.compress(data, mtime=0),
    " gzip , identity": members,
    "deflate": zlib.compress,
    "Deflate": raw,
    "deflate, gzip": lambda data: gzip.compress(zlib.compress(data), mtime=0),
    "gzip, deflate": lambda data: raw(gzip.compress(data, 1, mtime=0)),
}


def message(array: Any) -> bytes:
    return b"".join(encode_request([np.asarray(array)], ["x"]))


GOOD = message(np.arange(64, dtype=np.float32))


def request(way: str, body: bytes, *lines: str, length: int | None = None) -> bytes:
    """A request; ``length`` is what it promises, if that is not what it sends."""
    first = {"HTTP/1.0": "POST / HTTP/1.0", "odd": "POST /?odd HTTP/1.1"}.get(way, "POST / HTTP/1.1")
    if way == "HTTP/1.0":
        lines = (*lines, "Connection: keep-alive")
    if not any(line.startswith("Transfer-Encoding") for line in lines):
        lines = (*lines, f"Content-Length: {len(body) if length is None else length}")
    return "\r\n".join([first, "Host: h", *lines, "", ""]).encode() + body


def asked(wire: Wire, way: str, body: bytes, *lines: str) -> Answer:
    wire.send(request(way, body, *lines))
    return wire.answer()


def bomb(gigabytes: float) -> bytes:
    """gzip of so many GB of zeros: one compressed piece of 16 MiB, again and again, since it looks back at nothing."""
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    piece = deflate.compress(bytes(16 * MIB)) + deflate.flush(zlib.Z_FULL_FLUSH)
    count = int(gigabytes * 1e9) // (16 * MIB) + 1
    return gzip.compress(b"")[:10] + piece * count + raw(b"") + bytes(8)


# --- it is answered as the plain one is ---


@pytest.mark.parametrize("way", WAYS)
def test_what_is_compressed_is_answered_as_what_is_not(ways: dict[str, Way], way: str) -> None:
    with ways[way].wire() as wire:

        @given(arrays.arrays(arrays.scalar_dtypes().filter(lambda kind: kind.kind in "iufb"), arrays.array_shapes()))
        @settings(max_examples=15, deadline=None)
        def holds(array: Any) -> None:
            if array.dtype.itemsize > 8 or array.dtype.name == "float16":
                array = array.astype(np.float64)
            body = message(array.astype(array.dtype.newbyteorder("=")))
            plain = asked(wire, way, body)
            for coding, compress in CODINGS.items():
                answer = asked(wire, way, compress(body), f"Content-Encoding: {coding}")
                assert (answer.status, answer.body) == (plain.status, plain.body), coding
                assert "content-encoding" not in answer.headers

        holds()


@pytest.mark.parametrize("way", ["hot", "odd", "unix", "passing", "tls"])
def test_it_may_come_in_chunks_and_in_fields_of_their_own(ways: dict[str, Way], way: str) -> None:
    with ways[way].wire() as wire:
        plain = asked(wire, way, GOOD)
        for size in (1, 7, 100_000):
            for coding, compress in CODINGS.items():
                body = chunked(compress(GOOD), size)
                fields = (f"Content-Encoding: {each}" for each in coding.split(","))
                answer = asked(wire, way, body, *fields, "Transfer-Encoding: chunked")
                assert (answer.status, answer.body) == (200, plain.body), (coding, size)


def test_who_asks_before_sending_is_told_to_go_on_or_why_not(ways: dict[str, Way]) -> None:
    with ways["hot"].wire() as wire:
        body = gzip.compress(GOOD)
        wire.send(request("hot", b"", "Content-Encoding: gzip", "Expect: 100-continue", length=len(body)))
        assert wire.answer().status == 100
        wire.send(body)
        assert wire.answer().status == 200
    for coding, length, status in (("br", 100, 415), ("gzip", 3 * MIB, 413)):
        with ways["hot"].wire() as wire:
            wire.send(request("hot", b"", f"Content-Encoding: {coding}", "Expect: 100-continue", length=length))
            assert wire.answer().status == status


def test_curl_sends_one(ways: dict[str, Way], tmp_path: Path) -> None:
    tmp_path.joinpath("body.gz").write_bytes(gzip.compress(GOOD))
    url = ways["hot"].server.url
    words = ["curl", "-sS", "-H", "Content-Encoding: gzip", "--data-binary", "@body.gz", url]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, check=True)
    assert done.stdout == call(url, "POST", "/", GOOD).body


# --- and refused where it is none ---

BROKEN: dict[str, tuple[str, bytes, str]] = {
    "nothing": ("gzip", b"", "breaks off: 0 bytes came"),
    "plain": ("gzip", GOOD, "the body is not in gzip, as Content-Encoding says: incorrect header check"),
    "plain for deflate": (
        "deflate",
        b"\xff" * 100,
        "the body is not in deflate, as Content-Encoding says: invalid block",
    ),
    "cut in the header": ("gzip", gzip.compress(GOOD)[:5], "breaks off: 5 bytes came"),
    "cut in the middle": ("gzip", gzip.compress(GOOD)[:50], "breaks off: 50 bytes came"),
    "cut before the last byte": ("gzip", gzip.compress(GOOD)[:-1], "breaks off"),
    "cut in the second member": ("gzip", members(GOOD)[:-9], "breaks off"),
    "cut inside": ("gzip, gzip", gzip.compress(gzip.compress(GOOD)[:-1]), "breaks off"),
    "cut deflate": ("deflate", zlib.compress(GOOD)[:-1], "breaks off"),
    "cut deflate without a frame": ("deflate", raw(GOOD)[:-1], "breaks off"),
    "a byte of deflate": ("deflate", b"\x78", "breaks off"),
    "another checksum": ("gzip", gzip.compress(GOOD)[:-8] + bytes(8), "incorrect data check"),
    "another length": ("gzip", gzip.compress(GOOD)[:-4] + bytes(4), "incorrect length check"),
    "another checksum of deflate": ("deflate", zlib.compress(GOOD)[:-4] + bytes(4), "incorrect data check"),
    "garbage behind it": ("gzip", gzip.compress(GOOD) + b"x", "goes on behind its end"),
    "zeros behind it": ("gzip", gzip.compress(GOOD) + bytes(512), "goes on behind its end"),
    "deflate twice": ("deflate", zlib.compress(GOOD) * 2, "goes on behind its end"),
    "garbage behind what is inside": ("gzip, gzip", gzip.compress(gzip.compress(GOOD) + b"x"), "behind its end"),
    "members without content": ("gzip", gzip.compress(b"") * 1000, "more members than content"),
    "a dictionary": ("deflate", b"\x78\xbb" + bytes(20), "is not in deflate"),
    "compressed twice, said once": ("gzip", gzip.compress(gzip.compress(GOOD)), "the body is compressed by gzip"),
    "bombs in a bomb": ("gzip", gzip.compress(gzip.compress(bomb(0.1))), "the body is compressed by gzip"),
    "no message": ("gzip", gzip.compress(b"[1, 2]"), "the body is JSON"),
}


@pytest.mark.parametrize("way", WAYS)
def test_what_is_not_as_it_says_is_refused_and_its_connection_goes_on(ways: dict[str, Way], way: str) -> None:
    with ways[way].wire() as wire:
        for name, (coding, body, words) in BROKEN.items():
            answer = asked(wire, way, body, f"Content-Encoding: {coding}")
            assert (answer.status, words in answer.text) == (400, True), (name, answer.text)
            if answer.headers.get("connection") == "close":
                assert wire.ended(), name
                wire = ways[way].wire()
                continue
            assert asked(wire, way, gzip.compress(GOOD), "Content-Encoding: gzip").status == 200, name


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("coding", ["br", "zstd", "compress", "gzip, br", "gzip, gzip, gzip", "gzip;q=1", "\xe9"])
def test_an_unknown_coding_is_415_and_says_what_is_taken(ways: dict[str, Way], way: str, coding: str) -> None:
    with ways[way].wire() as wire:
        answer = asked(wire, way, b"\x0b\x02\x80abc", f"Content-Encoding: {coding}")
        assert (answer.status, answer.headers["accept-encoding"]) == (415, "gzip, deflate")
        assert "gzip and deflate are undone here" in answer.text
        assert asked(wire, way, GOOD).status == 200  # the connection goes on


def test_none_is_taken_where_that_is_said() -> None:
    with in_process(inflate_ratio_max=0) as server, Wire(server.url) as wire:
        answer = asked(wire, "hot", gzip.compress(GOOD), "Content-Encoding: gzip")
        assert (answer.status, "--inflate-ratio-max 0" in answer.text) == (415, True)
        assert answer.headers["accept-encoding"] == "identity"
        assert asked(wire, "hot", GOOD, "Content-Encoding: identity").status == 200


# --- it is limited by what it becomes ---


def fate(
    data: bytes, codings: tuple[str, ...], cuts: list[int], bytes_max: int, ratio_max: int, free_bytes: int = MIB
) -> bytes | type:
    """What becomes of a body that comes in these pieces: its bytes, or why it has none."""
    inflating, given = Inflating(codings, bytes_max, ratio_max, free_bytes), b""
    ends = sorted({min(cut, len(data)) for cut in cuts} | {0, len(data)})
    try:
        for start, end in pairwise(ends):
            inflating.feed(data[start:end])
            while piece := inflating.step():
                assert len(piece) <= STEP_BYTES
                given += piece
                assert len(given) <= bytes_max
        inflating.end()
    except ServiceError as error:
        return type(error)
    return given


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_the_same_bytes_have_the_same_fate_however_they_come(data: Any) -> None:
    random = Random(data.draw(st.integers(0, 1 << 32)))
    plain = random.randbytes(data.draw(st.integers(0, 3000))) + bytes(data.draw(st.sampled_from([0, 10, MIB, 2 * MIB])))
    name = data.draw(st.sampled_from(sorted(CODINGS)))
    body = bytearray(CODINGS[name](plain))
    match data.draw(st.sampled_from(["whole", "cut", "damaged", "longer"])):
        case "cut":
            del body[random.randrange(len(body)) :]
        case "damaged":
            body[random.randrange(len(body))] ^= 1 << random.randrange(8)
        case "longer":
            body += random.randbytes(random.randrange(1, 30))
    ratio = data.draw(st.sampled_from([1, 100, 1 << 20]))
    bytes_max = data.draw(st.sampled_from([1, 1000, STEP_BYTES, 4 * MIB]))
    free = data.draw(st.sampled_from([0, MIB, 64 * MIB]))
    cuts = data.draw(st.lists(st.integers(0, len(body)), max_size=20))
    codings = codings_of([name])
    at_once = fate(bytes(body), codings, [], bytes_max, ratio, free)
    for ends in (cuts, list(range(0, len(body), 101))):
        in_pieces = fate(bytes(body), codings, ends, bytes_max, ratio, free)
        # What is wrong in two ways, one in each of two codings, is refused for either.
        assert in_pieces == at_once or (len(codings) == 2 and bytes not in (type(in_pieces), type(at_once)))
    if isinstance(at_once, bytes) and name in ("gzip", "deflate"):
        assert at_once == plain  # which their checksums vouch for


@pytest.mark.parametrize("name", sorted(CODINGS))
def test_a_body_may_become_as_large_as_is_said_and_no_larger(name: str) -> None:
    for size in (1, 1000, STEP_BYTES - 1, STEP_BYTES, STEP_BYTES + 1, 5 * STEP_BYTES):
        plain = Random(size).randbytes(size)
        body, codings = CODINGS[name](plain), codings_of([name])
        assert fate(body, codings, [], size, 2) == plain
        assert fate(body, codings, [], size - 1, 2) is TooLarge


def test_codings_in_a_row_are_limited_in_between_too() -> None:
    # The inner one gives nothing, whatever goes in: blocks without content.
    empty = gzip.compress(b"")[:10] + b"\0\0\0\xff\xff" * (2 * MIB)
    for ratio_max, bytes_max, wanted in (
        (100, 1 << 30, TooLarge),
        (1 << 20, MIB, TooLarge),
        (1 << 20, 1 << 30, MalformedMessage),
    ):
        assert fate(gzip.compress(empty), ("gzip", "gzip"), [], bytes_max, ratio_max) is wanted


def status_of(pid: int) -> dict[str, int]:
    """Bytes of memory that a process has, and has had at most."""
    lines = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return {name: int(lines[name].split()[0]) * 1024 for name in ("VmRSS", "VmHWM")}


@pytest.fixture(scope="module")
def ten_gigabytes() -> bytes:
    data = bomb(10)
    assert len(data) < 11e6
    return data


def sent_until_refused(url: str, *parts: bytes) -> Answer:
    with Wire(url) as wire:
        with contextlib.suppress(OSError):  # it need not be read to its end
            for part in parts:
                wire.send(part)
        return wire.answer()


@pytest.mark.parametrize("limit", ["ratio", "size"])
def test_a_bomb_is_refused_while_it_is_small_and_others_are_answered(ten_gigabytes: bytes, limit: str) -> None:
    flags = {"ratio": (), "size": ("--inflate-ratio-max", "100000", "--body-bytes-max", "16MiB")}[limit]
    with serving("--model", "echo", "--access-lines-per-s", "0", *flags) as server:
        for _ in range(3):  # what a first request needs is there
            assert asked_once(server.url, gzip.compress(message(np.zeros(MIB // 8 - 100)), 1)).status == 200
        before = status_of(server.process.pid)
        Path(f"/proc/{server.process.pid}/clear_refs").write_text("5")  # from here on it is the largest
        answers: list[Answer] = []
        head = request("hot", b"", "Content-Encoding: gzip", length=len(ten_gigabytes))
        bombers = [
            threading.Thread(target=lambda: answers.append(sent_until_refused(server.url, head, ten_gigabytes)))
            for _ in range(4)
        ]
        with Wire(server.url) as innocent:
            for bomber in bombers:
                bomber.start()
            asked_meanwhile = 0
            while any(bomber.is_alive() for bomber in bombers) or asked_meanwhile < 20:
                assert asked(innocent, "hot", GOOD).status == 200
                asked_meanwhile += 1
        assert [answer.status for answer in answers] == [413] * 4
        # What a body grew out of waits, as large as itself, for its next use.
        most = (24 + 4 * 2 * {"ratio": 32, "size": 16}[limit]) * MIB
        flag = {"ratio": "--inflate-ratio-max", "size": "--body-bytes-max"}[limit]
        assert all(flag in answer.text for answer in answers)
        assert status_of(server.process.pid)["VmHWM"] - before["VmRSS"] < most
        assert asked_once(server.url, gzip.compress(GOOD)).status == 200


@pytest.mark.parametrize("way", ["hot", "odd", "HTTP/1.0", "unix"])
def test_a_batch_that_is_all_zeros_is_no_bomb(tmp_path: Path, way: str) -> None:
    body = message(np.zeros((2, 1024 - 1, 1024), np.float32))
    listen = f"unix:{tmp_path / 's'}" if way == "unix" else "127.0.0.1:0"
    with in_process(listen=listen) as server, Wire(server.url) as wire:
        plain = asked(wire, way, body)
        for coding in ("gzip", "deflate", "deflate, gzip"):
            answer = asked(wire, way, CODINGS[coding](body), f"Content-Encoding: {coding}")
            assert (answer.status, answer.body) == (200, plain.body), answer.text[:200]


def asked_once(url: str, body: bytes, coding: str = "gzip") -> Answer:
    with Wire(url) as wire:
        return asked(wire, "hot", body, f"Content-Encoding: {coding}")


def test_what_a_body_becomes_is_counted_as_it_grows_and_given_back_however_it_ends() -> None:
    limits: dict[str, Any] = {"body_bytes_max": 64 * MIB, "in_flight_bytes_max": 64 * MIB, "body_timeout_s": 0.5}
    whole = gzip.compress(message(Random(1).randbytes(4 * MIB)), 1)
    with in_process(**limits) as server:
        with contextlib.ExitStack() as stack:
            wires = [stack.enter_context(Wire(server.url)) for _ in range(3)]
            for wire in wires:
                wire.send(request("hot", whole[: 3 * MIB], "Content-Encoding: gzip", length=len(whole)))
            until(lambda: held(server) > 8.5 * MIB)
            assert held(server) < 14 * MIB
            assert [wire.answer().status for wire in wires] == [408] * 3
        assert_nothing_is_left(server)
        with Wire(server.url) as wire:
            late = ("Content-Encoding: gzip", "GraphPipe-Timeout-Ms: 50")
            wire.send(request("hot", whole[:-3], *late, length=len(whole)))
            assert wire.answer().status == 504
        assert_nothing_is_left(server)
        for body in (whole, whole[:-3], whole + b"x", whole[:1000], bomb(0.2)):
            for length in (len(body), len(body) + 10):
                with Wire(server.url) as wire, contextlib.suppress(OSError):  # whoever leaves while it comes
                    wire.send(request("hot", body, "Content-Encoding: gzip", length=length))
            assert_nothing_is_left(server)
            assert sent_until_refused(server.url, request("hot", body, "Content-Encoding: gzip")).status in (
                200,
                400,
                413,
            )
            assert_nothing_is_left(server)


def test_over_the_limit_of_all_that_is_held_it_waits_and_is_refused() -> None:
    limits: dict[str, Any] = {"body_bytes_max": 8 * MIB, "in_flight_bytes_max": 8 * MIB, "admission_wait_s": 0.2}
    with in_process(**limits, inflate_ratio_max=10_000) as server:
        body = gzip.compress(message(np.zeros(6 * MIB, np.uint8)))
        assert asked_once(server.url, body).status == 200
        server.ask(lambda: server.app.admission.hold(4 * MIB))
        answer = asked_once(server.url, body)
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        assert "--in-flight-bytes-max" in answer.text
        server.ask(lambda: server.app.admission.hold(-4 * MIB))
        assert asked_once(server.url, body).status == 200
        assert_nothing_is_left(server)


def test_the_loop_turns_while_a_large_body_is_inflated() -> None:
    with in_process(inflate_ratio_max=10_000) as server, Wire(server.url) as large:
        body = gzip.compress(message(np.zeros(100 * MIB, np.uint8)), 1)
        large.send(request("hot", body, "Content-Encoding: gzip"))
        seen = []
        with Wire(server.url) as small:
            while not seen or seen[-1] < 90 * MIB:
                assert asked(small, "hot", GOOD).status == 200
                seen.append(held(server))
        assert len({each // MIB for each in seen}) > 5  # it was asked while that grew
        assert large.answer().status == 200


# --- answers ---


class Many(Function):
    """Gives what it is told: so many zeros, or so many random bytes."""

    def __init__(self) -> None:
        super().__init__(self._give)

    def _give(self, inputs: Any) -> dict[str, Any]:
        size = int(inputs["x"][0])
        return {"y": np.zeros(size, np.uint8) if size >= 0 else np.frombuffer(Random(7).randbytes(-size), np.uint8)}


@pytest.fixture(scope="module")
def compressing() -> Iterator[InProcess]:
    with in_process({"m": Many()}, compress_answers=True) as server:
        yield server


def inflated(answer: Answer) -> bytes:
    assert answer.headers["content-encoding"] == "gzip"
    return gzip.decompress(answer.body)


@pytest.mark.parametrize("way", ["hot", "odd", "HTTP/1.0"])
def test_an_answer_is_compressed_for_whoever_asks_for_it(compressing: InProcess, way: str) -> None:
    with Wire(compressing.url) as wire:
        for size in (2000, 3 * MIB):
            plain = asked(wire, way, message([size]))
            assert "content-encoding" not in plain.headers
            answer = asked(wire, way, message([size]), "Accept-Encoding: br;q=1.0, GZIP")
            assert len(answer.body) < len(plain.body) // 10
            assert answer.headers["vary"] == "Accept-Encoding"
            assert inflated(answer) == plain.body
        for size in (10, -3 * MIB):  # small, or not to be made smaller
            answer = asked(wire, way, message([size]), "Accept-Encoding: gzip")
            assert (answer.status, answer.headers["vary"]) == (200, "Accept-Encoding")
            assert "content-encoding" not in answer.headers
            assert answer.body == asked(wire, way, message([size])).body
        both = asked(wire, way, gzip.compress(message([2000])), "Content-Encoding: gzip", "Accept-Encoding: gzip")
        assert inflated(both) == asked(wire, way, message([2000])).body
    assert_nothing_is_left(compressing)


def test_refusals_are_never_compressed(compressing: InProcess) -> None:
    with Wire(compressing.url) as wire:
        answer = asked(wire, "hot", b"[1]" * 2000, "Accept-Encoding: gzip")
        assert (answer.status, answer.headers.get("content-encoding")) == (400, None)


def test_who_asks_for_nothing_stays_on_the_short_way(compressing: InProcess) -> None:
    with Wire(compressing.url) as wire:
        for accepted in ("identity", "br, zstd", "gzip;q=0", "*;q=0"):
            assert asked(wire, "hot", message([2000]), f"Accept-Encoding: {accepted}").status == 200
            assert compressing.ask(lambda: len(compressing.app.hub.connections)) == 1
        for _ in range(3):  # a head that was remembered would be
            answer = asked(wire, "hot", message([2000]), "Accept-Encoding: gzip")
            assert "content-encoding" in answer.headers


@pytest.mark.parametrize("target", ["/", "/models", "/metrics"])
def test_pages_are_compressed_too_and_have_the_same_head_without_a_body(compressing: InProcess, target: str) -> None:
    described = Function(lambda inputs: {"y": inputs["x"]})
    with in_process({f"m{i}": described for i in range(20)}, compress_answers=True) as server:
        target = "/models" if target == "/" else target
        plain = call(server.url, "GET", target)
        answer = call(server.url, "GET", target, accept_encoding="gzip")
        assert plain.headers["vary"] == answer.headers["vary"] == "Accept-Encoding"
        assert inflated(answer)[:500] == plain.body[:500]
        head = call(server.url, "HEAD", target, accept_encoding="gzip")
        assert (head.status, head.headers["content-encoding"], head.body) == (200, "gzip", b"")


def test_nothing_is_compressed_unless_that_is_said(ways: dict[str, Way]) -> None:
    url = ways["hot"].server.url
    for answer in (
        call(url, "POST", "/", message(np.zeros(10_000)), accept_encoding="gzip"),
        call(url, "GET", "/metrics", accept_encoding="gzip"),
    ):
        assert answer.status == 200
        assert not {"content-encoding", "vary"} & set(answer.headers)


def test_a_deadline_holds_while_an_answer_is_compressed(compressing: InProcess) -> None:
    with Wire(compressing.url) as wire:
        lines = ("Accept-Encoding: gzip", "GraphPipe-Timeout-Ms: 1000")
        answer = asked(wire, "hot", message([2_000_000_000]), *lines)
        assert (answer.status, "while its answer was compressed" in answer.text) == (504, True)
    assert_nothing_is_left(compressing)


def test_who_leaves_while_an_answer_is_compressed_leaves_nothing_behind(compressing: InProcess) -> None:
    with Wire(compressing.url) as wire:
        wire.send(request("hot", message([2_000_000_000]), "Accept-Encoding: gzip"))
        until(lambda: held(compressing) >= 2_000_000_000)
        wire.socket.shutdown(socket.SHUT_RDWR)
    assert_nothing_is_left(compressing)


def test_our_client_is_served_as_ever(compressing: InProcess) -> None:
    with graphpipe.Client(compressing.url) as client:
        assert client.execute(np.array([5000])).shape == (5000,)


@pytest.mark.parametrize(
    ("said", "takes"),
    [
        ("gzip", True), ("x-gzip", True), ("*", True), ("deflate, gzip;q=0.5", True), ("br , gzip ; q=1", True),
        ("", False), ("identity", False), ("gzip;q=0", False), ("gzip;q=0.000", False), ("*;q=0", False),
        ("*, gzip;q=0", False), ("gzipped", False), ("gzip;level=1", False), ("br;q=1.0", False),
    ],
)  # fmt: skip
def test_what_a_caller_takes(said: str, takes: bool) -> None:
    assert takes_gzip(said) is takes
