"""Messages written and read, by the names that graphpipe.wire has for everybody."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphpipe.wire import decode_infer_response, decode_request, encode_infer_response, encode_request

__all__ = ["calls"]

Call = Callable[[], object]
_NAME = b"--number--"


def calls(theirs: Path) -> Mapping[str, Callable[[], Call]]:
    """What makes each call, by its name; ``theirs`` is a file with 1 KB as other writers lay it out."""
    return {
        "encode 1 KB": lambda: encoding(_small()),
        "encode answer 1 KB": lambda: answering(_small()),
        "decode 1 KB": lambda: decoding(_written(_small())),
        "decode 1 KB, new layout": lambda: decoding_anew(_written(_small(), _NAME.decode())),
        "decode 1 KB, other writer": lambda: decoding(bytearray(theirs.read_bytes())),
        "decode answer 1 KB": lambda: reading_answer(_small()),
        "encode 1,000 strings": lambda: encoding(_strings()),
        "decode 1,000 strings": lambda: decoding(_written(_strings())),
        "encode 77 MB": lambda: encoding(_large()),
        "decode 77 MB": lambda: decoding(_written(_large())),
    }


def encoding(array: NDArray[Any]) -> Call:
    return lambda: encode_request([array], ["x"], ["y"])


def answering(array: NDArray[Any]) -> Call:
    return lambda: encode_infer_response([array])


def decoding(message: bytearray) -> Call:
    view = memoryview(message)
    return lambda: decode_request(view)


def decoding_anew(message: bytearray) -> Call:
    """Another output is asked for each time, so that no message is laid out as one before."""
    at, number, view = message.index(_NAME), 0, memoryview(message)

    def call() -> None:
        nonlocal number
        number += 1
        message[at : at + len(_NAME)] = b"%010d" % number
        decode_request(view)

    return call


def reading_answer(array: NDArray[Any]) -> Call:
    view = memoryview(bytearray(b"".join(encode_infer_response([array]))))
    return lambda: decode_infer_response(view)


def _written(array: NDArray[Any], output: str = "y") -> bytearray:
    return bytearray(b"".join(encode_request([array], ["x"], [output])))


def _small() -> NDArray[Any]:
    return np.linspace(0, 1, 256, dtype=np.float32).reshape(1, 256)


def _strings() -> NDArray[Any]:
    strings = np.empty(1000, object)
    strings[:] = [f"some text of row {number}".encode() for number in range(1000)]
    return strings


def _large() -> NDArray[Any]:
    return np.zeros((128, 224, 224, 3), np.float32)
