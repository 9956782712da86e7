"""The whole asked the same as its parts: ONNX Runtime runs both on inputs that are made up or given."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from graphpipe.backends.framework import framework, words_of
from graphpipe.errors import LoadError
from graphpipe.fusing.plan import Plan, Value
from graphpipe.words import listed

__all__ = ["Parts", "try_out"]

Array = NDArray[Any]

# A size that nothing says, and the number below which integers are, of each try. An index into a table of weights is small
# enough, and a tokenizer may take one text only.
_TRIES = ((2, 4), (1, 4), (3, 2), (1, 1), (16, 2))
_DTYPES = {"float": "float32", "double": "float64", "float16": "float16", "bool": "bool", "string": "object"}
_WORDS = ("hello", "world", "the quick brown fox", "", "Straße", "日本")
# Both do the same operations in the same order, but for those that a newer opset has others for.
_RTOL, _ATOL = 1e-3, 1e-5


class Parts:
    """The parts as they came, one after another, connected as planned."""

    def __init__(self, plan: Plan, custom_ops: Sequence[str]) -> None:
        self._fed, self._asked, self._given = dict(plan.fed), dict(plan.asked), dict(plan.given)
        self._sources = [part.source for part in plan.parts]
        self._sessions = [_session(part.whole, custom_ops, part.source) for part in plan.parts]
        self._optional = {
            name for name, inputs in plan.asked.items() if all(own in plan.parts[at].defaults for at, own in inputs)
        }

    def drawn(self, size: int, below: int, random: np.random.Generator) -> dict[str, Array]:
        """Inputs made up: symbols and what is left open have this size, integers are below that number."""
        inputs = {}
        for name, values in self._asked.items():
            if name in self._optional:
                continue
            args = [_argument(self._sessions[place], own) for place, own in values]
            shape = [
                max((dim for dim in dims if isinstance(dim, int) and dim > 0), default=size)
                for dims in zip(*(arg.shape for arg in args), strict=False)
            ]
            inputs[name] = _drawn(args[0].type, shape, below, random)
        return inputs

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """The outputs of the whole, by the parts."""
        values: dict[Value, Array] = {}
        for name, array in inputs.items():
            values |= dict.fromkeys(self._asked.get(name, ()), array)
        for value, session in enumerate(self._sessions):
            for (place, own), source in self._fed.items():
                if place == value:
                    values[place, own] = values[source]
            names = [output.name for output in session.get_outputs()]
            given = {own: array for (place, own), array in values.items() if place == value}
            results = session.run(names, given)
            values |= {(value, name): array for name, array in zip(names, results, strict=True)}
        return {name: values[value] for name, value in self._given.items()}


def try_out(
    parts: Parts, model: onnx.ModelProto | Path, custom_ops: Sequence[str], examples: Sequence[Mapping[str, Array]] = ()
) -> int:
    """Ask both the same, and say how many times. Raises LoadError where they differ, or where the parts take nothing that
    can be made up.
    """
    session = _session(model, custom_ops, "the fused graph")
    random = np.random.default_rng(0)
    refused = ""
    done = 0
    for each in examples or [parts.drawn(size, below, random) for size, below in _TRIES]:
        inputs = {name: _as_given(array) for name, array in each.items()}
        try:
            expected = parts.run(inputs)
        except Exception as error:
            if examples:
                raise LoadError(f"the parts do not take the example: {words_of(error)}") from None
            refused = words_of(error)
            continue
        try:
            came = dict(zip(expected, session.run(list(expected), inputs), strict=True))
        except Exception as error:
            raise LoadError(f"the fused graph does not take what its parts take: {words_of(error)}") from None
        different = [name for name, array in expected.items() if not _same(array, came[name])]
        if different:
            raise LoadError(
                f"the fused graph does not answer as its parts do, in {listed(different)}; if they are random themselves, "
                "fuse them without a trial"
            )
        done += 1
    if not done:
        raise LoadError(
            f"the parts take none of the inputs that were made up to try the fused graph ({refused}); give an example of "
            "what they take, or fuse them without a trial"
        )
    return done


def _session(model: onnx.ModelProto | Path, custom_ops: Sequence[str], source: str) -> Any:
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # as where models are loaded
    runtime = framework("onnxruntime", source, extra="fuse")
    settings = runtime.SessionOptions()
    settings.intra_op_num_threads = settings.inter_op_num_threads = 1
    settings.log_severity_level = 4
    # What is optimised differently is rounded differently.
    settings.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        for library in custom_ops:
            settings.register_custom_ops_library(library)
        what = str(model) if isinstance(model, Path) else model.SerializeToString()
        return runtime.InferenceSession(what, settings, providers=["CPUExecutionProvider"], enable_fallback=0)
    except Exception as error:
        unknown = "is not a registered function/op" in str(error)
        hint = "; the library that has it goes into custom_ops, --custom-ops" if unknown else ""
        raise LoadError(f"{source}: ONNX Runtime does not take it: {words_of(error)}{hint}") from None


def _argument(session: Any, name: str) -> Any:
    return next(arg for arg in (*session.get_inputs(), *session.get_overridable_initializers()) if arg.name == name)


def _drawn(kind: str, shape: Sequence[int], below: int, random: np.random.Generator) -> Array:
    name = kind.removeprefix("tensor(").removesuffix(")")
    dtype = np.dtype(_DTYPES.get(name, name))
    if dtype.hasobject:
        return np.asarray(random.choice(np.array(_WORDS, object), shape), object).reshape(shape)
    if dtype.kind == "b":
        return random.integers(0, 2, shape).astype(bool)
    if dtype.kind == "f":
        return random.standard_normal(shape).astype(dtype)
    return random.integers(0, 256 if dtype == np.uint8 and below > 1 else below, shape).astype(dtype)


def _as_given(array: Array) -> Array:
    array = np.asarray(array)
    if array.dtype.kind not in "USO":
        return array
    texts = [each.decode() if isinstance(each, bytes) else str(each) for each in array.reshape(-1)]
    return np.array(texts, object).reshape(array.shape)


def _same(one: Any, other: Any) -> bool:
    if not isinstance(one, np.ndarray):
        return bool(type(one) is type(other))  # a sequence or a map: that it came is all that is asked
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    if one.dtype.kind == "f":
        return bool(np.allclose(one, other, rtol=_RTOL, atol=_ATOL, equal_nan=True))
    return bool(np.array_equal(one, other))
