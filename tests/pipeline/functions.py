"""Stages in a file, as people write them."""

from __future__ import annotations

import numpy as np

import graphpipe
from tests.pipeline.tables import WORDS


class Tokenize:
    """Text to numbers, with a table that is made once."""

    def __init__(self):
        self.table = {word: i for i, word in enumerate(WORDS)}

    def __call__(self, text):
        unknown = len(self.table)
        return {"ids": np.array([[self.table.get(word, unknown)] for word in text], np.float32)}


@graphpipe.model(inputs={"ids": "float32[n, 1]"}, outputs={"scores": "float32[n, 4]"})
def score(ids):
    return ids == np.arange(4, dtype=np.float32)


def best(scores):
    return {"best": scores.argmax(axis=1)}
