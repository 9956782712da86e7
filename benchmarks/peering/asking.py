"""A peer beside ours: both started, their answers checked, and asked by turns, whoever is not asked being held up."""

from __future__ import annotations

import json
import select
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness import row_models
from benchmarks.harness.about import ROOT
from benchmarks.harness.environment import Unavailable
from benchmarks.harness.forms import request
from benchmarks.harness.household import Household
from benchmarks.harness.rounds import Measured, interleaved
from benchmarks.harness.secluded import is_secluded
from benchmarks.harness.turns import Failed, Generator
from benchmarks.peering.models import SHAPES, Model
from benchmarks.peering.roster import Peer

__all__ = ["Asking", "Bench", "Server"]

Array = NDArray[Any]

HERE = Path(__file__).resolve().parent
PATIENCE_S = 120  # with a client that says nothing
LARGE_ROWS = 75_264  # of identity: 77 MB


class Line:
    """A process that answers each line of its standard input with one of JSON."""

    def __init__(self, command: Sequence[str], environment: dict[str, str], folder: Path) -> None:
        self._said = folder / f"said-{time.monotonic_ns()}"  # not a pipe: nobody reads it as long as all goes well
        with self._said.open("wb") as said:
            self.process = subprocess.Popen(
                command, env=environment, cwd=folder, text=True,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said,
            )  # fmt: skip

    def ask(self, line: str) -> dict[str, float]:
        """Raises Failed if it has ended."""
        stdin = self.process.stdin
        assert stdin is not None
        stdin.write(f"{line}\n")
        stdin.flush()
        found: dict[str, float] = json.loads(self.read())
        return found

    def read(self) -> str:
        stdout = self.process.stdout
        assert stdout is not None
        if not select.select([stdout], [], [], PATIENCE_S)[0]:
            raise Failed(f"no answer within {PATIENCE_S} s")
        if not (line := stdout.readline()):
            raise Failed(self._said.read_text().strip()[-300:])
        return line

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


class Server:
    """A server that is there: it answers right, and is held up while it is not asked."""

    def __init__(self, peer: Peer, household: Household, port: int, start_s: float) -> None:
        self.peer, self.household, self.port, self.start_s = peer, household, port, start_s

    def message(self, model: str, array: Array) -> bytes:
        return request(self.peer.form, self.peer.path.format(model), array)

    @contextmanager
    def going_on(self) -> Iterator[None]:
        self.household.go_on()
        try:
            yield
        finally:
            self.household.hold()


