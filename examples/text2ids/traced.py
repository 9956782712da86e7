"""Text2Ids as a function that calls stages, traced: python examples/text2ids/traced.py words.toml writes the pipeline."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

import graphpipe


@graphpipe.stage
def split(text: NDArray[np.object_]) -> dict[str, Any]:
    """A text to its words."""
    return {"words": np.array(text.item().split(), object)}


@graphpipe.stage
class LookUp:
    """Words to numbers; what is not in the table is ``unknown``."""

    def __init__(self, table: dict[str, int], unknown: str = "[UNK]") -> None:
        self.table = {word.encode(): number for word, number in table.items()}
        self.unknown = table[unknown]

    def __call__(self, words: NDArray[np.object_]) -> dict[str, Any]:
        """The numbers of words, in order."""
        return {"ids": np.array([self.table.get(word, self.unknown) for word in words], np.int64)}


look_up = LookUp({"hello": 0, "world": 1, "[UNK]": 2})


def text2ids(text: Any) -> Any:
    """The numbers of a text's words: on texts in training, and recorded as the pipeline that serves."""
    return {"ids": look_up(split(text)["words"])["ids"]}


if __name__ == "__main__":
    graphpipe.trace(text2ids, {"text": "hello world"}).save(sys.argv[1])
