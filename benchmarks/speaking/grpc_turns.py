"""turns.py for gRPC: grpcio's own client, with bytes for messages, so that nothing of a call is ours but the loop.

    python -m benchmarks.speaking.grpc_turns METHOD

A turn's callers share one channel, which is one connection: the next call of each begins as its last one ends.
"""

from __future__ import annotations

import functools
import json
import sys
import threading
import time
from pathlib import Path
from typing import Any

import grpc

from benchmarks.harness.turns import Failed, kept, lasting

OPTIONS = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.use_local_subchannel_pool", 1),  # a connection of its own for each turn
]
PATIENCE_S = 30


class Turn:
    """What all callers of a turn share. Calls end on the channel's thread, and the next begin there."""

    def __init__(self, call: Any, message: bytes) -> None:
        self._call, self._message = call, message
        self.latencies: list[float] = []
        self.is_over = False
        self._under_way = 0
        self._lock = threading.Lock()
        self.ended = threading.Event()
        self.failed: grpc.RpcError | None = None

    def begin(self) -> None:
        with self._lock:
            self._under_way += 1
        self._send()

    def _send(self) -> None:
        began = time.perf_counter()
        self._call.future(self._message).add_done_callback(lambda call: self._done(call, began))

    def _done(self, call: Any, began: float) -> None:
        if call.code() is not grpc.StatusCode.OK:
            self.failed = call
        else:
            self.latencies.append(time.perf_counter() - began)
            if not self.is_over:
                self._send()
                return
        with self._lock:
            self._under_way -= 1
            if self.failed is not None or not self._under_way:
                self.ended.set()

    def sleep(self, seconds: float) -> None:
        """Unless the turn fails meanwhile: then raise what it failed of."""
        self.ended.wait(seconds)
        if self.failed is not None:
            raise Failed(f"{self.failed.code()}: {self.failed.details()}")


def turn(method: str, port: int, callers: int, seconds: float, warm_s: float, message: bytes) -> dict[str, Any]:
    """What turns.turn finds, of calls. Raises Failed."""
    with grpc.insecure_channel(f"127.0.0.1:{port}", OPTIONS) as channel:
        shared = Turn(channel.unary_unary(method), message)
        for _ in range(callers):
            shared.begin()
        try:
            shared.sleep(warm_s)
            first, began = len(shared.latencies), time.perf_counter()
            shared.sleep(seconds)
            while lasting(len(shared.latencies) - first, callers, time.perf_counter() - began, seconds):
                shared.sleep(seconds / 4)
            elapsed, last = time.perf_counter() - began, len(shared.latencies)
        finally:
            shared.is_over = True
        if not shared.ended.wait(PATIENCE_S):
            raise Failed(f"it did not answer within {PATIENCE_S} s")
        shared.sleep(0)
    return kept(shared.latencies[first:last], elapsed, len(shared.latencies))


@functools.cache
def bytes_of(path: str) -> bytes:
    return Path(path).read_bytes()


def main(method: str) -> None:
    for line in sys.stdin:
        port, callers, seconds, warm_s, path, _ = json.loads(line)
        try:
            found = turn(method, port, callers, seconds, warm_s, bytes_of(path))
        except Failed as problem:
            found = {"failed": str(problem)}
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
