"""Heads: what of them is remembered, for how long, and that nothing is lost of what they say."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphpipe.server.http.head import cut, parse
from graphpipe.server.http.heads import Heads
from graphpipe.wire import encode_request
from tests.front.servers import InProcess, in_process
from tests.raw_http import Wire, request

BODY = b"".join(encode_request([np.arange(6, dtype=np.float32)]))
PLAIN = (b"Host: h", b"Content-Length: 24", b"User-Agent: a", b"Accept: */*", b"x-other: 1")
VALUES = st.text("abc123-=;, ", min_size=1, max_size=20).map(lambda text: text.strip().encode() or b"x")
PASSING = st.one_of(
    st.tuples(st.sampled_from([b"traceparent", b"TraceState", b"baggage", b"X-B3-TraceId", b"Forwarded"]), VALUES),
    st.tuples(st.sampled_from([b"x-forwarded-for", b"X-Real-IP", b"x-correlation-id"]), VALUES),
    st.tuples(st.sampled_from([b"X-Request-Id", b"x-request-id"]), VALUES | st.just(b"")),
    st.tuples(st.just(b"GraphPipe-Timeout-Ms"), st.sampled_from([b"0", b"15", b"99999", b"soon", b"-1", b""])),
)


def head(*lines: bytes) -> bytes:
    return b"\r\n".join([b"POST / HTTP/1.1", *lines, b"", b""])


@given(st.lists(PASSING, max_size=5), st.randoms(use_true_random=False))
def test_a_head_says_the_same_with_and_without_cutting(fields: list[tuple[bytes, bytes]], chance: Any) -> None:
    lines = [*PLAIN, *(name + b": " + value for name, value in fields)]
    chance.shuffle(lines)
    whole = head(*lines)
    core, passing = cut(whole)
    parsed = parse(core)
    if passing is not None:
        assert core == head(*[line for line in lines if line in PLAIN])
        assert parsed is not None
        parsed = passing.joined(parsed)
    assert parsed == parse(whole)


@pytest.mark.parametrize(
    "lines",
    [
        (b"X-Request-Id: a", b"X-Request-Id: b"),
        (b"GraphPipe-Timeout-Ms: 1", b"GraphPipe-Timeout-Ms: 2"),
        (b"traceparent: a\0b",),
        (b"traceparent : a",),
        (b"traceparent: a\r\n b",),
    ],
)
def test_an_odd_field_is_never_cut_out_of_sight(lines: tuple[bytes, ...]) -> None:
    core, _ = cut(head(*PLAIN, *lines))
    assert parse(core) is None


def test_a_head_that_never_repeats_pushes_nothing_out() -> None:
    heads: Heads[int] = Heads()
    for _ in range(2):
        heads.saw(b"good", 1)
    for number in range(100_000):
        assert heads.find(b"new %d" % number) is None
        heads.saw(b"new %d" % number, 2)
    assert heads.young == {b"good": 1}


def test_heads_that_strangers_repeat_push_out_none_that_is_in_use() -> None:
    heads: Heads[int] = Heads()
    for _ in range(2):
        heads.saw(b"good", 1)
    for number in range(10_000):
        for _ in range(2):
            heads.saw(b"bad %d" % number, 2)
        if number % 100 == 0:
            assert heads.find(b"good") == 1
        assert len(heads.young) + len(heads._old) <= 512


def test_a_large_head_is_not_remembered() -> None:
    heads: Heads[int] = Heads()
    for _ in range(3):
        heads.saw(b"a" * 1025, 1)
    assert heads.find(b"a" * 1025) is None


@pytest.fixture(scope="module")
def server() -> Any:
    with in_process() as running:
        yield running


def test_callers_whose_heads_never_repeat_are_remembered_all_the_same(server: InProcess) -> None:
    with Wire(server.url) as wire:
        for number in range(600):
            wire.send(
                request(
                    "POST", "/", BODY, traceparent=f"00-{number:032x}-b7ad6b7169203331-01", x_request_id=f"{number}"
                )
            )
            answer = wire.answer()
            assert (answer.status, answer.headers["x-request-id"]) == (200, str(number))
        assert server.ask(lambda: len(server.app.hub.requests)) == 1


def test_the_deadline_of_a_head_that_was_cut_holds(server: InProcess) -> None:
    with Wire(server.url) as wire:
        for _ in range(3):
            assert wire.call("POST", "/", BODY, graphpipe_timeout_ms="60000").status == 200
    parsed = server.ask(
        lambda: [
            server.app.hub.request(request("POST", "/", BODY, graphpipe_timeout_ms=str(ms))[: -len(BODY)])
            for ms in (7, 8)
        ]
    )
    assert [known.head.timeout_ms for known in parsed] == [7, 8]
    assert {known.target.service.name for known in parsed} == {"echo"}
