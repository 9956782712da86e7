"""What the foreign clients ask: plain functions of arrays, served by us and by a real Triton alike.

Only NumPy is imported: Triton runs this file in an interpreter of its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

DTYPES: dict[str, Any] = {
    "BOOL": np.bool_,
    "INT8": np.int8,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "UINT8": np.uint8,
    "UINT16": np.uint16,
    "UINT32": np.uint32,
    "UINT64": np.uint64,
    "FP16": np.float16,
    "FP32": np.float32,
    "FP64": np.float64,
    "BYTES": np.object_,
}
Tensors = Mapping[str, tuple[str, tuple[int, ...]]]  # datatype and shape by name, -1 for any size
Function = Callable[..., tuple[Any, ...]]


@dataclass(frozen=True)
class Served:
    inputs: Tensors
    outputs: Tensors
    function: Function  # of the inputs in this order, to the outputs in this order


def add_and_subtract(first: Any, second: Any) -> tuple[Any, Any]:
    return first + second, first - second


def add_and_subtract_texts(first: Any, second: Any) -> tuple[Any, Any]:
    sums, differences = add_and_subtract(first.astype(np.int64), second.astype(np.int64))
    return as_texts(sums), as_texts(differences)


def as_texts(numbers: Any) -> Any:
    texts = np.empty(numbers.shape, object)
    texts[...] = [[str(number).encode() for number in row] for row in numbers]
    return texts


def mix(numbers: Any, flags: Any, words: Any) -> tuple[Any, Any, Any]:
    reversed_words = np.empty(words.shape, object)
    for at, word in np.ndenumerate(words):
        reversed_words[at] = bytes(word)[::-1]
    return numbers * 2, ~flags, reversed_words


def give_back(array: Any) -> tuple[Any]:
    return (array,)


def sleep(seconds: Any) -> tuple[Any]:
    time.sleep(float(seconds[0]))
    return (seconds,)


def divide_by_zero(array: Any) -> tuple[Any]:
    raise ZeroDivisionError("this model always fails")


def make_nothing_of_it(array: Any) -> tuple[Any]:
    return (np.full(array.shape, np.nan, np.float32),)


MODELS: dict[str, Served] = {
    "simple": Served(
        {"INPUT0": ("INT32", (-1, 16)), "INPUT1": ("INT32", (-1, 16))},
        {"OUTPUT0": ("INT32", (-1, 16)), "OUTPUT1": ("INT32", (-1, 16))},
        add_and_subtract,
    ),
    "simple_string": Served(
        {"INPUT0": ("BYTES", (-1, 16)), "INPUT1": ("BYTES", (-1, 16))},
        {"OUTPUT0": ("BYTES", (-1, 16)), "OUTPUT1": ("BYTES", (-1, 16))},
        add_and_subtract_texts,
    ),
    "mixed": Served(
        {"NUMBERS": ("FP32", (-1, 3)), "FLAGS": ("BOOL", (-1,)), "WORDS": ("BYTES", (-1,))},
        {"DOUBLED": ("FP32", (-1, 3)), "NOT": ("BOOL", (-1,)), "REVERSED": ("BYTES", (-1,))},
        mix,
    ),
    **{
        f"same_{datatype.lower()}": Served({"X": (datatype, (-1, -1))}, {"Y": (datatype, (-1, -1))}, give_back)
        for datatype in DTYPES
    },
    "sleeps": Served({"SECONDS": ("FP32", (1,))}, {"SLEPT": ("FP32", (1,))}, sleep),
    "fails": Served({"X": ("FP32", (-1,))}, {"Y": ("FP32", (-1,))}, divide_by_zero),
    "no_number": Served({"X": ("FP32", (-1,))}, {"Y": ("FP32", (-1,))}, make_nothing_of_it),
}
