"""What does a client of ours cost beside a raw socket that moves the same bytes?

    python benchmarks/clients.py [small] [large] [profile] [--rounds N]

small    1 KB each way: Client.execute beside a socket that sends prebuilt bytes and reads the answer into a warm buffer
large    77 MB out, 12.8 MB back, the same way
profile  where the time of a small call goes

The server is a blocking socket in a process of its own that receives into a warm buffer and sends a prebuilt answer:
the least that there can be. Both clients talk to it in turn, on one connection each; what counts is the median of the
ratios of neighbouring rounds, which a noisy machine disturbs alike.
"""

from __future__ import annotations

import argparse
import cProfile
import gc
import multiprocessing
import pstats
import socket
import sys
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402

import graphpipe  # noqa: E402
from graphpipe.wire import encode_infer_response, encode_request  # noqa: E402

SMALL = (np.zeros(256, np.float32), np.zeros(256, np.float32))
LARGE = (np.zeros((128, 224, 224, 3), np.float32), np.zeros(3_211_264, np.float32))
SMALL_CALLS = 200  # in one round


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("what", nargs="*", help="small, large or profile")
    parser.add_argument("--rounds", type=int, default=0)
    options = parser.parse_args()
    print(f"{'call':<8}{'raw socket':>14}{'Client':>14}{'median ratio':>15}{'quartiles':>16}")
    for what in options.what or ["small", "large"]:
        request, answer = LARGE if what == "large" else SMALL
        with Canned(answer) as server, graphpipe.Client(server.url) as client:
            raw = Raw(server.port, request)
            if what == "profile":
                profile(client, request)
            elif what == "small":
                compare("small", raw, client, request, options.rounds or 60, SMALL_CALLS, ("us", 1e6))
            else:
                compare("large", raw, client, request, options.rounds or 40, 1, ("ms", 1e3))


def compare(
    what: str, raw: Raw, client: graphpipe.Client, request: Any, rounds: int, calls: int, unit: tuple[str, float]
) -> None:
    times: list[tuple[float, float]] = []
    for _ in range(3):
        raw.call()
        client.execute(request)
    gc.collect()
    gc.freeze()
    for i in range(rounds):
        # Whoever comes second may find warmer caches: take turns.
        pair = [timed(raw.call, calls), 0.0] if i % 2 else [0.0, timed(lambda: client.execute(request), calls)]
        pair[0] = pair[0] or timed(raw.call, calls)
        pair[1] = pair[1] or timed(lambda: client.execute(request), calls)
        times.append((pair[0], pair[1]))
    ratios = sorted(ours / theirs for theirs, ours in times)
    name, factor = unit
    theirs, ours = (median(column) * factor for column in zip(*times, strict=True))
    quartiles = f"{ratios[rounds // 4]:.2f} - {ratios[3 * rounds // 4]:.2f}"
    print(f"{what:<8}{theirs:>11.1f} {name}{ours:>11.1f} {name}{median(ratios):>15.3f}{quartiles:>16}")


def timed(call: Any, calls: int) -> float:
    began = perf_counter()
    for _ in range(calls):
        call()
    return (perf_counter() - began) / calls


def profile(client: graphpipe.Client, request: Any) -> None:
    for _ in range(100):
        client.execute(request)
    profiler = cProfile.Profile()
    profiler.enable()
    for _ in range(5000):
        client.execute(request)
    profiler.disable()
    pstats.Stats(profiler).sort_stats("tottime").print_stats(25)


class Raw:
    """A raw socket client: sends prebuilt segments, receives into one warm buffer."""

    def __init__(self, port: int, array: Any) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        segments = encode_request([array])
        size = sum(map(len, segments))
        # As long as the head of our clients, so that both move the same bytes.
        lines = ["POST / HTTP/1.1", f"Host: 127.0.0.1:{port}", f"X-Padding: {'x' * 180}", f"Content-Length: {size}"]
        head = "\r\n".join([*lines, "", ""]).encode()
        self.pieces = [head, *segments]
        self.size = len(head) + size
        self.buffer = memoryview(bytearray(16 << 20))
        self.buffer[:] = bytes(len(self.buffer))

    def call(self) -> None:
        if self.socket.sendmsg(self.pieces) < self.size:
            raise RuntimeError("a blocking socket took a part only")
        have = self.socket.recv_into(self.buffer)
        head = bytes(self.buffer[: min(have, 1024)])
        end = head.index(b"\r\n\r\n") + 4
        whole = end + int(head[:end].split(b"Content-Length: ")[1].split(b"\r\n")[0])
        while have < whole:
            have += self.socket.recv_into(self.buffer[have:whole])


class Canned:
    """The server, in a process of its own."""

    def __init__(self, answer: Any) -> None:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        self._process = context.Process(target=serve, args=(theirs, answer), daemon=True)
        self._process.start()
        self.port: int = ours.recv()
        self.url = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Canned:
        return self

    def __exit__(self, *exc: object) -> None:
        self._process.terminate()
        self._process.join()


def serve(ready: Connection, answer: Any) -> None:
    """Answer each request with the same bytes, one thread for each connection."""
    import threading

    body = b"".join(encode_infer_response([answer]))
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: %d\r\n\r\n" % len(body)
    listener = socket.create_server(("127.0.0.1", 0))
    ready.send(listener.getsockname()[1])
    while True:
        connection, _ = listener.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=_talk, args=(connection, [head, body]), daemon=True).start()


def _talk(connection: socket.socket, answer: list[bytes]) -> None:
    buffer = memoryview(bytearray(90_000_000))
    while have := connection.recv_into(buffer):
        head = bytes(buffer[: min(have, 1024)])
        end = head.index(b"\r\n\r\n") + 4
        whole = end + int(head[:end].split(b"Content-Length: ")[1].split(b"\r\n")[0])
        while have < whole:
            have += connection.recv_into(buffer[have:whole])
        rest = sum(map(len, answer)) - connection.sendmsg(answer)
        if rest:
            connection.sendall(memoryview(answer[1])[-rest:])


if __name__ == "__main__":
    main()
