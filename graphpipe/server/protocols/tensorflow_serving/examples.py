"""Examples, as classifiers and regressions of TensorFlow take them: features by name, of JSON, to tf.train.Example's bytes.

A message of protobuf may be cut in two: what all examples have in common is written once, and put in front of each.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

from graphpipe.errors import InvalidRequest, MalformedMessage, TooLarge
from graphpipe.server.protocols.protobuf import Message
from graphpipe.server.protocols.room import UNLIMITED, Room
from graphpipe.server.protocols.tensorflow_serving.request import Asked, is_bytes, octets_of
from graphpipe.words import quoted

__all__ = ["examples_in"]

# A context comes once, and is in the memory of each example.
_CONTEXTS_BYTES_MAX = 64 << 20
_FLOAT_MAX = float(np.finfo(np.float32).max)
_FEATURES, _FEATURE = 1, 1
_BYTES_LIST, _FLOAT_LIST, _INT64_LIST = 1, 2, 3


def examples_in(request: dict[str, Any], input_name: str, strings_max: int, room: Room = UNLIMITED) -> Asked:
    """The examples of a request, each with the features of their context.

    Raises MalformedMessage, InvalidRequest, TooLarge, Overloaded.
    """
    examples = request.get("examples")
    if type(examples) is not list or not examples:
        raise MalformedMessage("examples is a list of one object or more, which have features by name")
    if len(examples) > strings_max:
        raise TooLarge(f"{len(examples):,} examples came; at most {strings_max:,} are taken (--strings-max)")
    context = _example(request["context"], "context") if "context" in request else b""
    if len(context) * len(examples) > _CONTEXTS_BYTES_MAX:
        raise TooLarge(
            f"a context of {len(context):,} bytes for each of {len(examples):,} examples makes more than "
            f"{_CONTEXTS_BYTES_MAX:,} bytes; send fewer examples at once"
        )
    array = room.strings(len(examples), len(context) * len(examples))
    texts = [context + _example(each, f"examples[{at}]") for at, each in enumerate(examples)]
    room.hold(array, 0, sum(map(len, texts)) - len(context) * len(examples))
    array[:] = texts
    return Asked((input_name,), [array], True)


def _example(features: object, place: str) -> bytes:
    if type(features) is not dict:
        raise MalformedMessage(f"{place} is no object with features by name")
    written = Message()
    for name, value in features.items():
        written.map(_FEATURE, name, _feature(value if type(value) is list else [value], f"{place}[{quoted(name)}]"))
    return b"".join(Message().message(_FEATURES, written).segments())


def _feature(values: list[Any], place: str) -> Message:
    kinds = set(map(type, values))
    if not kinds:
        return Message()
    listed = Message()
    if kinds <= {int, bool}:  # true is 1 here
        if min(values) < -(2**63) or max(values) >= 2**63:
            raise InvalidRequest(f"{place} has a number that int64 cannot hold")
        return Message().message(_INT64_LIST, listed.numbers(1, values))
    if kinds <= {int, float}:
        if any(abs(value) > _FLOAT_MAX for value in values):
            raise InvalidRequest(f"{place} has a number that float32 cannot hold")
        return Message().message(_FLOAT_LIST, listed.octets(1, struct.pack(f"<{len(values)}f", *values)))
    if kinds <= {str, dict}:
        for value in values:
            if type(value) is not str and not is_bytes(value):
                raise InvalidRequest(f'{place} has an object that is no {{"b64": "..."}}')
            listed.octets(1, value.encode() if type(value) is str else octets_of(value["b64"], place))
        return Message().message(_BYTES_LIST, listed)
    raise InvalidRequest(f"{place} is to be numbers, strings, or a list of either")
