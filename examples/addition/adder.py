"""The addition problem as a function of arrays."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray


def add(x: NDArray[Any], y: NDArray[Any]) -> dict[str, NDArray[Any]]:
    return {"out": x + y}
