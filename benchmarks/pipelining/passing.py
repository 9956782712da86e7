"""A stage that does nothing."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray


def passes(x: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """What came."""
    return {"x": x}
