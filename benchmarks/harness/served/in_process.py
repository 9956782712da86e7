"""A model without a server: runs it back to back for as many seconds as each line of stdin says, on one thread or several.

    python in_process.py MODEL SHAPE [THREADS]

Answers each line with one of JSON: calls, and the CPU seconds and seconds that they took.
"""

from __future__ import annotations

import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np

import graphpipe


def main(source: str, shape: tuple[int, ...], threads: int = 1) -> None:
    model = graphpipe.load(source)
    name = model.signature.inputs[0].name
    array = np.random.default_rng(0).random(shape, np.float32)
    model.infer({name: array})

    def run(end: float) -> int:
        calls = 0
        while time.perf_counter() < end:
            model.infer({name: array})
            calls += 1
        return calls

    pool = ThreadPoolExecutor(threads)
    for line in sys.stdin:
        cpu, began = time.process_time(), time.perf_counter()
        calls = sum(pool.map(run, [began + float(line)] * threads))
        elapsed = time.perf_counter() - began
        print(json.dumps({"calls": calls, "cpu_s": time.process_time() - cpu, "seconds": elapsed}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], tuple(map(int, sys.argv[2].split(","))), *map(int, sys.argv[3:]))
