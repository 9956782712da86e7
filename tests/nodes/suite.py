"""The onnx package's own tests of single operators, with ONNX Runtime in this process as the judge of which of them count.

A case is a model of one operator (or its expansion into others), its inputs, and the outputs that the standard wants. What
ONNX Runtime itself cannot load, or computes differently, says nothing about us; everything else has to come through.
"""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime

import graphpipe
from tests.serving import serving

# What our messages call a type that has no place on the wire -> what people call it.
_KINDS = {
    r"optional\(": "optional values",
    r"seq\(|sequence\(": "sequences",
    r"map\(": "maps",
    r"bfloat16": "bfloat16",
    r"float8": "float8",
    r"u?int[24]\b": "integers of 2 and 4 bits",
    r"float4": "float4",
    r"complex": "complex numbers",
}


@dataclass
class Case:
    """One that ONNX Runtime passes: where its model is, what goes in, and what ONNX Runtime gives for it here."""

    name: str
    path: Path
    names: Sequence[str]
    inputs: Sequence[Any]
    outputs: Sequence[Any]
    wanted: Sequence[Any]
    rtol: float
    atol: float


@dataclass
class Results:
    """What became of all of them."""

    cases: int = 0
    not_loaded: int = 0  # by ONNX Runtime itself
    not_passed: list[str] = field(default_factory=list)  # by ONNX Runtime itself
    refused: dict[str, str] = field(default_factory=dict)  # by graphpipe: name -> message
    run: int = 0
    bit_equal: int = 0
    wrong: dict[str, str] = field(default_factory=dict)

    @property
    def refused_by_kind(self) -> Counter[str]:
        """How many were refused for what."""
        return Counter(kind_of(message) for message in self.refused.values())


def kind_of(message: str) -> str:
    """What a refusal is about."""
    return next((kind for pattern, kind in _KINDS.items() if re.search(pattern, message)), "something else")


def run(folder: Path) -> Results:
    """All cases: in process first, then those that pass there through one server that has all their models."""
    results = Results()
    passing = _judge(folder, results)
    config = "".join(f'[models."{case.name}"]\nsource = "{case.path}"\n' for case in passing)
    (folder / "serve.toml").write_text(config)
    with serving("--config", folder / "serve.toml", "--threads", "1", "--warmup", "0", tracebacks=True) as server:
        for case in passing:
            results.run += 1
            with graphpipe.Client(f"{server.url}/models/{case.name}") as client:
                try:
                    got = client.execute_multi(case.inputs, case.names)
                except graphpipe.GraphPipeError as error:
                    results.wrong[case.name] = str(error)
                    continue
            results.bit_equal += _bit_equal(got, case.outputs)
            if not _similar(got, case.wanted, case.rtol, case.atol):
                results.wrong[case.name] = "other values"
    return results


def _judge(folder: Path, results: Results) -> list[Case]:
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = settings.inter_op_num_threads = 1
    settings.log_severity_level = 4
    passing = []
    for case in _cases():
        results.cases += 1
        path = folder / f"{case.name}.onnx"
        path.write_bytes(case.model.SerializeToString())
        try:
            session = onnxruntime.InferenceSession(path, settings, providers=["CPUExecutionProvider"])
        except Exception:
            results.not_loaded += 1
            continue
        ((inputs, wanted),) = case.data_sets
        inputs, wanted = list(map(_value, inputs)), list(map(_value, wanted))
        try:
            graphpipe.load(path).close()
        except graphpipe.LoadError as error:
            results.refused[case.name] = str(error).replace(str(folder), "")
            continue
        names = [argument.name for argument in session.get_inputs()]
        try:
            outputs = session.run(None, dict(zip(names, inputs, strict=True)))
        except Exception:
            results.not_passed.append(case.name)
            continue
        if not _similar(outputs, wanted, case.rtol, case.atol):
            results.not_passed.append(case.name)
            continue
        passing.append(Case(case.name, path, names, inputs, outputs, wanted, case.rtol, case.atol))
    return passing


def _cases() -> list[Any]:
    with warnings.catch_warnings():
        # Making the cases divides by zero here and there on purpose.
        warnings.simplefilter("ignore")
        from onnx.backend.test.loader import load_model_tests

        return load_model_tests(kind="node")


def _value(value: Any) -> Any:
    if isinstance(value, onnx.TensorProto):
        return onnx.numpy_helper.to_array(value)
    return np.asarray(value) if isinstance(value, np.generic) else value


def _similar(got: Sequence[Any], wanted: Sequence[Any], rtol: float, atol: float) -> bool:
    return len(got) == len(wanted) and all(
        a.shape == np.shape(b)
        and (
            np.array_equal(a, b)
            if a.dtype.kind == "O"
            else np.allclose(a.astype(np.float64), np.asarray(b, np.float64), rtol, atol, equal_nan=True)
        )
        for a, b in zip(map(_plain, got), map(_plain, wanted), strict=True)
    )


def _bit_equal(got: Sequence[Any], here: Sequence[Any]) -> bool:
    return all(
        (a.dtype, a.shape) == (b.dtype, b.shape)
        and (np.array_equal(a, b) if a.dtype == object else a.tobytes() == b.tobytes())
        for a, b in zip(map(_plain, got), map(_plain, here), strict=True)
    )


def _plain(value: Any) -> Any:
    """An array as it travels: bool as 0 and 1, text as bytes."""
    array = np.asarray(value)
    if array.dtype == np.bool_:
        return array.view(np.uint8)
    if array.dtype.kind in "OU":
        return np.array([x.encode() if isinstance(x, str) else x for x in array.flat], object).reshape(array.shape)
    return array


def as_markdown(results: Results) -> str:
    """The results as docs/conformance.md has them."""
    refused = results.refused_by_kind
    rows = [
        ("cases in the suite", results.cases),
        ("that ONNX Runtime cannot load", results.not_loaded),
        ("that ONNX Runtime loads and does not pass", len(results.not_passed)),
        *((f"refused when the model is loaded: {kind}", count) for kind, count in sorted(refused.items())),
        ("run through a server and a client", results.run),
        ("of these, with the outputs that the suite wants", results.run - len(results.wrong)),
        ("of these, equal to the last bit to ONNX Runtime in process", results.bit_equal),
    ]
    head = f"onnx {onnx.__version__}, onnxruntime {onnxruntime.__version__}:\n\n| | cases |\n|---|---|\n"
    return head + "".join(f"| {what} | {count} |\n" for what, count in rows)
