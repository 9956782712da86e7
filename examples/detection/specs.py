"""The problem: what stands where in a picture. Whoever finds it, in whichever framework, answers this."""

from __future__ import annotations

from typing import Any

from graphpipe import Problem

INPUT_SPEC: list[dict[str, Any]] = [
    {"name": "picture", "dtype": "uint8", "shape": (480, 640, 3)},
]
OUTPUT_SPEC: list[dict[str, Any]] = [
    # From left to right and top to bottom: left, top, right, bottom, in pixels.
    {"name": "corners", "dtype": "float32", "shape": ("found", 4)},
    {"name": "label", "dtype": "string", "shape": ("found",)},
    {"name": "score", "dtype": "float32", "shape": ("found",)},
]
PROBLEM = Problem.of(INPUT_SPEC, OUTPUT_SPEC, name="2d-detection")
