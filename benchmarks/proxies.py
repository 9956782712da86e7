"""Servers restarted, and killed, behind nginx and haproxy while callers call: what do the callers see?

    python benchmarks/proxies.py [--proxies nginx haproxy none] [--calls 100000] [--callers 4] [--docs]

The configurations are those of deploy/proxies, on ports of this run. Two servers of the echo model are behind each. While
callers call, one server after the other is stopped by SIGTERM, awaited, and started again, until all calls are made:
wanted is that none fails. In a second round servers are killed instead, and what callers saw is counted. Then a body of
64 MB goes there and back, plainly and over TLS. ``none`` is a server without a proxy, for the last of these.

--docs writes the tables into docs/operations.md.
"""

from __future__ import annotations

import argparse
import contextlib
import platform
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402

import graphpipe  # noqa: E402

PAGE = ROOT / "docs" / "operations.md"
BEGIN = "<!-- proxies: written by python benchmarks/proxies.py --docs -->"
END = "<!-- end of proxies -->"
LARGE = 16 << 20  # float32: 64 MB
CONFIGURATIONS = {"nginx": "nginx.conf", "haproxy": "haproxy.cfg"}


class Server:
    """One echo server, at the same port each time."""

    def __init__(self, port: int, log: Path) -> None:
        self.port = port
        self.log = log
        self.starts = 0

    def start(self) -> None:
        """Start it, and wait until requests are welcome."""
        command = [
            sys.executable,
            "-m",
            "graphpipe.server.cli",
            "--model",
            "echo",
            "--listen",
            f"127.0.0.1:{self.port}",
        ]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*command, "--access-lines-per-s", "0"], stdout=subprocess.PIPE, stderr=log, cwd=ROOT
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        self.process.stdout.close()
        if b"listening on" not in line:
            raise RuntimeError(f"the server at port {self.port} did not start: see {self.log}")
        self.starts += 1

    def end(self, by: signal.Signals) -> None:
        """Have it go, and wait until it is gone."""
        self.process.send_signal(by)
        self.process.wait(60)


class Callers:
    """Threads that call until so many calls are made, and count what they saw."""

    def __init__(self, url: str, calls: int, threads: int) -> None:
        self.seen: Counter[str] = Counter()
        self.longest_s = 0.0
        self._left = calls
        self._one_at_a_time = threading.Lock()
        self._threads = [threading.Thread(target=self._call, args=(url,)) for _ in range(threads)]

    def __enter__(self) -> Callers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        for thread in self._threads:
            thread.join()

    @property
    def calling(self) -> bool:
        """Whether calls are left to make."""
        return any(thread.is_alive() for thread in self._threads)

    def _call(self, url: str) -> None:
        array = np.random.default_rng().random((4, 64), np.float32)
        with graphpipe.Client(url, timeout=30) as client:
            while self._take_one():
                began = time.monotonic()
                try:
                    answer = client.execute(array)
                    what = "answered" if np.array_equal(answer, array) else "answered with something else"
                except graphpipe.GraphPipeError as error:
                    status = getattr(error, "http_status", 0)
                    what = f"{type(error).__name__}{f' ({status})' if status else ''}"
                with self._one_at_a_time:
                    self.seen[what] += 1
                    self.longest_s = max(self.longest_s, time.monotonic() - began)

    def _take_one(self) -> bool:
        with self._one_at_a_time:
            self._left -= 1
            return self._left >= 0


@contextlib.contextmanager
def proxy(name: str, servers: list[Server], folder: Path, tls: Path | None = None, *, burst: int = 0) -> Iterator[str]:
    """Run a proxy with the configuration that the repository has, on ports of this run: its URL.

    All callers have one address here, so the limits for each are left out, unless they are to be ``burst`` requests at once.
    """
    port = _free_port()
    text = (ROOT / "deploy" / "proxies" / CONFIGURATIONS[name]).read_text()
    for told, ours in zip((9001, 9002), servers, strict=True):
        text = text.replace(f"127.0.0.1:{told}", f"127.0.0.1:{ours.port}")
    if burst:
        text = text.replace("rate=1000r/s", "rate=1r/s").replace("burst=2000", f"burst={burst}")
        text = text.replace("gt 10000", f"gt {burst}")
    else:
        text = re.sub(r"^ +(limit_req |http-request deny).*\n", "", text, flags=re.MULTILINE)
    if tls and name == "nginx":
        told = f"listen 127.0.0.1:{port} ssl; ssl_certificate {tls}; ssl_certificate_key {tls};"
        text = text.replace("listen 127.0.0.1:9000;", told)
    elif tls:
        text = text.replace("bind 127.0.0.1:9000", f"bind 127.0.0.1:{port} ssl crt {tls}")
    file = folder / CONFIGURATIONS[name]
    file.write_text(text.replace("127.0.0.1:9000", f"127.0.0.1:{port}"))
    if name == "nginx":
        command = ["nginx", "-p", str(folder), "-c", str(file), "-g"]
        command.append(f"daemon off; pid {folder}/nginx.pid; error_log {folder}/nginx.log;")
    else:
        command = ["haproxy", "-db", "-f", str(file)]
    with (folder / f"{name}.out").open("ab") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out)
    try:
        _await(port)
        yield f"{'https' if tls else 'http'}://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)


