"""``--value-inputs``: the inputs of a model, their types and shapes, in the JSON file that the original GraphPipe took.

    {"data_0": [1, [1, 3, 227, 227]]}

It may be at a URL, as in the original's documentation. Types are numbered as Caffe2 did.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from graphpipe.errors import LoadError
from graphpipe.signature import TensorSpec
from graphpipe.sources.web import fetch

__all__ = ["value_inputs"]

_BYTES_MAX = 1 << 20
_EXPECTED = 'expected {"input": [dtype number, [dims...]]}, as in docs/serving.md'

_DTYPES = {
    1: "float32",
    2: "int32",
    3: "uint8",
    4: "object",
    5: "bool",
    6: "uint8",
    7: "int8",
    8: "uint16",
    9: "int16",
    10: "int64",
    12: "float16",
    13: "float64",
}


def value_inputs(place: str) -> dict[str, TensorSpec]:
    """What the file at a path or a URL says, by name. Raises LoadError."""
    try:
        is_url = place.startswith(("http://", "https://"))
        path = fetch(place, bytes_max=_BYTES_MAX, bound="what names inputs is small") if is_url else Path(place)
    except LoadError as error:
        raise LoadError(f"--value-inputs: {error}") from None
    place = place.partition("?")[0]  # what is behind the question mark may be a key
    try:
        content = json.loads(path.read_text())
        if content == {}:
            raise LoadError(f"{place}: it names no input; {_EXPECTED}")
        return {
            str(name): TensorSpec(
                str(name), np.dtype(_DTYPES[dtype]), tuple(int(d) if int(d) > 0 else None for d in dims)
            )
            for name, (dtype, dims) in content.items()
        }
    except OSError as error:
        raise LoadError(f"{place}: {error.strerror}") from None
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
        raise LoadError(f"{place}: {_EXPECTED}") from None
