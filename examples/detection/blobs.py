"""Bright blobs in a picture, by PyTorch: eager code, as it is written while a model is still being thought about."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional
from windows import AROUND, BRIGHT, COLOURS, STEP, WINDOW  # type: ignore[import-not-found]


def detect(picture: NDArray[np.uint8]) -> dict[str, Any]:
    """The corners [found, 4] of the blobs in a picture [480, 640, 3], the label of each and its score."""
    with torch.inference_mode():
        pixels = torch.tensor(picture).permute(2, 0, 1)[None].float()
        bright = functional.avg_pool2d(pixels, WINDOW, STEP) / 255
        score, colour = bright.max(dim=1)
        peak = functional.max_pool2d(score, AROUND, stride=1, padding=AROUND // 2)
        _, row, column = torch.nonzero((score == peak) & (score > BRIGHT), as_tuple=True)
        top, left = STEP * row, STEP * column
        corners = torch.stack([left, top, left + WINDOW, top + WINDOW], dim=1).float()
        names = [COLOURS[i] for i in colour[0, row, column].tolist()]
        return {
            "corners": corners.numpy(),
            "label": np.array(names, object),
            "score": score[0, row, column].numpy(),
        }
