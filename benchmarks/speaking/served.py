"""A server of this question: started in a session of its own, asked, and held up while others are."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.harness.environment import Unavailable
from benchmarks.harness.environments import ENVIRONMENTS
from benchmarks.harness.family import Family
from benchmarks.harness.household import Household
from benchmarks.harness.tree import ROOT, SERVE, Tree
from benchmarks.harness.turns import Generator

__all__ = ["Served", "fastapi", "graphpipe", "grpc_aio"]

HERE = Path(__file__).resolve().parent
PROTO = ROOT / "tests" / "protocols" / "proto" / "open_inference.proto"
PATIENCE_S = 60


class Served:
    """A server that listens on ``port``. Nobody of it runs but where it is asked."""

    def __init__(self, household: Household, port: int) -> None:
        self.port = port
        self._household = household
        self._family = Family(household.process.pid)

    def cpu_seconds(self) -> float:
        """What all its threads have taken so far."""
        return self._family.cpu_seconds()

    @contextmanager
    def going_on(self) -> Iterator[None]:
        self._household.go_on()
        try:
            yield
        finally:
            self._household.hold()

    def turn(self, generator: Generator, name: str, message: bytes, callers: int, seconds: float) -> dict[str, Any]:
        """What a turn finds, and the server's CPU for a call. ``name`` is the message's. Raises Failed."""
        with self.going_on():
            before = self.cpu_seconds()
            found = generator.turn(self.port, callers, seconds, message, name)
            cpu = (self.cpu_seconds() - before) / found["all_requests"]
        return {**found, "cpu_us": 1e6 * cpu, "ms": 1000 * callers / found["per_second"]}


@contextmanager
def graphpipe(folder: Path, tree: Tree) -> Iterator[Served]:
    """Ours, as ``tree`` has it, with echo for its only model."""
    port = _free_port()
    flags = ["--model", "echo", "--access-lines-per-s", "0", "--listen", f"127.0.0.1:{port}", "--drain-grace-s", "0"]
    with _served([tree.python, "-c", SERVE, *flags], folder, port, tree.environment()) as served:
        yield served


@contextmanager
def grpc_aio(folder: Path) -> Iterator[Served]:
    """Raises Unavailable."""
    port, python = _free_port(), ENVIRONMENTS["grpc"].make()
    command = [str(python), str(HERE / "grpc_server.py"), str(port), str(PROTO)]
    with _served(command, folder, port, {**os.environ, "TMPDIR": str(folder)}) as served:
        yield served


@contextmanager
def fastapi(folder: Path) -> Iterator[Served]:
    """Raises Unavailable."""
    port, python = _free_port(), ENVIRONMENTS["fastapi"].make()
    command = [str(python), "-m", "uvicorn", "json_server:app", "--host", "127.0.0.1", "--port", str(port)]
    environment = {**os.environ, "PYTHONPATH": str(HERE)}
    with _served([*command, "--no-access-log"], folder, port, environment) as served:
        yield served


@contextmanager
def _served(command: Sequence[str], folder: Path, port: int, environment: Mapping[str, str]) -> Iterator[Served]:
    """Raises Unavailable if it ends, or nobody can connect to it, before it is asked."""
    folder.mkdir()
    with Household(command, folder, environment) as household:
        until = time.monotonic() + PATIENCE_S
        while not _listens(port):
            if household.process.poll() is not None or time.monotonic() > until:
                raise Unavailable(f"it did not start: {household.said()}")
            time.sleep(0.05)
        household.hold()
        yield Served(household, port)


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
