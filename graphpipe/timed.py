"""How a model's ``infer`` is called, whether or not it wants to know how much time is left."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

__all__ = ["Call", "timed"]

Call = Callable[
    [Mapping[str, NDArray[Any]], Sequence[str] | None, str, float | None],
    dict[str, NDArray[Any]],
]


def timed(model: Any) -> Call:
    """The model's ``infer`` as a call with the inputs, the outputs, the config and the seconds that are left.

    Whether the model wants to know the last is found out here, once.
    """
    infer: Any = model.infer
    try:
        parameters = inspect.signature(infer).parameters
    except (TypeError, ValueError):  # not written in Python
        parameters = {}  # type: ignore[assignment]
    if "timeout_s" in parameters:
        return lambda inputs, outputs, config, left_s: infer(inputs, outputs, config=config, timeout_s=left_s)
    return lambda inputs, outputs, config, left_s: infer(inputs, outputs, config=config)