class Bench:
    """The models, what they answer, and what all servers are asked by."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.models = folder / "models"
        self.models.mkdir()
        row_models.identity(self.models, 256).rename(self.models / "identity.onnx")
        row_models.squeezenet(self.models)
        rng = np.random.default_rng(0)
        self.inputs = {name: rng.random((1, *shape[1:]), np.float32) for name, shape in SHAPES.items()}
        self.expected = {}
        for name, array in self.inputs.items():
            self.expected[name] = Model(name, self.models)(array)
        self.environment = {"MODELS": str(self.models), "PYTHONPATH": str(ROOT)}
        self.limit = Line([sys.executable, str(HERE / "limit.py")], self.environment, folder)

    @contextmanager
    def running(self, peer: Peer) -> Iterator[Server]:
        """The peer, started and checked. Raises Unavailable if it does not start, or answers wrong."""
        if peer.is_everywhere and not is_secluded():
            raise Unavailable("it listens on every interface, and no network of its own can be made here (unshare)")
        folder = Path(tempfile.mkdtemp(dir=self.folder, prefix="s"))
        began = time.perf_counter()
        household, port = peer.start(self.models, folder)
        with household:
            server = Server(peer, household, port, 0)
            for model in SHAPES:
                self._first_answer(server, model, began)
                server.start_s = time.perf_counter() - began
            yield server

    def _first_answer(self, server: Server, model: str, began: float) -> None:
        message, form = server.message(model, self.inputs[model]), server.peer.form
        while True:
            if server.household.process.poll() is not None:
                raise Unavailable(f"it ended as it started: {server.household.said()}")
            try:
                head, body = posted(server.port, message)
            except (OSError, ValueError, Failed) as problem:  # it does not listen yet, or has not loaded its models
                if time.perf_counter() - began > server.peer.patience_s:
                    raise Unavailable(f"no answer within {server.peer.patience_s} s: {problem}") from None
                time.sleep(0.05)
                continue
            break
        try:
            np.testing.assert_allclose(form.read(head, body), self.expected[model].reshape(-1), rtol=1e-4, atol=1e-6)
        except (AssertionError, KeyError, ValueError) as problem:
            raise Unavailable(f"its answer is not what the model says: {str(problem).strip()[:200]}") from None


def posted(port: int, message: bytes, timeout_s: float = 60) -> tuple[dict[str, str], bytes]:
    """One request on a connection of its own: headers in lower case, and the body. Raises Failed unless it is a 200."""
    with socket.create_connection(("127.0.0.1", port), timeout=timeout_s) as connection:
        connection.sendall(message)
        answered = HTTPResponse(connection, method="POST")
        try:
            answered.begin()
            body = answered.read()
        except HTTPException as problem:
            raise Failed(f"no answer: {problem!r}") from None
    if answered.status != 200:
        raise Failed(f"{answered.status}: {body[:200]!r}")
    return {name.lower(): value for name, value in answered.getheaders()}, body


class Asking:
    """Rounds of one peer beside ours."""

    def __init__(self, bench: Bench, generator: Generator, ours: Server, theirs: Server, rounds: int) -> None:
        self.bench, self.generator, self.rounds = bench, generator, rounds
        self.servers = {"ours": ours, "theirs": theirs}

    def load(self, model: str, callers: int, seconds: float, limit: bool) -> Measured:
        """Turns of ``seconds`` each, of ours, theirs and, if so asked, the limit."""
        ways: dict[str, Any] = {}
        for way, server in self.servers.items():
            message = server.message(model, self.bench.inputs[model])
            ways[way] = partial(self._turn, server, model, callers, seconds, message)
        if limit:
            ways = {
                "ours": ways["ours"],
                "limit": lambda: self.bench.limit.ask(f"{model} {seconds}"),
                "theirs": ways["theirs"],
            }
        return interleaved(ways, self.rounds, f"{self.servers['theirs'].peer.name}, {model}, {callers} callers")

    def _turn(self, server: Server, model: str, callers: int, seconds: float, message: bytes) -> dict[str, Any]:
        with server.going_on():
            return self.generator.turn(server.port, callers, seconds, message, f"{server.peer.name}-{model}")

    def clients(self, model: str, seconds: float) -> Measured:
        """The clients that each recommends, one caller."""
        lines: dict[str, Line] = {}
        try:
            for way, server in self.servers.items():
                with server.going_on():
                    lines[way] = self._client(server, model)
            ways = {way: partial(self._call, lines[way], way, seconds) for way in lines}
            return interleaved(ways, self.rounds)
        finally:
            for line in lines.values():
                line.end()

    def _client(self, server: Server, model: str) -> Line:
        """Started, and what it gives checked."""
        bench, kind = self.bench, server.peer.caller
        taken, given = bench.folder / f"{model}.npy", bench.folder / f"{server.peer.name}-{model}-answer.npy"
        np.save(taken, bench.inputs[model])
        line = Line(
            [
                str(server.peer.interpreter()),
                str(HERE / "callers.py"),
                kind,
                str(server.port),
                model,
                str(taken),
                str(given),
            ],
            {
                "PYTHONPATH": str(ROOT),
                "HOME": str(bench.folder),
                "TMPDIR": str(bench.folder),
                "BENTOML_DO_NOT_TRACK": "True",
            },
            bench.folder,
        )
        try:
            line.read()
            found = np.load(given).reshape(-1)
            np.testing.assert_allclose(found, bench.expected[model].reshape(-1), rtol=1e-4, atol=1e-6)
        except BaseException:
            line.end()
            raise
        return line

    def _call(self, line: Line, way: str, seconds: float) -> dict[str, float]:
        with self.servers[way].going_on():
            return line.ask(str(seconds))

    def large(self) -> dict[str, float]:
        """Seconds of a 77 MB echo, prebuilt bytes to bytes: the better of two, if it is quick. Raises Failed."""
        if self.servers["theirs"].peer.form.is_text:
            raise Failed("not asked: it would be 200 MB of numbers written out")
        array = np.random.default_rng(0).random((LARGE_ROWS, 256), np.float32)
        found = {}
        for way, server in self.servers.items():
            message = server.message("identity", array)
            with server.going_on():
                took = []
                for _ in range(2):
                    began = time.perf_counter()
                    _, body = posted(server.port, message, timeout_s=120)
                    took.append(time.perf_counter() - began)
                    if len(body) < array.nbytes // 2:
                        raise Failed(f"the answer to 77 MB had {len(body)} bytes")
                    if took[-1] > 5:
                        break
            found[way] = min(took)
        return found
