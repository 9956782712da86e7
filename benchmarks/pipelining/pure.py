"""A stage of pure Python, which holds the interpreter's lock."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def pure(x: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """A millisecond or two of Python's own code."""
    total = 0
    for number in range(20_000):
        total += number & 7
    return {"y": np.array([total])}
