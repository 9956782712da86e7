"""Text2Ids as a model of plain Python: graphpipe-serve --model examples/text2ids/serve.py:text2ids."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from text2ids import Text2Ids  # type: ignore[import-not-found]

import graphpipe

_text2ids = Text2Ids()


@graphpipe.model(inputs={"text": "string[]"}, outputs={"ids": "int64[n]"})
def text2ids(text: NDArray[np.object_]) -> NDArray[np.int64]:
    """A text to the numbers of its words."""
    return np.array(_text2ids(text.item()), np.int64)
