"""Several calls through one client, to a server that leaves in the middle of them. No call may reach it twice."""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from conformance.adapters.python import write
from conformance.making.valid import SIX
from conformance.making.values import infer, response
from graphpipe.wire import InferRequest, decode_request
from tests.canned import Caller, Talk, answer

__all__ = ["Calls", "cases"]

Value = dict[str, Any]
_TIMEOUT_MS = 500


@dataclass
class Arrivals:
    """Which calls reached the server, and how often."""

    counts: Counter[str] = field(default_factory=Counter)

    def read(self, caller: Caller) -> bool:
        """Take the next request whole; False if the caller left."""
        body = caller.read_request()
        if not body:
            return False
        request = decode_request(body)
        assert isinstance(request, InferRequest)
        self.counts[request.head.config] += 1
        return True

    def read_head(self, caller: Caller) -> bool:
        """Take no more than the next request's head."""
        if not caller.read_head():
            return False
        self.counts["a head"] += 1
        return True


@dataclass(frozen=True)
class Calls:
    """A server that talks like this, one way for each connection, and how each of the calls has to end."""

    name: str
    talks: Sequence[Talk]
    ends: Sequence[str]
    arrivals: Arrivals

    @property
    def case(self) -> Value:
        """The case for an adapter: calls that say in their config which one they are."""
        values = [infer([SIX], config=f"call {i + 1}") for i in range(len(self.ends))]
        return {"op": "calls", "values": values, "timeout_ms": _TIMEOUT_MS}

    def fault(self, result: Value) -> str:
        """What is wrong; empty if nothing is."""
        if not result.get("ok"):
            return f"got {str(result)[:300]}"
        wanted = response([SIX])
        ends = [
            "answered" if each.get("value") == wanted else str(each.get("error", "another answer"))
            for each in result["results"]
        ]
        if ends != list(self.ends):
            return f"the calls should end {list(self.ends)}; they end {ends}"
        twice = [call for call, count in self.arrivals.counts.items() if count > 1]
        return f"sent more than once: {twice}" if twice else ""


def cases() -> Iterator[Calls]:
    """All of them, each with a server of its own to be used once."""
    good, lost = "answered", "no_answer"
    for name, first, then, ends in (
        ("answers with close, then dies", [_answers, _answers_and_closes], [_dies], [good, good, lost]),
        ("answers with close at once, then dies", [_answers_and_closes], [_dies], [good, lost]),
        ("answers with close, then resets", [_answers, _answers_and_closes], [_resets], [good, good, lost]),
        ("answers with close each time", [_answers_and_closes], [_answers_and_closes] * 2, [good] * 3),
        ("takes a request and dies", [_answers, _dies], [_answers], [good, lost, good]),
        ("takes a request and resets", [_answers, _resets], [_answers], [good, lost, good]),
        ("resets after the head", [_answers, _resets_after_head], [_answers], [good, lost, good]),
        ("resets after the first head", [_resets_after_head], [_answers], [lost, good]),
        ("is silent", [_answers, _is_silent], [_answers], [good, lost, good]),
        ("is silent from the start", [_is_silent], [_answers], [lost, good]),
        ("breaks off its answer", [_answers, _breaks_off], [_answers], [good, lost, good]),
        ("says 100 Continue and dies", [_answers, _continues_and_dies], [_answers], [good, lost, good]),
        ("answers and leaves", [_answers_and_leaves], [_answers, _answers], [good, good, good]),
    ):
        arrivals = Arrivals()
        steps = [first, *([each] for each in then)] if name == "answers with close each time" else [first, then]
        yield Calls(name, [_talk(arrivals, each) for each in steps], ends, arrivals)


def _talk(arrivals: Arrivals, steps: Sequence[Any]) -> Talk:
    """The steps, one for each request; the last of them for all others."""

    def talk(caller: Caller) -> None:
        for step in steps:
            if not step(arrivals, caller):
                return
        while steps[-1](arrivals, caller):
            pass

    return talk


# --- one request, and whether the connection goes on ------------------------------------------------------------------


def _six() -> bytes:
    return write("infer_response", response([SIX]))


def _answers(arrivals: Arrivals, caller: Caller) -> bool:
    if not arrivals.read(caller):
        return False
    caller.send(answer(_six()))
    return True


def _answers_and_closes(arrivals: Arrivals, caller: Caller) -> bool:
    if arrivals.read(caller):
        caller.send(answer(_six(), "200 OK", "Connection: close"))
    return False


def _answers_and_leaves(arrivals: Arrivals, caller: Caller) -> bool:
    """The end of the connection comes with the answer, which does not speak of it."""
    if arrivals.read(caller):
        caller.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 0)
        caller.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
        caller.send(answer(_six()))
        caller.socket.shutdown(socket.SHUT_WR)
    return False


def _dies(arrivals: Arrivals, caller: Caller) -> bool:
    arrivals.read(caller)
    return False


def _resets(arrivals: Arrivals, caller: Caller) -> bool:
    if arrivals.read(caller):
        caller.reset()
    return False


def _resets_after_head(arrivals: Arrivals, caller: Caller) -> bool:
    if arrivals.read_head(caller):
        caller.reset()
    return False


def _is_silent(arrivals: Arrivals, caller: Caller) -> bool:
    if arrivals.read(caller):
        arrivals.read(caller)  # until the caller leaves
    return False


def _breaks_off(arrivals: Arrivals, caller: Caller) -> bool:
    if arrivals.read(caller):
        caller.send(answer(_six())[:-8])
    return False


def _continues_and_dies(arrivals: Arrivals, caller: Caller) -> bool:
    if arrivals.read(caller):
        caller.send(b"HTTP/1.1 100 Continue\r\n\r\n")
    return False
