"""What the load generator makes of answers, whatever shape they come in."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import numpy as np
import pytest

from graphpipe.bench.alarm import Alarm
from graphpipe.bench.load import Load
from graphpipe.bench.requests import Request
from graphpipe.bench.server import Server
from graphpipe.client.options import Options
from graphpipe.wire import ErrorInfo
from graphpipe.wire.messages import encode_infer_response
from tests.canned import Caller, answer, canned, outputs

BODY = outputs(np.zeros(4, np.float32))


def talking(reply: Callable[[int], bytes], *, leaves: bool = False) -> Callable[[Caller], None]:
    """A connection on which the answer to request i is reply(i), of all connections together; b"" closes it."""

    def talk(caller: Caller) -> None:
        while caller.read_request():
            said = reply(caller.server.requests)
            if said:
                caller.send(said)
            if leaves or not said:
                return

    return talk


async def asked(url: str, load: Load, until: int, timeout_s: float = 5.0) -> Server:
    """Ask until so many calls have ended."""
    options = Options.of(
        url,
        timeout=timeout_s,
        connect_timeout=5,
        answer_bytes_max=1 << 30,
        tls=None,
        headers=None,
        api_key=None,
        proxy=None,
    )
    server = Server(options, url, [Request(("x",), (np.zeros(4, np.float32),))], 8)
    try:
        await server.begin(load)
        limit = time.monotonic() + 30
        while len(server.tally.latencies) + server.tally.failed < until:
            assert time.monotonic() < limit, server.tally
            await asyncio.sleep(0.001)
        await server.end()
    finally:
        await server.close()
    return server


def chunked(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)


WAYS = {
    "with a length": (lambda i: answer(BODY), False),
    "of changing sizes": (lambda i: answer(outputs(np.zeros(1 + i % 3, np.float32))), False),
    "in chunks": (lambda i: chunked(BODY), False),
    "behind 100 Continue": (lambda i: b"HTTP/1.1 100 Continue\r\n\r\n" + answer(BODY), False),
    "with Connection: close": (lambda i: answer(BODY, "200 OK", "Connection: close"), True),
    "until the connection ends": (lambda i: b"HTTP/1.1 200 OK\r\n\r\n" + BODY, True),
}


@pytest.mark.parametrize("load", [Load(callers=2), Load(rate=500)], ids=str)
@pytest.mark.parametrize("way", WAYS)
async def test_good_answers_are_counted_however_they_come(way, load):
    reply, leaves = WAYS[way]
    with canned(talking(reply, leaves=leaves)) as server:
        tally = (await asked(server.url, load, 20)).tally
    assert not tally.failures
    assert len(tally.latencies) >= 20
    assert all(each > 0 for each in tally.latencies)
    if way != "of changing sizes":
        assert tally.received == len(tally.latencies) * len(BODY)


async def test_answers_that_come_byte_by_byte_are_answers():
    def talk(caller: Caller) -> None:
        while caller.read_request():
            for byte in answer(BODY):
                caller.send(bytes([byte]))

    with canned(talk) as server:
        tally = (await asked(server.url, Load(callers=1), 3)).tally
    assert not tally.failures
    assert tally.received == len(tally.latencies) * len(BODY)


REFUSED = b"".join(encode_infer_response([], [ErrorInfo(4, "model 'm' failed on this input")]))
WRONG = {
    "an error with status 200": (
        lambda i: answer(BODY if i < 5 else REFUSED), "200 ModelFailed", "model 'm' failed on this input"),
    "an error with its status": (
        lambda i: answer(REFUSED, "500 Oh", "Content-Type: application/vnd.graphpipe"), "500 ModelFailed", "failed"),
    "a full server": (lambda i: answer(b"later", "503 Full"), "503 Overloaded", "later"),
    "no message": (lambda i: answer(b"hello"), "NoAnswer", "what is no GraphPipe message"),
    "no HTTP": (lambda i: b"SSH-2.0\r\n\r\n", "NoAnswer", "not HTTP"),
    "too much": (lambda i: answer(BODY) + b"more", "NoAnswer", "sent more than its answer"),
    "silence": (lambda i: b"", "NoAnswer", "closed the connection without an answer"),
    "half an answer": (lambda i: answer(BODY)[:-4] if i % 2 else b"", "NoAnswer", ""),
}  # fmt: skip


@pytest.mark.parametrize("load", [Load(callers=2), Load(rate=500)], ids=str)
@pytest.mark.parametrize("way", WRONG)
async def test_what_goes_wrong_is_counted_by_kind_with_the_first_words_and_asking_goes_on(way, load):
    reply, kind, words = WRONG[way]
    with canned(talking(reply, leaves=way in ("half an answer", "no HTTP", "too much"))) as server:
        tally = (await asked(server.url, load, 12)).tally
    assert list(tally.failures) == [kind]
    assert words in tally.failures[kind].first
    assert tally.failures[kind].count == tally.failed > 1


async def test_who_does_not_answer_in_time_is_given_up():
    def talk(caller: Caller) -> None:
        while caller.read_request():
            pass

    with canned(talk) as server:
        tally = (await asked(server.url, Load(callers=2), 4, timeout_s=0.1)).tally
    assert tally.failures["TimedOut"].first.endswith("gave no answer in 0.1 s")


async def test_who_is_not_there_is_told_once_in_a_while_and_not_in_a_storm():
    with canned(talking(lambda i: answer(BODY))) as server:
        url = server.url
    tally = (await asked(url, Load(callers=2), 4)).tally
    assert list(tally.failures) == ["Unreachable"]
    assert tally.failed < 20


async def test_requests_that_find_no_connection_count_from_when_they_were_due():
    """Eight connections, each of which answers after 50 ms: 160 a second are answered, 1,000 are due."""

    def talk(caller: Caller) -> None:
        while caller.read_request():
            time.sleep(0.05)
            caller.send(answer(BODY))

    with canned(talk) as server:
        tally = (await asked(server.url, Load(rate=1000), 100)).tally
        assert server.connections == 8
    assert not tally.failures
    # The hundredth was due after a tenth of a second and answered after more than half.
    assert max(tally.latencies) > 6 * 0.05


@pytest.mark.parametrize("platform", ["linux", "elsewhere"])
async def test_an_alarm_rings_when_it_is_set_for_and_not_when_it_was_set_before(platform, monkeypatch):
    monkeypatch.setattr("graphpipe.bench.alarm.sys.platform", platform)
    rung: asyncio.Queue[float] = asyncio.Queue()
    alarm = Alarm(lambda: rung.put_nowait(time.perf_counter()))
    for after in (0.03, 0.06, -1.0):
        moment = time.perf_counter() + after
        alarm.at(moment + 3600)
        alarm.at(moment)
        assert await rung.get() >= moment - 0.002  # by the clock's grain
    alarm.at(time.perf_counter())
    alarm.close()
    await asyncio.sleep(0.01)
    assert rung.empty()
