"""What do callers on the same host gain who show their tensors instead of sending them?

    python benchmarks/sharing.py [large] [small] [sizes] [--rounds N] [--save]

large    77 MB in, 12.8 MB out over one Unix socket: as bytes, by memory, from an array of client.empty();
         beside one copy of what travels
small    1 KB over the Unix socket: a client that may show memory beside one that knows of none
sizes    a tensor of 64 KiB to 16 MiB there and a sixth back: from where on is memory quicker than bytes?

All ways are asked in turn, of one server, so that a noisy machine is noisy for all; what counts are medians of paired
ratios.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
from numpy.typing import NDArray  # noqa: E402

import graphpipe  # noqa: E402
import graphpipe.client.memory  # noqa: E402
from benchmarks.harness.rounds import Ratio, interleaved, middle  # noqa: E402
from graphpipe.server.life.server import Server  # noqa: E402
from graphpipe.server.settings.values import ModelSettings, Settings  # noqa: E402
from graphpipe.signature import Signature, TensorSpec  # noqa: E402

LARGE = (128, 224, 224, 3)
SIZES = (65_536, 131_072, 262_144, 524_288, 1_048_576, 4_194_304, 16_777_216)


class Sixth:
    """Answers a sixth as many numbers as came, and always the same ones, which are there already: what is measured is the
    way there and back.
    """

    signature = Signature((TensorSpec("x"),), (TensorSpec("y"),))
    quick = True
    shares_memory = False

    def __init__(self) -> None:
        self._numbers = np.ones(LARGE, np.float32).reshape(-1)

    def infer(
        self, inputs: Mapping[str, NDArray[Any]], outputs: Sequence[str] | None = None, *, config: str = ""
    ) -> dict[str, NDArray[Any]]:
        return {"y": self._numbers[: inputs["x"].size // 6]}

    def close(self) -> None:
        pass


def serve(path: str) -> None:
    settings = Settings(listen=f"unix:{path}", access_lines_per_s=0)
    models: list[tuple[ModelSettings, Any]] = [(ModelSettings("sixth", "sixth"), Sixth())]
    Server(models, settings, lambda url: print(url, flush=True)).run()


@contextlib.contextmanager
def running() -> Iterator[str]:
    """The URL of a server."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, "--serve", f"{folder}/s.sock"]
        process = subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)}
        )
        try:
            assert process.stdout is not None
            yield process.stdout.readline().decode().strip()
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()


def by_bytes(url: str) -> graphpipe.Client:
    """A client that knows of no memory, as on any other system."""
    client = graphpipe.Client(url)
    client._same_host = client._calls._memory = None
    return client


def timed(call: Callable[[], Any], calls: int = 1) -> Callable[[], dict[str, float]]:
    def run() -> dict[str, float]:
        started = time.perf_counter()
        for _ in range(calls):
            call()
        return {"s": (time.perf_counter() - started) / calls}

    return run


def copying(array: NDArray[Any], answer: NDArray[Any]) -> Callable[[], None]:
    """One copy of what travels, into memory that is warm."""
    targets = np.ones_like(array), np.ones_like(answer)

    def copy() -> None:
        np.copyto(targets[0], array)
        np.copyto(targets[1], answer)

    return copy


def large(rounds: int) -> dict[str, Any]:
    array = np.random.default_rng(0).random(LARGE, dtype=np.float32)
    with running() as url:
        bytes_, memory = by_bytes(f"{url}"), graphpipe.Client(f"{url}")
        shown = memory.empty("x", LARGE, "float32")
        shown[:] = array
        answer = bytes_.execute(array)
        for client, value in ((memory, array), (memory, shown)):
            assert np.array_equal(client.execute(value), answer)
        ways = {
            "as bytes": timed(lambda: bytes_.execute(array)),
            "by memory": timed(lambda: memory.execute(array)),
            "from client.empty()": timed(lambda: memory.execute(shown)),
            "one copy of both": timed(copying(array, answer)),
        }
        interleaved(ways, 3)
        found = interleaved(ways, rounds, "77 MB")
    print(f"77 MB in, 12.8 MB out, {rounds} rounds     median ms   best   ratio to bytes   to one copy")
    result: dict[str, Any] = {}
    for way in ways:
        seconds = [each["s"] for each in found[way]]
        to_bytes, to_copy = (
            Ratio(seconds, [e["s"] for e in found[other]]) for other in ("as bytes", "one copy of both")
        )
        result[way] = {
            "ms": 1000 * middle(found[way], "s"), "best_ms": 1000 * min(seconds),
            "to_bytes": to_bytes.value, "to_copy": to_copy.value,
        }  # fmt: skip
        row = result[way]
        print(f"  {way:<36}{row['ms']:>9.2f}{row['best_ms']:>8.2f}{row['to_bytes']:>12.2f}{row['to_copy']:>14.2f}")
    return result


def small(rounds: int) -> dict[str, Any]:
    array = np.linspace(0, 1, 256, dtype=np.float32)
    with running() as url, by_bytes(url) as plain, graphpipe.Client(url) as client:
        client.execute(np.zeros(100_000, np.float32))
        ways = {
            "knows of none": timed(lambda: plain.execute(array), 500),
            "may show": timed(lambda: client.execute(array), 500),
        }
        interleaved(ways, 2)
        found = interleaved(ways, rounds, "1 KB")
    row = Ratio([each["s"] for each in found["may show"]], [each["s"] for each in found["knows of none"]])
    result = {way: 1e6 * middle(found[way], "s") for way in ways}
    print(f"1 KB: {', '.join(f'{way} {us:.1f} us' for way, us in result.items())}: {row}")
    return {"us": result, "ratio": row.value}


def sizes(rounds: int) -> dict[str, Any]:
    result: dict[str, Any] = {}
    graphpipe.client.memory.LARGE_FROM = 0  # as if there were no limit
    print("there, a sixth back     bytes us   memory us   empty() us   ratio of memory to bytes")
    with running() as url, by_bytes(f"{url}") as plain, graphpipe.Client(f"{url}") as client:
        for size in SIZES:
            array = np.ones(size // 4, np.float32)
            shown = client.empty("x", array.shape, "float32")
            shown[:] = 1
            calls = max(1, min(200, 40_000_000 // size))
            ways = {
                "bytes": timed(lambda: plain.execute(array), calls),  # noqa: B023
                "memory": timed(lambda: client.execute(array), calls),  # noqa: B023
                "empty": timed(lambda: client.execute(shown), calls),  # noqa: B023
            }
            interleaved(ways, 2)
            found = interleaved(ways, rounds, f"{size} bytes")
            row = {way: 1e6 * middle(found[way], "s") for way in ways}
            to_bytes = Ratio([each["s"] for each in found["memory"]], [each["s"] for each in found["bytes"]])
            result[str(size)] = {**row, "to_bytes": to_bytes.value}
            print(f"  {size:>10}{row['bytes']:>20.0f}{row['memory']:>12.0f}{row['empty']:>13.0f}   {to_bytes}")
    return result


QUESTIONS = {"large": large, "small": small, "sizes": sizes}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("question", nargs="*", choices=[*QUESTIONS, []])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/sharing.json")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve)
        return
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
        path = ROOT / "benchmarks" / "results" / "sharing.json"
        path.write_text(json.dumps({"about": about, **results}, indent=2) + "\n")


if __name__ == "__main__":
    main()
