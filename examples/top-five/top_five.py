"""Probabilities to the five best labels: the last stage."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import graphpipe

COUNT = 5
LABELS = Path(__file__).with_name("labels.txt")


@graphpipe.model(
    inputs={"probabilities": "float32[n, classes]"},
    outputs={"labels": f"string[n, {COUNT}]", "scores": f"float32[n, {COUNT}]"},
)
class TopFive:
    """Labels are the lines of ``labels.txt``, which lies beside this file if nothing else is said."""

    def __init__(self, labels: Path = LABELS) -> None:
        self._labels = np.array(labels.read_text().splitlines(), object)

    def __call__(self, probabilities: NDArray[np.float32]) -> dict[str, NDArray[np.generic] | NDArray[np.object_]]:
        """``labels`` and ``scores``, [n, 5], the best first; of equals the one that comes first in the file."""
        classes = probabilities.shape[1]
        if classes != len(self._labels):
            raise ValueError(f"labels.txt has {len(self._labels)} lines, and the model gives {classes} classes")
        best = np.argsort(-probabilities, axis=1, kind="stable")[:, :COUNT]
        return {"labels": self._labels[best], "scores": np.take_along_axis(probabilities, best, axis=1)}
