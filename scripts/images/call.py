"""Calls a server as anybody outside would: `python -m scripts.images.call URL INPUT.npz OUTPUT.npz TIMES`.

A program of its own, because it may have to be run in the network of a container.
"""

import sys
import time
from typing import Any

import numpy as np

import graphpipe


def main(url: str, given: str, got: str, times: str) -> None:
    deadline = time.monotonic() + 120
    inputs = dict(np.load(given))
    with graphpipe.Client(url) as client:
        while True:
            try:
                answer: dict[str, Any] = client.infer(inputs)
                break
            except (graphpipe.NoAnswer, graphpipe.NotReady):  # it is still loading
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)
        for _ in range(int(times) - 1):
            answer = client.infer(inputs)
    np.savez(got, **answer)


if __name__ == "__main__":
    main(*sys.argv[1:])
