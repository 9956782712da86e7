"""What every client asks, and how it tells what came. NumPy is all that its environments have in common.

A program here is run as ``python PROGRAM HOST:PORT [WAY]`` and prints a line of JSON for each question:
``{"subject", "name", "way", "outputs" or "error" and "status", ...}``. Where the environment says GRAPHPIPE_STEP it waits
for a line after each, so that whoever records knows which bytes belong to which question.
"""

from __future__ import annotations

import base64
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Array = Any
INVALID = (400, "INVALID_ARGUMENT")
NOT_FOUND = (404, "NOT_FOUND")
FAILED = (500, "INTERNAL")


@dataclass(frozen=True)
class Ask:
    """One inference. ``error`` is the status by HTTP and by gRPC that it is to come to, None where it is answered."""

    subject: str
    name: str
    model: str
    inputs: Mapping[str, Array]
    outputs: Sequence[str]
    version: str = ""
    id: str = ""
    said: Mapping[str, str] = field(default_factory=dict)  # datatypes that are not those of the arrays
    shapes: Mapping[str, Sequence[int]] = field(default_factory=dict)  # likewise
    error: tuple[int, str] | None = None
    json: bool = True  # whether JSON can say it
    small: bool = True  # whether it is recorded


def texts(*values: Any) -> Array:
    array = np.empty(len(values), object)
    array[:] = values
    return array


VALUES: dict[str, Array] = {
    "bool": np.array([[True, False, True]]),
    **{
        name: np.array([[np.iinfo(name).min, 0, np.iinfo(name).max]], name)
        for name in ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
    },
    **{
        name: np.array([[np.finfo(name).min, -0.0, np.finfo(name).tiny, 0.1, np.finfo(name).max]], name)
        for name in ("float16", "float32", "float64")
    },
    "bytes": texts(b"", b"word", "Gr\u00fc\u00dfe \U0001f600".encode(), b'"\\ \n\t', b"x" * 300).reshape(1, 5),
}
DATATYPES = {
    "bool": "BOOL",
    "int8": "INT8",
    "int16": "INT16",
    "int32": "INT32",
    "int64": "INT64",
    "uint8": "UINT8",
    "uint16": "UINT16",
    "uint32": "UINT32",
    "uint64": "UINT64",
    "float16": "FP16",
    "float32": "FP32",
    "float64": "FP64",
    "object": "BYTES",
}


def datatype_of(array: Array) -> str:
    return DATATYPES[array.dtype.name]


def model_of(array: Array) -> str:
    return f"same_{datatype_of(array).lower()}"


def same(subject: str, name: str, array: Array, **more: Any) -> Ask:
    return Ask(subject, name, model_of(array), {"X": array}, ["Y"], **more)


NUMBERS = np.arange(16, dtype=np.int32).reshape(1, 16)
PAIR = {"INPUT0": NUMBERS, "INPUT1": np.full((1, 16), 3, np.int32)}
WORDS = texts(*(str(n).encode() for n in range(16))).reshape(1, 16)
MIXED = {
    "NUMBERS": np.array([[1.5, -2.0, 0.25], [4.0, 5.0, 6.0]], np.float32),
    "FLAGS": np.array([True, False, False]),
    "WORDS": texts(b"one", b"", "\u00e9t\u00e9".encode()[:2]),
}
ONE = {"X": np.ones(2, np.float32)}

