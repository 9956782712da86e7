"""Write down the bytes that foreign clients send, for `make test` to send again: tests/clients/recorded/.

python -m scripts.record_clients [--address HOST:PORT] [PROGRAM...]

Each program of tests/clients/roster.py asks through a proxy that keeps what it sent. What a server answers does not
change what they ask, so any will do; ours is started where none is named.
"""

import argparse
import base64
import gzip
import json
import socket
import threading
from contextlib import ExitStack
from pathlib import Path

from benchmarks.harness.environment import Unavailable
from tests.clients.roster import ROSTER, Line, Program
from tests.clients.served import ARGUMENTS
from tests.serving import serving

FOLDER = Path(__file__).resolve().parent.parent / "tests" / "clients" / "recorded"
READ_BYTES = 1 << 16


class Proxy:
    """Passes bytes on to a server, and keeps those that came from the client: a list of pieces by connection."""

    def __init__(self, host: str, port: int) -> None:
        self.sent: list[bytearray] = []
        self._server = (host, port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._listener.getsockname()[1]}"

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return  # closed
            kept = bytearray()
            self.sent.append(kept)
            threading.Thread(target=self._serve, args=(client, kept), daemon=True).start()

    def _serve(self, client: socket.socket, kept: bytearray) -> None:
        with client, socket.create_connection(self._server) as server:
            back = threading.Thread(target=self._pass_on, args=(server, client, bytearray()), daemon=True)
            back.start()
            self._pass_on(client, server, kept)
            back.join()

    @staticmethod
    def _pass_on(source: socket.socket, target: socket.socket, kept: bytearray) -> None:
        try:
            while data := source.recv(READ_BYTES):
                kept += data
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # either side may go when it likes


def main() -> None:
    """Record those named, or all."""
    known = {program.name: program for program in ROSTER}
    parser = argparse.ArgumentParser(description="Record what foreign clients send.")
    parser.add_argument("--address", help="HOST:PORT of a server; default: one of ours")
    parser.add_argument("program", nargs="*", choices=[*known, []], help="default: all")
    options = parser.parse_args()
    with ExitStack() as stack:
        address = options.address
        if address is None:
            url = stack.enter_context(serving(*ARGUMENTS, tracebacks=True)).url
            address = url.removeprefix("http://")
        for name in options.program or known:
            try:
                print(f"{name}: {record(known[name], address)}", flush=True)
            except Unavailable as why:
                print(f"{name} NOT RECORDED: {why}", flush=True)


def record(program: Program, address: str, folder: Path = FOLDER) -> str:
    """Its file, written, in a few words."""
    host, _, port = address.rpartition(":")
    proxy = Proxy(host, int(port))
    marks: list[tuple[Line, list[int]]] = []
    program.run(proxy.address, lambda line: marks.append((line, [len(kept) for kept in proxy.sent])))
    proxy.close()
    path = folder / f"{program.name}.jsonl.gz"
    lines = [json.dumps(each) for each in questions(marks, proxy.sent)]
    # Without a time in its head the same questions are the same file.
    path.write_bytes(gzip.compress("".join(f"{line}\n" for line in lines).encode(), mtime=0))
    return f"{len(lines)} questions, {path.stat().st_size} bytes"


def questions(marks: list[tuple[Line, list[int]]], sent: list[bytearray]) -> list[dict[str, object]]:
    """For each question what was sent for it, on which connections: ``[[number, base64], ...]``."""
    found = []
    before: list[int] = []
    for line, lengths in marks:
        before += [0] * (len(lengths) - len(before))
        pieces = [
            [number, base64.b64encode(sent[number][start:end]).decode()]
            for number, (start, end) in enumerate(zip(before, lengths, strict=True))
            if end > start
        ]
        found.append({**{key: line[key] for key in ("subject", "name", "way")}, "sent": pieces})
        before = lengths
    return found


if __name__ == "__main__":
    main()
