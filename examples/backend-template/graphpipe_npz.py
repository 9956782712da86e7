"""A backend for GraphPipe, whole: linear models in .npz files. Copy this folder to begin one of your own.

`np.savez("model.npz", weights=..., bias=...)` is served as y = x @ weights + bias.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphpipe.backends import Backend, LoadOptions, Model
from graphpipe.errors import LoadError
from graphpipe.signature import Signature, TensorSpec
from graphpipe.sources.digest import digest_of

__all__ = ["BACKEND", "LinearModel"]

Array = NDArray[Any]


class LinearModel:
    """y = x @ weights + bias."""

    description = "a linear model"

    def __init__(self, weights: Array, bias: Array, version: str) -> None:
        self._weights = weights
        self._bias = bias
        # Equal versions promise equal answers: caches rely on it.
        self.version = version
        # "n" is any number, but the same in x and y.
        self._signature = Signature(
            (TensorSpec("x", weights.dtype, ("n", weights.shape[0])),),
            (TensorSpec("y", weights.dtype, ("n", weights.shape[1])),),
        )

    @property
    def signature(self) -> Signature:
        """What it takes and gives. Whatever does not fit is refused before `infer` is called."""
        return self._signature

    def infer(
        self, inputs: Mapping[str, Array], outputs: Sequence[str] | None = None, *, config: str = ""
    ) -> dict[str, Array]:
        """Run once. Called from several threads; arrays may be read-only, and may start at any address."""
        return {"y": inputs["x"] @ self._weights + self._bias}

    def close(self) -> None:
        """Give back what it holds: files, devices, processes."""


def open_npz(source: str, options: LoadOptions) -> Model:
    """The model in a file. Import the framework here, not above: nothing heavy before a model of its kind is loaded."""
    path = Path(source)
    try:
        with np.load(path) as file:
            weights, bias = file["weights"], file["bias"]
    except (OSError, KeyError, ValueError) as error:
        # One line, with the source in front. Any other exception would be a traceback on somebody's terminal.
        raise LoadError(f"{source}: not a linear model: {error}") from error
    return LinearModel(weights, bias, digest_of(path))


BACKEND = Backend("npz", lambda source: source.endswith(".npz"), open_npz)
