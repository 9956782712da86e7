"""A process that calls the servers that it is told, one after another, and says what came of each: ``infer URL``, or
``metadata URL``.
"""

from __future__ import annotations

import sys

import numpy as np

import graphpipe

X = np.ones((2, 3), np.float32)

for line in sys.stdin:
    what, url = line.split()
    try:
        with graphpipe.Client(url, timeout=5, answer_bytes_max=64 << 20) as client:
            if what == "metadata":
                client.metadata()
            else:
                client.execute(X)
        print("answered", flush=True)
    except graphpipe.GraphPipeError as error:
        print(f"refused: {type(error).__name__}", flush=True)
