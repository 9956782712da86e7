"""The model without a server: as many threads as a peer has, each calling back to back.

    MODELS=FOLDER python limit.py

Each line of standard input is a model's name and seconds; each is answered by a line of JSON: calls a second.
"""

from __future__ import annotations

import json
import sys
import threading
import time

import numpy as np
from models import CALLS_AT_ONCE, SHAPES, Model


def main() -> None:
    models = {name: Model(name) for name in SHAPES}
    inputs = {name: np.zeros((1, *shape[1:]), np.float32) for name, shape in SHAPES.items()}
    for line in sys.stdin:
        name, seconds = line.split()
        print(json.dumps({"per_second": per_second(models[name], inputs[name], float(seconds))}), flush=True)


def per_second(model: Model, rows: np.ndarray, seconds: float) -> float:
    counts = [0] * CALLS_AT_ONCE
    began = time.perf_counter()

    def call(thread: int) -> None:
        while time.perf_counter() < began + seconds:
            model(rows)
            counts[thread] += 1

    threads = [threading.Thread(target=call, args=(number,)) for number in range(CALLS_AT_ONCE)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / (time.perf_counter() - began)


if __name__ == "__main__":
    main()
