"""A process that loads the models that it is told, one after another, and says what came of each."""

from __future__ import annotations

import sys

import graphpipe

for line in sys.stdin:
    try:
        with graphpipe.load(line.strip()):
            print("loaded", flush=True)
    except graphpipe.LoadError as error:
        print(f"refused: {error}".replace("\n", " "), flush=True)
