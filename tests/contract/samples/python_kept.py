"""A Python function that fills arrays which it keeps, some for each thread, and gives them each time."""

from pathlib import Path

from tests.contract.samples import Sample

_CODE = """
import threading

import numpy as np

import graphpipe

kept = threading.local()


def array(name, shape, dtype):
    found = getattr(kept, name, None)
    if found is None or len(found) < shape[0]:
        found = np.empty(shape, dtype)
        setattr(kept, name, found)
    return found[: shape[0]]


@graphpipe.model(
    inputs={"x": "float32[n, 4]", "k": "int64[n]", "flags": "bool[n]", "s": "string[m]"},
    outputs={"y": "float32[n, 4]", "total": "float32[n]", "no": "bool[n]", "t": "string[m]"},
)
def sums(x, k, flags, s):
    y = np.add(x, k[:, None], out=array("y", x.shape, np.float32), casting="unsafe")
    total = np.sum(x, axis=1, out=array("total", k.shape, np.float32))
    no = np.logical_not(flags, out=array("no", flags.shape, bool))
    t = array("t", s.shape, object)
    t[:] = [item + b"!" for item in s]
    return y, total, no, t
"""


def build(folder: Path) -> Sample:
    path = folder / "kept_sums.py"
    path.write_text(_CODE)
    return Sample(f"{path}:sums", strings=True)
