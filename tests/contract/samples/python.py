"""A Python function."""

from pathlib import Path

from tests.contract.samples import Sample

_CODE = """
import numpy as np

import graphpipe


@graphpipe.model(
    inputs={"x": "float32[n, 4]", "k": "int64[n]", "flags": "bool[n]", "s": "string[m]"},
    outputs={"y": "float32[n, 4]", "total": "float32[n]", "no": "bool[n]", "t": "string[m]"},
)
def sums(x, k, flags, s):
    marked = np.empty(len(s), object)
    marked[:] = [item + b"!" for item in s]
    return x + k.astype(np.float32)[:, None], x.sum(axis=1), ~flags, marked
"""


def build(folder: Path) -> Sample:
    path = folder / "sums.py"
    path.write_text(_CODE)
    return Sample(f"{path}:sums", strings=True)
