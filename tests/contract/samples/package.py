"""A package: of an ONNX file, whose names are others than its problem's."""

from pathlib import Path

import onnx

import graphpipe
from tests.contract.samples import Sample
from tests.contract.samples import onnx as plain

NAMES = {
    "x": "in/x",
    "k": "in/k",
    "flags": "in/flags",
    "s": "in/s",
    "y": "out/y",
    "total": "total",
    "no": "no",
    "t": "t",
}


def build(folder: Path) -> Sample:
    model = onnx.load(plain.build(folder).source)
    for tensor in (*model.graph.input, *model.graph.output):
        tensor.name = NAMES[tensor.name]
    for node in model.graph.node:
        for names in (node.input, node.output):
            names[:] = [NAMES.get(name, name) for name in names]
    problem = graphpipe.Problem.of(
        {"x": "float32[n, 4]", "k": "int64[n]", "flags": "bool[n]", "s": "string[m]"},
        {"y": "float32[n, 4]", "total": "float32[n]", "no": "bool[n]", "t": "string[m]"},
    )
    path = graphpipe.package.create(
        folder / "sample.zip", model=model, problem=problem, name_map=NAMES, self_test=False
    )
    return Sample(str(path), strings=True)
