"""A load generator for many short turns: one process for all of them, told on standard input whom to ask.

    python -m benchmarks.harness.turns

As cheap as load.py: keep-alive connections on one uvloop, each sending prebuilt bytes on its last answer, and of the answer
only the head is read. It takes answers of either kind that HTTP/1.1 has, of a known length and in chunks.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any

import uvloop

from benchmarks.harness.about import ROOT

__all__ = ["Answer", "Failed", "Generator", "kept", "lasting", "pooled"]

LEAST, LONGER = 3, 4  # answers to a caller that a turn is to have, and how many times as long it may last for them
KEPT = 1000  # quantiles that are handed on of a turn's latencies


class Failed(Exception):
    """The server did not answer as it should; the text says what it did."""


class Answer:
    """Finds where answers end in what a connection receives."""

    def __init__(self) -> None:
        self._data = bytearray()  # what is not understood yet: a head, or the frame of a chunk
        self._head = b""
        self._length = 0  # of a body with this head, -1 if in chunks
        self._rest = 0  # bytes of the body, or of its chunk, that have not come
        self._is_in_body = False
        self._is_last_chunk = False

    def take(self, data: bytes) -> bool:
        """Whether the answer is complete with these bytes. Raises Failed for a status that is not 200."""
        if not self._is_in_body and not self._data and self._head and data.startswith(self._head):
            # The same head again, as servers have it that say no time, or said it in this second.
            self._rest, self._is_in_body = self._length, True
            place = len(self._head)
        elif self._is_in_body and self._length >= 0:
            place = 0
        else:
            self._data += data
            if not self._is_in_body:
                end = self._data.find(b"\r\n\r\n") + 4
                if end < 4:
                    return False
                self._read_head(bytes(self._data[:end]))
                data, place = bytes(self._data), end
                self._data.clear()
            else:
                data, place = bytes(self._data), 0
                self._data.clear()
        if self._length >= 0:
            self._rest -= len(data) - place
            if self._rest > 0:
                return False
            self._is_in_body = False
            return True
        return self._chunks(data, place)

    def _read_head(self, head: bytes) -> None:
        if not head.startswith(b"HTTP/1.1 200"):
            raise Failed(f"it answered {head[:200]!r}")
        low = head.lower()
        self._head, self._is_in_body, self._is_last_chunk = head, True, False
        if b"\r\ncontent-length:" in low:  # others' names end alike
            self._length = self._rest = int(low.split(b"\r\ncontent-length:")[1].split(b"\r\n")[0])
        elif b"transfer-encoding: chunked" in low:
            self._length, self._rest = -1, 0
        else:
            raise Failed(f"it answered without a length: {head[:200]!r}")

    def _chunks(self, data: bytes, place: int) -> bool:
        while True:
            step = min(self._rest, len(data) - place)
            place, self._rest = place + step, self._rest - step
            if self._rest:
                return False
            if self._is_last_chunk:
                self._is_in_body = self._is_last_chunk = False
                return True
            end = data.find(b"\r\n", place)
            if end < 0:
                self._data += data[place:]
                return False
            size = int(data[place:end].split(b";")[0], 16)
            place, self._rest = end + 2, size + 2  # the chunk and the end of its line
            self._is_last_chunk = size == 0


class Turn:
    """What all connections of a turn share."""

    def __init__(self, messages: Sequence[bytes]) -> None:
        self.messages = itertools.cycle(messages)
        self.latencies: list[float] = []
        self.is_over = False
        self.under_way = 0
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def fail(self, problem: Exception) -> None:
        if not self.ended.done():
            self.ended.set_exception(problem)


class Caller(asyncio.Protocol):
    """One connection: sends, counts what comes back, sends again."""

    def __init__(self, turn: Turn) -> None:
        self.turn = turn
        self.answer = Answer()
        self.started = 0.0

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.turn.under_way += 1
        self.send()

    def send(self) -> None:
        self.started = time.perf_counter()
        self.transport.write(next(self.turn.messages))

    def data_received(self, data: bytes) -> None:
        turn = self.turn
        try:
            if not self.answer.take(data):
                return
        except (Failed, ValueError) as problem:
            turn.fail(problem)
            return
        turn.latencies.append(time.perf_counter() - self.started)
        if not turn.is_over:
            self.send()
            return
        turn.under_way -= 1
        self.transport.close()
        if not turn.under_way and not turn.ended.done():
            turn.ended.set_result(None)

    def connection_lost(self, problem: Exception | None) -> None:
        if not self.turn.is_over:
            self.turn.fail(Failed(f"it closed a connection that was in use: {problem}"))


async def turn(port: int, callers: int, seconds: float, warm_s: float, messages: Sequence[bytes]) -> dict[str, Any]:
    """Ask for ``seconds`` after ``warm_s`` that do not count. Raises Failed if an answer is none."""
    loop = asyncio.get_running_loop()
    shared = Turn(messages)
    connections = [(await loop.create_connection(lambda: Caller(shared), "127.0.0.1", port))[0] for _ in range(callers)]
    try:
        await _for_a_while(shared, warm_s)
        first, began = len(shared.latencies), time.perf_counter()
        await _for_a_while(shared, seconds)
        # Of a slow server a turn would count one wave of answers or two, as it happens: it may have longer.
        while lasting(len(shared.latencies) - first, callers, time.perf_counter() - began, seconds):
            await _for_a_while(shared, seconds / 4)
        elapsed = time.perf_counter() - began
        counted = shared.latencies[first:]
        if not counted:  # calls that take longer than a turn: the turn ends with the first answer
            shared.is_over = True
            await asyncio.wait_for(asyncio.shield(shared.ended), 120)
            counted = shared.latencies[first:]
            elapsed = time.perf_counter() - began
        shared.is_over = True
        await asyncio.wait_for(asyncio.shield(shared.ended), 30)  # nothing is computed that is not waited for
    except TimeoutError:
        raise Failed("it did not answer within 30 s") from None
    finally:
        shared.is_over = True
        shared.ended.cancel()
        for connection in connections:
            connection.abort()
        await asyncio.sleep(0.005)  # they are closed before the server is held up
    return kept(counted, elapsed, len(shared.latencies))


def lasting(answers: int, callers: int, elapsed_s: float, seconds: float) -> bool:
    """Whether a turn that was to last for ``seconds`` goes on, for a few answers of each caller."""
    return answers < LEAST * callers and elapsed_s < LONGER * seconds


def kept(counted: Sequence[float], elapsed_s: float, all_requests: int) -> dict[str, Any]:
    """What is handed on of a turn: of its latencies some quantiles."""
    ordered = sorted(counted)
    step = max(1.0, len(ordered) / KEPT)
    latencies = [ordered[int(number * step)] for number in range(int(len(ordered) / step))]
    found = {"per_second": len(ordered) / elapsed_s, "requests": len(ordered), "latencies": latencies}
    return found | {"all_requests": all_requests}


async def _for_a_while(shared: Turn, seconds: float) -> None:
    """Sleep, unless the turn fails meanwhile: then raise what it failed of."""
    done, _ = await asyncio.wait([shared.ended], timeout=seconds)
    for each in done:
        each.result()


def pooled(turns: Sequence[dict[str, Any]], quantile: float) -> float:
    """A quantile over the turns' latencies, milliseconds."""
    every: list[float] = sorted(each for turn in turns for each in turn["latencies"])
    return 1000 * every[min(len(every) - 1, int(quantile * len(every)))]


