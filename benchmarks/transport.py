"""How close is the server to what the loopback can carry?

    python benchmarks/transport.py [large] [small] [client] [memory] [hostile] [--rounds N] [--save]

large    77 MB request, 12.8 MB answer, real codec, one connection: ours and aiohttp alone beside the limit server
small    1 KB through echo, server on one core, 64 connections: ours beside aiohttp that echoes bytes, and beside Go
client   Client.execute beside a raw socket that sends prebuilt bytes to the same server and decodes nothing
memory   peak above the idle server for one 77 MB request; 32 callers with 77 MB each against a 512 MB cap
hostile  a normal caller's p99 while slow heads, slow bodies, aborts and 2,000 idle connections hang on the server

Servers of one question run side by side and are asked in turn, so that a noisy machine is noisy for all; what counts
are medians of paired ratios.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import platform
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402

import graphpipe  # noqa: E402
from benchmarks.harness.load import run_load  # noqa: E402
from benchmarks.harness.process import Running  # noqa: E402
from benchmarks.harness.raw import Raw  # noqa: E402
from benchmarks.harness.servers import CROPPED_FLOATS, running  # noqa: E402
from graphpipe.wire import decode_infer_response, encode_request  # noqa: E402

LARGE = (128, 224, 224, 3)


def timed(call: Any) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def large(rounds: int) -> dict[str, Any]:
    array = np.random.default_rng(0).random(LARGE, dtype=np.float32)
    with running("limit") as limit, running("front") as front, running("plain") as plain:
        callers = {"limit": Raw(limit.port, "/", array)}
        callers |= {"front": Raw(front.port, "/models/crop", array), "plain": Raw(plain.port, "/models/crop", array)}
        answer = decode_infer_response(callers["front"].call()).outputs[0]
        assert np.array_equal(answer, array.reshape(-1)[:CROPPED_FLOATS])
        for caller in callers.values():
            caller.call()
            caller.call()
        times: dict[str, list[float]] = {name: [] for name in callers}
        for _ in range(rounds):
            for name, caller in callers.items():
                times[name].append(timed(caller.call))
    result: dict[str, Any] = {f"{name}_ms": 1000 * median(values) for name, values in times.items()}
    for name in ("front", "plain"):
        result[f"{name}_ratio"] = median(a / b for a, b in zip(times[name], times["limit"], strict=True))
    print(f"77 MB in, 12.8 MB out, {rounds} rounds     median ms   ratio to the limit")
    for name in callers:
        print(f"  {name:<36}{result[f'{name}_ms']:>8.1f}   {result.get(f'{name}_ratio', 1):.2f}")
    return result


def small(rounds: int) -> dict[str, Any]:
    kinds = ["front", "aiohttp"]
    with contextlib.ExitStack() as stack:
        servers: dict[str, Running] = {kind: stack.enter_context(running(kind, cpu=0)) for kind in kinds}
        try:
            servers["go"] = stack.enter_context(running("go", cpu=0))
        except (FileNotFoundError, ValueError) as error:
            print(f"  the Go server does not run here: {error}")
        found: dict[str, dict[str, list[float]]] = {}
        for connections in (1, 8, 64):
            for _ in range(rounds if connections == 64 else max(1, rounds // 2)):
                for kind, server in servers.items():
                    before = server.cpu_seconds()
                    result = run_load(server.port, connections, 1.5, cpu=1)
                    cpu = (server.cpu_seconds() - before) / result["all_requests"] * 1e6
                    row = found.setdefault(f"{kind} {connections}", {"per_second": [], "p99_ms": [], "cpu_us": []})
                    row["per_second"].append(result["per_second"])
                    row["p99_ms"].append(result["p99_ms"])
                    row["cpu_us"].append(cpu)
    summary: dict[str, Any] = {
        name: {key: median(values) for key, values in row.items()} for name, row in found.items()
    }
    for other in [kind for kind in servers if kind != "front"]:
        pairs = zip(found["front 64"]["per_second"], found[f"{other} 64"]["per_second"], strict=True)
        summary[f"front to {other}"] = median(a / b for a, b in pairs)
    print(f"1 KB echo, server on one core, {rounds} rounds   req/s    p99 ms   CPU us/request")
    for name, row in summary.items():
        if isinstance(row, dict):
            kind, connections = name.split()
            print(
                f"  {kind:<10} {connections:>3} connections {row['per_second']:>18,.0f} {row['p99_ms']:>9.2f}"
                f" {row['cpu_us']:>10.1f}"
            )
    for name, value in summary.items():
        if isinstance(value, float):
            print(f"  {name}: {value:.2f}x at 64 connections")
    return summary


def client(rounds: int) -> dict[str, Any]:
    large_array = np.random.default_rng(0).random(LARGE, dtype=np.float32)
    small_array = np.linspace(0, 1, 256, dtype=np.float32)
    result: dict[str, Any] = {}
    with running("front") as server:
        for what, array, path, calls in (
            ("1 KB", small_array, "/", 500),
            ("77 MB", large_array, "/models/crop", 1),
        ):
            raw = Raw(server.port, path, array)
            with graphpipe.Client(server.url + path) as ours:
                answer = ours.execute(array)
                assert np.array_equal(np.ravel(answer), array.reshape(-1)[: np.size(answer)])
                pairs = []
                for _ in range(max(rounds, 7) * (4 if calls == 1 else 1)):
                    raw_s = timed(lambda: [raw.call() for _ in range(calls)]) / calls  # noqa: B023
                    ours_s = timed(lambda: [ours.execute(array) for _ in range(calls)]) / calls  # noqa: B023
                    pairs.append((ours_s / raw_s, raw_s, ours_s))
            ratio, raw_us, ours_us = (median(column) for column in zip(*pairs, strict=True))
            result[what] = {"ratio": ratio, "raw_us": raw_us * 1e6, "ours_us": ours_us * 1e6}
            print(f"  {what:>5} call: raw socket {raw_us * 1e6:,.0f} us, Client {ours_us * 1e6:,.0f} us: {ratio:.2f}x")
    return result


def memory(rounds: int) -> dict[str, Any]:
    array = np.random.default_rng(0).random(LARGE, dtype=np.float32)
    both = array.nbytes + 4 * CROPPED_FLOATS
    with running("front") as server:
        Raw(server.port, "/", np.zeros(256, np.float32)).call()
        idle = server.memory("VmRSS")
        Raw(server.port, "/models/crop", array).call()
        one = (server.memory("VmHWM") - idle) / both
    tls = memory_over_tls(array, both)
    cap, callers = 512 << 20, 32
    outcomes: list[str] = []
    command = ["from graphpipe.server.cli import main; main()", "-m", "echo", "-l", "127.0.0.1:0"]
    command += ["--in-flight-bytes-max", str(cap), "--body-bytes-max", str(100 << 20), "--admission-wait-s", "1"]
    process = subprocess.Popen([sys.executable, "-c", *command], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        url = process.stdout.readline().split()[-1]
        server = Running(process, int(url.rpartition(":")[2]))
        graphpipe.remote.execute(url, 1.0)
        idle = server.memory("VmRSS")

        def call(seed: int) -> None:
            mine = array[:, :, :, :] if seed % 2 else array[::-1]
            with graphpipe.Client(url) as client:
                try:
                    outcomes.append("right" if np.array_equal(client.execute(mine), mine) else "WRONG")
                except graphpipe.errors.Overloaded:
                    outcomes.append("503")
                except graphpipe.GraphPipeError as error:
                    outcomes.append(type(error).__name__)

        threads = [threading.Thread(target=call, args=(seed,)) for seed in range(callers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        peak = server.memory("VmHWM") - idle
    finally:
        process.terminate()
        process.wait()
    counts = {outcome: outcomes.count(outcome) for outcome in sorted(set(outcomes))}
    print(f"one 77 MB request: peak above idle {one:.2f}x (request + answer), over TLS {tls:.2f}x")
    print(f"{callers} callers with 77 MB each, cap {cap >> 20} MB: {counts}, peak {peak >> 20} MB above idle")
    return {"one_ratio": one, "one_ratio_over_tls": tls, "outcomes": counts, "peak_to_cap": peak / cap}


def memory_over_tls(array: Any, both: int) -> float:
    """The peak for one request above the idle server, in units of request and answer, over TLS."""
    import trustme

    authority = trustme.CA()
    with tempfile.TemporaryDirectory() as folder:
        pem = Path(folder, "server.pem")
        authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(pem))
        trusting = ssl.create_default_context()
        authority.configure_trust(trusting)
        with running("front", more=["--tls", str(pem)]) as server:
            caller = graphpipe.Client(f"https://127.0.0.1:{server.port}/models/crop", tls=trusting)
            caller.execute(np.zeros(256, np.float32))
            idle = server.memory("VmRSS")
            caller.execute(array)
            return (server.memory("VmHWM") - idle) / both


def hostile(rounds: int) -> dict[str, Any]:
    body = b"".join(encode_request([np.zeros(256, np.float32)]))
    head = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n"
    stop = threading.Event()

    def attack(port: int) -> None:
        connect = lambda: socket.create_connection(("127.0.0.1", port), 5)  # noqa: E731
        idle = [connect() for _ in range(2000)]
        slow_heads, slow_bodies = [connect() for _ in range(100)], [connect() for _ in range(100)]
        for connection in slow_heads:
            connection.sendall(b"POST / HTTP/1.1\r\nHost: h\r\n")
        for connection in slow_bodies:
            connection.sendall(head % 100_000)
        while not stop.wait(0.05):
            for connection in slow_heads[:10]:
                with contextlib.suppress(OSError):
                    connection.sendall(b"X: y\r\n")
            for connection in slow_bodies[:10]:
                with contextlib.suppress(OSError):
                    connection.sendall(b"x")
            for cut in (20, 60, 500):
                abort = connect()
                abort.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                abort.sendall((head % len(body) + body)[:cut])
                abort.close()
            half = connect()
            half.sendall(head % len(body) + body[:100])
            half.shutdown(socket.SHUT_WR)
            half.close()
        for connection in [*idle, *slow_heads, *slow_bodies]:
            connection.close()

    quiet: list[float] = []
    busy: list[float] = []
    with running("front", cpu=0) as server:
        for _ in range(rounds):
            stop.clear()
            quiet.append(run_load(server.port, 4, 2, cpu=1)["p99_ms"])
            attacker = threading.Thread(target=attack, args=(server.port,))
            attacker.start()
            time.sleep(1)
            busy.append(run_load(server.port, 4, 2, cpu=1)["p99_ms"])
            stop.set()
            attacker.join()
    ratio = median(b / q for b, q in zip(busy, quiet, strict=True))
    print(f"p99 of 4 callers: {median(quiet):.2f} ms alone, {median(busy):.2f} ms under attack: {ratio:.2f}x")
    return {"quiet_p99_ms": median(quiet), "hostile_p99_ms": median(busy), "ratio": ratio}


QUESTIONS = {"large": large, "small": small, "client": client, "memory": memory, "hostile": hostile}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("question", nargs="*", choices=[*QUESTIONS, []])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/transport.json")
    options = parser.parse_args()
    results = {name: QUESTIONS[name](options.rounds) for name in options.question or QUESTIONS}
    if options.save:
        commit = subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
        ).stdout.strip()
        about = {
            "machine": f"{platform.machine()}, {platform.processor() or 'unknown processor'}",
            "python": platform.python_version(),
            "versions": {name: version(name) for name in ("numpy", "aiohttp", "uvloop")},
            "commit": commit,
        }
        folder = ROOT / "benchmarks" / "results"
        folder.mkdir(exist_ok=True)
        (folder / "transport.json").write_text(json.dumps({"about": about, **results}, indent=2) + "\n")


if __name__ == "__main__":
    main()
