"""The same small model in every framework: one module each, with a ``build`` that makes it.

A new backend joins the contract by a module here. Its model takes

    x float32 [n, 4]    k int64 [n]    flags bool [n]    (s string [m], where the framework has strings)

and gives

    y = x + k    total = x summed over axis 1    no = not flags    (t = s with "!" behind it)

The elements are small whole numbers, so every framework gives the same bits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Sample:
    """A model to hold to the contract.

    ``source`` and ``options`` are what ``graphpipe.load`` takes. ``checks`` says whether requests that do not fit are
    refused, by it or by whoever runs it; ``has_symbols`` whether it says that all first axes are the same;
    ``copies_inputs`` whether it is given copies, since nobody knows whether it writes into them.
    """

    source: str
    options: dict[str, Any] = field(default_factory=dict)
    strings: bool = False
    checks: bool = True
    has_symbols: bool = True
    copies_inputs: bool = False
    close: Callable[[], None] = lambda: None
    expected_of: Callable[[Arrays], Arrays] | None = None

    def inputs(self, rows: int, seed: int = 0) -> Arrays:
        random = np.random.default_rng(seed)
        inputs: Arrays = {
            "x": random.integers(-8, 8, (rows, 4)).astype(np.float32),
            "k": random.integers(0, 8, rows),
            "flags": random.integers(0, 2, rows).astype(bool),
        }
        if self.strings:
            inputs["s"] = np.array([f"row {i} \u00e4".encode() for i in range(rows)] + [None], object)[:-1]
        return inputs

    def expected(self, inputs: Arrays) -> Arrays:
        if self.expected_of is not None:
            return self.expected_of(inputs)
        outputs = {
            "y": inputs["x"] + inputs["k"].astype(np.float32)[:, None],
            "total": inputs["x"].sum(axis=1),
            "no": ~inputs["flags"].astype(bool),
        }
        if self.strings:
            outputs["t"] = np.array([item + b"!" for item in inputs["s"]] + [None], object)[:-1]
        return outputs
