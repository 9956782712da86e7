"""A pipeline: an ONNX file, two functions that need nothing of one another, and a last one that gives inputs back."""

from pathlib import Path

from tests.contract.samples import Sample
from tests.contract.samples import onnx as plain

FUNCTIONS = """
import numpy as np

import graphpipe

kept = []

def doubles(total):
    return {"twice": total * 2}

def negates(no):
    kept.append(no)
    return {"yes": ~no}

@graphpipe.model(outputs={"total": "float32[n]", "no": "bool[n]"})
def undoes(twice, yes):
    return twice / np.float32(2), ~yes
"""
TOML = """
outputs = ["y", "total", "no", "t"]

[[stages]]
source = "graph/{file}"

[[stages]]
source = "functions.py:doubles"

[[stages]]
source = "functions.py:negates"

[[stages]]
source = "functions.py:undoes"
"""


def build(folder: Path) -> Sample:
    graph = folder / "graph"
    graph.mkdir()
    file = Path(plain.build(graph).source)
    (folder / "functions.py").write_text(FUNCTIONS)
    (folder / "pipeline.toml").write_text(TOML.format(file=file.name))
    return Sample(str(folder / "pipeline.toml"), strings=True)
