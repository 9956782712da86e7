"""One of the two that are compared: a tree, the processes that run its code, and what its subjects cost there."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable
from pathlib import Path

from benchmarks.guarding.asked import CALLED, SERVED, Asked, NotThere
from benchmarks.guarding.counting import Method
from benchmarks.guarding.subjects import SERVERS, Subject
from benchmarks.harness.tree import Tree

__all__ = ["Side"]


class Side:
    """``folder`` is its own, ``canned`` the URL of a server that answers clients, ``theirs`` another writer's message."""

    def __init__(
        self, tree: Tree, method: Method, folder: Path, subjects: Iterable[Subject], canned: str, theirs: Path
    ) -> None:
        folder.mkdir()
        self.tree = tree
        self._processes: dict[str, Asked] = {}
        for process in dict.fromkeys(subject.process for subject in subjects):
            if process in SERVERS:
                code = SERVED
                arguments = ["--listen", "127.0.0.1:0", "--drain-grace-s", "0", *SERVERS[process]]
            else:
                code, arguments = CALLED, [canned, str(theirs)]
            self._processes[process] = Asked(tree, method, folder / process, code, arguments)
        self._ports: dict[str, int] = {}
        self._connections: dict[str, Connection] = {}

    def ready(self) -> None:
        """When all its processes are there. Raises NotThere if one ended instead."""
        for name, process in self._processes.items():
            said = process.ready()
            if name in SERVERS:
                self._ports[name] = int(said.rpartition(":")[2])

    def cost(self, subject: Subject, times: int) -> float:
        """Of doing it so often, in the method's unit. Raises NotThere if this tree cannot."""
        process = self._processes[subject.process]
        if not subject.server:
            process.ask(f"{subject.what}\t{times}")
            return process.cost()
        if subject.name not in self._connections:
            self._connections[subject.name] = Connection(self._ports[subject.server])
        connection = self._connections[subject.name]
        process.ask("mark")
        for _ in range(times):
            status = connection.call(subject.request)
            if status != subject.status:
                raise NotThere(f"the server answered {status.decode()}, not {subject.status.decode()}")
        process.ask("mark")
        return process.cost()

    def yardstick(self, subject: Subject, times: int) -> float:
        """What the yardstick's work costs in the same process."""
        process = self._processes[subject.process]
        process.ask(f"yardstick\t{times}")
        return process.cost()

    def close(self) -> None:
        for connection in self._connections.values():
            connection.socket.close()
        for process in self._processes.values():
            process.close()


class Connection:
    """A caller with one connection, who sends each request whole and reads its answer."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._calls = 0

    def call(self, request: Callable[[int], bytes]) -> bytes:
        """The status of the answer."""
        self._calls += 1
        self.socket.sendall(request(self._calls))
        answer = b""
        while (end := answer.find(b"\r\n\r\n")) < 0:
            answer += self._more()
        length = int(answer[:end].lower().split(b"content-length:")[1].split(b"\r\n")[0])
        while len(answer) < end + 4 + length:
            answer += self._more()
        return answer[9:12]

    def _more(self) -> bytes:
        if more := self.socket.recv(1 << 16):
            return more
        raise NotThere("the server closed the connection")
