"""Text2Ids (examples/text2ids) compiled by MATXScript beside the same class in Python, for texts of several lengths.

The bare calls are timed in the interpreter that has MATXScript, an environment of its own; then both are asked as models:
Python's in this process and in one of its own, the module in one of its own, where it always runs.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import graphpipe
from benchmarks.harness.about import ROOT
from benchmarks.harness.environment import Environment, Unavailable
from benchmarks.harness.result import Table
from benchmarks.harness.rounds import interleaved, middle, ratio
from benchmarks.pipelining.question import Asked, timed

__all__ = ["text2ids"]

WORDS = (3, 30, 300, 3000)
_PACKAGE = "matxscript==1.8.1"
_NEWEST = (3, 12)


def text2ids(asked: Asked) -> dict[str, Table]:
    """Microseconds a call. Raises Unavailable where there is no MATXScript, or no compiler."""
    python = _python()
    with tempfile.TemporaryDirectory() as folder:
        bare = _bare_calls(python, folder, asked)
        models = _models(python, Path(folder), asked)
    return {"text2ids": bare, "text2ids_models": models}


def _python() -> Path:
    if shutil.which("g++") is None:
        raise Unavailable("MATXScript compiles with g++, which is not here")
    own = sys.executable
    if sys.version_info[:2] > _NEWEST:
        found = shutil.which("python" + ".".join(map(str, _NEWEST)))
        if found is None:
            raise Unavailable("MATXScript runs on Python up to 3.12, which is not here")
        own = found
    # The same environment that the tests of modules use.
    return Environment("venvs-matx", (_PACKAGE,), own).make()


def _bare_calls(python: Path, folder: str, asked: Asked) -> Table:
    calls, rounds = (20, 2) if asked.quick else (200, asked.rounds)
    command = [
        python, "-W", "ignore", Path(__file__).with_name("compiled.py"), folder, str(rounds), str(calls),
        ",".join(map(str, WORDS)),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    if done.returncode:
        raise RuntimeError(done.stderr)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    table = Table(
        "Text2Ids, a bare call in one interpreter, its answer a list of Python or an array of numpy",
        {
            "words": "words", "python": "Python, us", "list": "MATXScript, us", "list_x": "time to Python's, x",
            "array": "MATXScript with an NDArray, us", "array_x": "its time to Python's, x",
        },
    )  # fmt: skip
    for words, rounds_of in found.items():
        row: dict[str, Any] = {"words": int(words)}
        row |= {way: 1e6 * middle(rounds_of[way], "s") for way in ("python", "list", "array")}
        row |= {f"{way}_x": ratio(rounds_of, way, "python", "s").value for way in ("list", "array")}
        table.rows.append(row)
    return table


def _models(python: Path, folder: Path, asked: Asked) -> Table:
    source = f"{ROOT / 'examples' / 'text2ids' / 'serve.py'}:text2ids"
    table = Table(
        "Text2Ids as a model",
        {
            "words": "words", "here": "Python, in this process, us", "apart": "Python, in one of its own, us",
            "matx": "MATXScript, in one of its own, us", "matx_x": "time to isolated Python's, x",
        },
    )  # fmt: skip
    with (
        graphpipe.load(source) as here,
        graphpipe.load(source, isolate=1) as apart,
        graphpipe.load(folder / "text2ids", python=str(python)) as matx,
    ):
        for words in WORDS:
            text = {"text": " ".join(["hello", "world", "unknown"][i % 3] for i in range(words))}
            models = {"here": here, "apart": apart, "matx": matx}
            answers = [model.infer(text)["ids"].tolist() for model in models.values()]
            assert answers[0] == answers[1] == answers[2]
            ways = {
                way: timed(lambda model=model, text=text: model.infer(text), 5 if asked.quick else 100)  # type: ignore[misc]
                for way, model in models.items()
            }
            interleaved(ways, 2)
            found = interleaved(ways, asked.rounds, f"{words} words")
            row: dict[str, Any] = {"words": words, **{way: 1e6 * middle(found[way], "s") for way in ways}}
            table.rows.append({**row, "matx_x": ratio(found, "matx", "apart", "s").value})
    return table
