"""How good a detector is, by one rule for all of them: the same blobs, at the same places, of the same labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Arrays = Mapping[str, NDArray[Any]]

# Two boxes are one if what they share is at least so much of what they cover together.
OVERLAP = 0.5


class Detections:
    """Precision and recall over all pictures: sums, which are no means of what each picture has."""

    def __init__(self) -> None:
        self.hits = self.found = self.there = 0

    def update(self, inputs: Arrays, outputs: Arrays, truth: Arrays) -> None:
        """Look at one picture."""
        same = overlaps(outputs["corners"], truth["corners"]) >= OVERLAP
        same &= outputs["label"][:, None] == truth["label"][None, :]
        self.hits += int(same.any(axis=0).sum())
        self.found += len(outputs["label"])
        self.there += len(truth["label"])

    def result(self) -> dict[str, float]:
        """All pictures together."""
        return {"precision": self.hits / max(self.found, 1), "recall": self.hits / max(self.there, 1)}


def overlaps(boxes: NDArray[Any], others: NDArray[Any]) -> NDArray[Any]:
    """What each box [n, 4] shares with each other [m, 4], of what they cover together: [n, m]."""
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    shared = np.prod(np.clip(high - low, 0, None), axis=2)
    sizes = [np.prod(each[:, 2:] - each[:, :2], axis=1) for each in (boxes, others)]
    together = sizes[0][:, None] + sizes[1][None, :] - shared
    found: NDArray[Any] = shared / np.maximum(together, 1e-9)
    return found
