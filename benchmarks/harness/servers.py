"""The servers that benchmarks measure, each in a process of its own: ours, and yardsticks beside it.

    python -m benchmarks.harness.servers KIND [--cpu N]

Prints the port it listens on. KINDS:
  limit         blocking sockets: receives into one warm buffer, sends a prebuilt answer; what the loopback can carry
  front         our server, as graphpipe-serve runs it
  plain         the same application with aiohttp alone at the socket
  aiohttp       a plain aiohttp handler that echoes bytes and decodes nothing
  bare          a uvloop protocol that answers 1 KB to whatever comes, without looking: what the loop itself costs
  counting      the same for requests of any size: counts bytes up to the length that the first head said, answers as many
  go            a Go net/http server that decodes and encodes the same messages (clients/go's Handler)
Models of front and plain: echo, and crop, which answers the first sixth of its input (77 MB in, 12.8 MB out).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness.process import Running
from graphpipe.backends.echo import Echo
from graphpipe.server.life.app import App
from graphpipe.server.life.listener import bind
from graphpipe.server.life.server import Server
from graphpipe.server.settings.values import ModelSettings, Settings
from graphpipe.signature import Signature, TensorSpec
from graphpipe.wire import encode_infer_response

ROOT = Path(__file__).resolve().parents[2]
CROPPED_FLOATS = 3_211_264  # of 128x224x224x3


class Crop:
    """Echo-like, with an answer of a size of its own: a view of the start of its input."""

    signature = Signature((TensorSpec("x"),), (TensorSpec("y"),))
    quick = True

    def infer(
        self, inputs: Mapping[str, NDArray[Any]], outputs: Sequence[str] | None = None, *, config: str = ""
    ) -> dict[str, NDArray[Any]]:
        return {"y": inputs["x"].reshape(-1)[:CROPPED_FLOATS]}

    def close(self) -> None:
        pass


def models() -> list[tuple[ModelSettings, Any]]:
    return [(ModelSettings("echo", "echo"), Echo()), (ModelSettings("crop", "crop"), Crop())]


def limit() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)
    body = b"".join(encode_infer_response([np.zeros(CROPPED_FLOATS, np.float32)]))
    large = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    buffer = memoryview(bytearray(100_000_000))
    while True:
        connection, _ = listener.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with connection, contextlib.suppress(ConnectionError):
            while True:
                have = 0
                while (end := bytes(buffer[: min(have, 4096)]).find(b"\r\n\r\n")) < 0:
                    count = connection.recv_into(buffer[have:])
                    if not count:
                        raise ConnectionResetError
                    have += count
                head = bytes(buffer[:end])
                length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
                whole = end + 4 + length
                while have < whole:
                    count = connection.recv_into(buffer[have:])
                    if not count:
                        raise ConnectionResetError
                    have += count
                if length < 1_000_000:  # small: the same bytes back
                    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % length + bytes(buffer[end + 4 : whole])
                    connection.sendall(answer)
                else:
                    connection.sendall(large)


def front() -> None:
    settings = Settings(listen="127.0.0.1:0", access_lines_per_s=0, tls_cert=_options().tls)
    Server(models(), settings, lambda url: print(url.rpartition(":")[2], flush=True)).run()


def plain() -> None:
    import uvloop
    from aiohttp import web

    async def main() -> None:
        app = App(models(), Settings())
        await app.behind.setup()
        listener = bind("127.0.0.1:0")
        await web.SockSite(app.behind, listener).start()
        print(listener.getsockname()[1], flush=True)
        await asyncio.Event().wait()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


def plain_bytes() -> None:
    import uvloop
    from aiohttp import web

    async def echo(request: web.Request) -> web.Response:
        return web.Response(body=await request.read())

    async def main() -> None:
        app = web.Application(client_max_size=1 << 30)
        app.router.add_post("/{path:.*}", echo)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        listener = bind("127.0.0.1:0")
        await web.SockSite(runner, listener).start()
        print(listener.getsockname()[1], flush=True)
        await asyncio.Event().wait()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


def bare() -> None:
    import uvloop

    body = b"".join(encode_infer_response([np.linspace(0, 1, 256, dtype=np.float32)]))
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body

    class Bare(asyncio.BufferedProtocol):
        scratch = memoryview(bytearray(64 * 1024))

        def connection_made(self, transport: Any) -> None:
            self.transport = transport

        def get_buffer(self, sizehint: int) -> memoryview:
            return self.scratch

        def buffer_updated(self, count: int) -> None:
            self.transport.write(answer)

    async def main() -> None:
        listener = bind("127.0.0.1:0")
        await asyncio.get_running_loop().create_server(Bare, sock=listener)
        print(listener.getsockname()[1], flush=True)
        await asyncio.Event().wait()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


def counting() -> None:
    import uvloop

    scratch = memoryview(bytearray(256 * 1024))

    class Counting(asyncio.BufferedProtocol):
        whole = have = 0
        answer = b""

        def connection_made(self, transport: Any) -> None:
            self.transport = transport

        def get_buffer(self, sizehint: int) -> memoryview:
            return scratch

        def buffer_updated(self, count: int) -> None:
            if not self.whole:
                head = bytes(scratch[: min(count, 4096)]).partition(b"\r\n\r\n")[0]
                length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
                self.whole = len(head) + 4 + length
                self.answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % length + bytes(length)
            self.have += count
            if self.have >= self.whole:
                self.have = 0
                self.transport.write(self.answer)

    async def main() -> None:
        listener = bind("127.0.0.1:0")
        await asyncio.get_running_loop().create_server(Counting, sock=listener)
        print(listener.getsockname()[1], flush=True)
        await asyncio.Event().wait()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


def go() -> None:
    """Built from benchmarks/harness/goecho; GOMAXPROCS follows the CPUs that this process may use."""
    binary = ROOT / ".build" / "goecho"
    binary.parent.mkdir(exist_ok=True)
    subprocess.run(["go", "build", "-o", str(binary), "."], cwd=ROOT / "benchmarks/harness/goecho", check=True)
    os.execv(binary, [str(binary)])


KINDS = {
    "limit": limit,
    "front": front,
    "plain": plain,
    "aiohttp": plain_bytes,
    "bare": bare,
    "counting": counting,
    "go": go,
}


@contextlib.contextmanager
def running(kind: str, cpu: int | None = None, more: Sequence[str] = ()) -> Iterator[Running]:
    """A server of that kind, on a CPU of its own if one is named."""
    if kind == "go" and not shutil.which("go"):
        raise FileNotFoundError("go is not installed")
    command = [sys.executable, "-m", "benchmarks.harness.servers", kind, *more]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    if cpu is not None:
        command += ["--cpu", str(cpu)]
        environment["GOMAXPROCS"] = "1"
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        yield Running(process, int(process.stdout.readline()))
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("--cpu", type=int)
    parser.add_argument("--tls", default="", help="front: PEM file with certificate and key")
    return parser.parse_args()


if __name__ == "__main__":
    chosen = _options()
    if chosen.cpu is not None and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {chosen.cpu})
    KINDS[chosen.kind]()
