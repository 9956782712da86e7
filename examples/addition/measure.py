"""One loop for models of every framework: measure.py PACKAGE ..."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

import graphpipe


def main(*packages: str) -> None:
    numbers = np.random.default_rng(0)
    x, y = numbers.standard_normal((2, 1000), np.float32)
    for package in sorted(packages):
        with graphpipe.load(package) as model:
            out = model.infer({"x": x, "y": y})["out"]
        print(f"{Path(package).stem}: largest error {np.abs(out - (x + y)).max()}")


if __name__ == "__main__":
    main(*sys.argv[1:])