def restarted(
    name: str, servers: list[Server], folder: Path, calls: int, threads: int, by: signal.Signals
) -> list[str]:
    """One round: servers go, and come again, while callers call."""
    before = [server.starts for server in servers]
    with proxy(name, servers, folder) as url, Callers(url, calls, threads) as callers:
        while callers.calling:
            for server in servers:
                # Whom nginx has found dead it asks again after a second: the other one is to live so long.
                time.sleep(1 if by is signal.SIGTERM else 3)
                if not callers.calling:
                    break
                server.end(by)
                server.start()
    ends = sum(server.starts for server in servers) - sum(before)
    failed = {what: count for what, count in callers.seen.items() if what != "answered"}
    return [
        name, "stopped (SIGTERM)" if by is signal.SIGTERM else "killed (SIGKILL)", f"{ends:,}",
        f"{callers.seen.total():,}", f"{sum(failed.values()):,}",
        ", ".join(f"{count:,} {what}" for what, count in sorted(failed.items())) or "nothing",
        f"{callers.longest_s:.2f}",
    ]  # fmt: skip


def large(url: str, certificate: Path | None = None) -> str:
    """Milliseconds that 64 MB take there and back: the median of seven."""
    array = np.zeros(LARGE, np.float32)
    tls = ssl.create_default_context(cafile=str(certificate)) if certificate else None
    took = []
    with graphpipe.Client(url, tls=tls) as client:
        for _ in range(8):
            began = time.monotonic()
            client.execute(array)
            took.append(1000 * (time.monotonic() - began))
    return f"{median(took[1:]):.0f}"


def main() -> None:
    """Run what is asked for, and print the tables."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--proxies", nargs="+", default=["nginx", "haproxy"], choices=list(CONFIGURATIONS))
    options.add_argument("--calls", type=int, default=100_000)
    options.add_argument("--callers", type=int, default=4)
    options.add_argument("--docs", action="store_true")
    chosen = options.parse_args()
    for name in chosen.proxies:
        if shutil.which(name) is None:
            sys.exit(f"{name} is not installed")
    seen = [["proxy", "servers were", "times", "calls", "failed", "callers saw", "longest call, s"]]
    sizes = [["way", "64 MB there and back, ms", "the same over TLS, ms"]]
    with tempfile.TemporaryDirectory() as scratch, contextlib.ExitStack() as stack:
        folder = Path(scratch)
        servers = [Server(_free_port(), folder / f"server{n}.log") for n in (1, 2)]
        for server in servers:
            server.start()
            stack.callback(lambda server=server: server.end(signal.SIGTERM))
        certificate = _certificate(folder)
        for name in chosen.proxies:
            for by, calls in ((signal.SIGTERM, chosen.calls), (signal.SIGKILL, chosen.calls)):
                seen.append(restarted(name, servers, folder, calls, chosen.callers, by))
                print("  ".join(seen[-1]), flush=True)
            with proxy(name, servers, folder) as url:
                plain = large(url)
            with proxy(name, servers, folder, certificate) as url:
                sizes.append([name, plain, large(url, certificate)])
        sizes.append(["no proxy", large(f"http://127.0.0.1:{servers[0].port}"), ""])
    text = f"{_table(seen)}\n{_table(sizes)}"
    print(f"\n{text}")
    if chosen.docs:
        about = f"Python {platform.python_version()}, {_version('nginx', '-v')}, {_version('haproxy', '-v')}, two cores"
        before, _, rest = PAGE.read_text().partition(BEGIN)
        PAGE.write_text(f"{before}{BEGIN}\n\nMeasured with {about}.\n\n{text}\n{END}{rest.partition(END)[2]}")


def _table(rows: list[list[str]]) -> str:
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]]) + "\n"


def _version(*command: str) -> str:
    said = subprocess.run(command, capture_output=True, text=True, check=False)
    found = re.search(r"(?i)(nginx|haproxy)\D{1,10}([\d.]+\d)", said.stdout + said.stderr)
    return f"{found[1].lower()} {found[2]}" if found else command[0]


def _certificate(folder: Path) -> Path:
    import trustme

    authority = trustme.CA()
    file = folder / "server.pem"
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(file))
    with file.open("ab") as whole:
        whole.write(authority.cert_pem.bytes())
    return file


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def _await(port: int, seconds: float = 20) -> None:
    """Until somebody listens there and has a server behind."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            time.sleep(0.5)  # haproxy asks its servers for their health first
            return
        time.sleep(0.05)
    raise RuntimeError(f"nobody listens on port {port}")


if __name__ == "__main__":
    main()