TYPES = [same("types", name, array) for name, array in VALUES.items()] + [
    same("types", "not-finite", np.array([[np.nan, np.inf, -np.inf]], np.float32), json=False),
    same("types", "not-utf8", texts(b"\xff\xfe\x00", b"\x00").reshape(1, 2), json=False),
]
SHAPES = [
    same("shapes", "no-rows", np.zeros((0, 3), np.float32)),
    same("shapes", "no-columns", np.zeros((3, 0), np.int64)),
    same("shapes", "no-words", np.zeros((0, 2), object)),
    same("shapes", "one", np.ones((1, 1), np.float64)),
    same("shapes", "long", np.arange(1000, dtype=np.int16).reshape(1, -1)),
    same("shapes", "megabytes", np.arange(1_000_000, dtype=np.float32).reshape(1000, -1), small=False),
]
MANY = [
    Ask("many", "pair", "simple", PAIR, ["OUTPUT0", "OUTPUT1"]),
    Ask("many", "other-order", "simple", PAIR, ["OUTPUT1", "OUTPUT0"]),
    Ask("many", "one-of-two", "simple", PAIR, ["OUTPUT1"]),
    Ask("many", "rows", "simple", {k: np.repeat(v, 5, 0) for k, v in PAIR.items()}, ["OUTPUT0", "OUTPUT1"]),
    Ask("many", "words", "simple_string", {"INPUT0": WORDS, "INPUT1": WORDS}, ["OUTPUT0", "OUTPUT1"]),
    Ask("many", "mixed", "mixed", MIXED, ["DOUBLED", "NOT", "REVERSED"], json=False),
    Ask("many", "with-id", "simple", PAIR, ["OUTPUT0"], id="gr\u00fc\u00df-42"),
    Ask("many", "with-version", "simple", PAIR, ["OUTPUT0"], version="1"),
]
ERRORS = [
    Ask("errors", "unknown-model", "nobody", PAIR, ["OUTPUT0"], error=NOT_FOUND),
    Ask("errors", "unknown-version", "simple", PAIR, ["OUTPUT0"], version="7", error=NOT_FOUND),
    Ask("errors", "unknown-input", "simple", {**PAIR, "INPUT2": NUMBERS}, ["OUTPUT0"], error=INVALID),
    Ask("errors", "unknown-output", "simple", PAIR, ["OUTPUT7"], error=INVALID),
    Ask("errors", "missing-input", "simple", {"INPUT0": NUMBERS}, ["OUTPUT0"], error=INVALID),
    Ask("errors", "other-type", "simple", {**PAIR, "INPUT1": NUMBERS.astype(np.float32)}, ["OUTPUT0"], error=INVALID),
    Ask("errors", "no-such-type", "simple", PAIR, ["OUTPUT0"], said={"INPUT1": "INT33"}, error=INVALID),
    Ask("errors", "other-shape", "simple", {"INPUT0": NUMBERS[:, :3], "INPUT1": NUMBERS[:, :3]}, ["OUTPUT0"], error=INVALID),
    Ask("errors", "other-rank", "simple", {"INPUT0": NUMBERS[0], "INPUT1": NUMBERS[0]}, ["OUTPUT0"], error=INVALID),
    Ask("errors", "more-rows-said", "simple", PAIR, ["OUTPUT0"], shapes={"INPUT1": [2, 16]}, error=INVALID),
    Ask("errors", "less-rows-said", "simple", PAIR, ["OUTPUT0"], shapes={"INPUT1": [0, 16]}, error=INVALID),
    Ask("errors", "negative-rows", "simple", PAIR, ["OUTPUT0"], shapes={"INPUT1": [-1, 16]}, error=INVALID),
    Ask("errors", "failing-model", "fails", ONE, ["Y"], error=FAILED),
]  # fmt: skip
NO_NUMBER = Ask("errors", "answer-without-json", "no_number", ONE, ["Y"], error=INVALID)
# The last question: it ends the process behind a real Triton's model.
HUGE = Ask("errors", "huge-shape", "simple", PAIR, ["OUTPUT0"], shapes={"INPUT1": [1 << 62, 16]}, error=INVALID)
# Asked with more beside them: parameters of a request; whoever comes after one who gave up.
PARAMETERS = Ask("many", "parameters", "simple", PAIR, ["OUTPUT0"])
NEXT = Ask("deadlines", "next", "simple", PAIR, ["OUTPUT0"])
SLOW = Ask("deadlines", "gives-up", "sleeps", {"SECONDS": np.array([5], np.float32)}, ["SLEPT"])
RECORDED = "GRAPHPIPE_STEP" in os.environ  # then nothing large is asked, and nobody gives up
SHAPES = [ask for ask in SHAPES if ask.small or not RECORDED]
ASKS = [*TYPES, *SHAPES, *MANY, *ERRORS]
BY_NAME = {(ask.subject, ask.name): ask for ask in [*ASKS, HUGE, NO_NUMBER, PARAMETERS, NEXT, SLOW]}


def told(array: Array) -> dict[str, Any]:
    """An array in JSON, to the byte."""
    array = np.asarray(array)
    if array.dtype.kind in "OSU":
        values = [each.encode() if isinstance(each, str) else bytes(each) for each in array.ravel().tolist()]
        data: Any = [base64.b64encode(value).decode() for value in values]
        return {"dtype": "object", "shape": list(array.shape), "data": data}
    data = base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()
    return {"dtype": array.dtype.name, "shape": list(array.shape), "data": data}


def say(subject: str, name: str, way: str, **what: Any) -> None:
    print(json.dumps({"subject": subject, "name": name, "way": way, **what}), flush=True)
    if RECORDED:
        sys.stdin.readline()
