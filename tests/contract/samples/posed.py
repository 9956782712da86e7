"""A function that declares nothing, behind a problem: a placeholder's promise, kept by a model."""

from pathlib import Path

from graphpipe import Problem
from tests.contract.samples import Sample

_CODE = """
import numpy as np


def sums(x, k, flags, s):
    marked = np.empty(len(s), object)
    marked[:] = [item + b"!" for item in s]
    return x + k.astype(np.float32)[:, None], x.sum(axis=1), ~flags, marked
"""


def build(folder: Path) -> Sample:
    (folder / "sums.py").write_text(_CODE)
    Problem.of(
        {"x": "float32[n, 4]", "k": "int64[n]", "flags": "bool[n]", "s": "string[m]"},
        {"y": "float32[n, 4]", "total": "float32[n]", "no": "bool[n]", "t": "string[m]"},
    ).write(folder / "problem.toml")
    return Sample(f"{folder / 'sums.py'}:sums", {"problem": str(folder / "problem.toml")}, strings=True)
