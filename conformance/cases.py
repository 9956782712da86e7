"""The vectors as data: reading the files, and the short forms for what is long and repeats itself.

``bytes`` is base64, or a list of parts that follow each other: base64, ``{"repeat": base64, "times": N}``, or
``{"words": FIRST, "step": STEP, "count": N}``, which is N numbers of 32 bits, each STEP more than the one before (modulo
2^32). In a value, ``{"repeat": X, "times": N}`` stands for N times the text or list X. Adapters see plain bytes and values.
"""

from __future__ import annotations

import base64
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from conformance.runner import expand_bytes, expand_value

__all__ = ["FOLDER", "GROUPS", "compact", "expand_bytes", "expand_value", "groups"]

FOLDER = Path(__file__).resolve().parent / "vectors"
GROUPS = ("valid", "invalid", "attacks", "unsendable")

# A run shorter than this is written as it is.
_RUN_MIN = 64
# Messages shorter than this are not looked through.
_SHORT = 2048


def groups() -> dict[str, list[dict[str, Any]]]:
    """All vectors, by their group and in their order."""
    found: dict[str, list[dict[str, Any]]] = {group: [] for group in GROUPS}
    for path in sorted(FOLDER.glob("*.json")):
        content = json.loads(path.read_text())
        found[content["group"]] += content["vectors"]
    return found


def compact(message: bytes) -> str | list[Any]:
    """The bytes in the shorter of the two forms."""
    if len(message) < _SHORT:
        return base64.b64encode(message).decode()
    parts: list[Any] = []
    done = 0
    for start, end in _runs(np.frombuffer(message, "<u4", len(message) // 4)):
        if start > done:
            parts.append(base64.b64encode(message[done:start]).decode())
        first, second = np.frombuffer(message, "<u4", 2, start).tolist()
        if first == second and len(set(message[start : start + 4])) == 1:
            parts.append({"repeat": base64.b64encode(message[start : start + 1]).decode(), "times": end - start})
        else:
            step = (second - first + 2**31) % 2**32 - 2**31
            parts.append({"words": first, "step": step, "count": (end - start) // 4})
        done = end
    if done < len(message):
        parts.append(base64.b64encode(message[done:]).decode())
    return parts


def _runs(words: Any) -> list[tuple[int, int]]:
    """Where words that differ by the same step begin and end, in bytes."""
    steps = np.diff(words)
    edges = [0, *(np.flatnonzero(np.diff(steps)) + 1).tolist(), len(steps)]
    runs: list[tuple[int, int]] = []
    for first, last in pairwise(edges):
        start = max(4 * first, runs[-1][1] if runs else 0)
        if 4 * last + 4 - start >= 4 * _RUN_MIN:
            runs.append((start, 4 * last + 4))
    return runs
