"""Every benchmark that a document names runs to its end. What it finds is not judged here: machines differ, and drift."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.serving import ROOT, environment

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("benchmarks/codec.py --rounds 2", "77 MB"),
        ("benchmarks/transport.py client --rounds 2", "77 MB call"),
        ("benchmarks/transport.py large --rounds 2", "ratio to the limit"),
        ("benchmarks/clients.py small --rounds 20", ""),
        ("benchmarks/backends.py --rounds 2 --only echo ONNX", "allowed"),
        ("benchmarks/bookkeeping.py --rounds 1", "refusal with 503"),
        ("benchmarks/keys.py --rounds 1", "1,000 keys in turn"),
        ("benchmarks/caller_limits.py --rounds 1", "over the limit: 429"),
        ("benchmarks/keys.py --sockets --rounds 1 --seconds 0.1", "1,000 keys in turn"),
        ("benchmarks/keys.py --timing --calls 100", "over a socket: 100 refusals"),
        (
            "benchmarks/protocols.py hot --before HEAD --rounds 1 --turn-s 0.1 --callers 1",
            "before other protocols and now",
        ),
        ("benchmarks/scrape.py --models 20 --scrapes 1", "loop held at most"),
        ("benchmarks/overload.py --seconds 2", "goodput"),
        ("benchmarks/before_after.py small --rounds 1 --seconds 0.1 --connections 8", "after, foreign to after"),
        ("benchmarks/before_after.py --before HEAD large squeezenet --rounds 1", "outside"),
        ("-m benchmarks.batching --rounds 1 --seconds 0.3", "squeezenet"),
        ("-m benchmarks.cache --rounds 1", "never seen before"),
        ("benchmarks/isolation.py small large --rounds 1", "from model.empty()"),
        ("benchmarks/isolation.py pure --rounds 1", "by a second process"),
        ("benchmarks/sharing.py large small --rounds 2", "from client.empty()"),
        ("benchmarks/pipelines.py overhead branches processes --quick", "| in 2 processes of its own |"),
        ("benchmarks/pipelines.py embedding text2ids --quick", ""),
    ],
)
def test_a_benchmark_runs_to_its_end(command: str, expected: str) -> None:
    done = subprocess.run(
        [sys.executable, *command.split()], cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert expected in done.stdout