class Generator:
    """The process, to be told turns; ``folder`` takes the messages. ``module`` is who asks, with what it is told first."""

    def __init__(self, folder: Path, module: Sequence[str] = ("benchmarks.harness.turns",)) -> None:
        self._folder = folder
        self._process = subprocess.Popen(
            [sys.executable, "-m", *module],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    @property
    def pid(self) -> int:
        """The process's number."""
        return self._process.pid

    def turn(
        self,
        port: int,
        callers: int,
        seconds: float,
        message: bytes,
        name: str,
        warm_s: float = 0.1,
        different: int = 1,
    ) -> dict[str, Any]:
        """Requests a second, and some of their latencies in seconds. ``name`` is the message's, whose bytes are the same
        whenever it is named; it may be so many ``different`` ones of one length, which are sent in turn. Raises Failed.
        """
        path = self._folder / f"{name}.message"
        if not path.exists():
            path.write_bytes(message)
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(json.dumps([port, callers, seconds, warm_s, str(path), different]) + "\n")
        stdin.flush()
        if not (line := stdout.readline()):
            raise Failed("the load generator has ended")
        found: dict[str, Any] = json.loads(line)
        if "failed" in found:
            raise Failed(found["failed"])
        return found

    def __enter__(self) -> Generator:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()


def _cut(messages: bytes, different: int) -> list[bytes]:
    length = len(messages) // different
    return [messages[at : at + length] for at in range(0, len(messages), length)]


async def _serve() -> None:
    messages = cache(lambda path, different: _cut(Path(path).read_bytes(), different))
    # Nothing runs between turns: to wait for the next line may hold up the loop.
    for line in sys.stdin:
        port, callers, seconds, warm_s, path, different = json.loads(line)
        try:
            found = await turn(port, callers, seconds, warm_s, messages(path, different))
        except (Failed, OSError) as problem:
            found = {"failed": str(problem)}
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve())
