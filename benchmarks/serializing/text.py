"""JSON, by the library that Python has and by the two that people take instead."""

from __future__ import annotations

import contextlib
import importlib
import json
from typing import Any

import numpy as np

from benchmarks.serializing.codec import Array, Codec, Way


def by_lists(library: Any) -> Way:
    """For libraries that know no arrays."""

    def codec(field: str) -> Codec:
        return Codec(
            lambda array: [library.dumps({field: array.tolist()}).encode()],
            lambda body: np.array(library.loads(body)[field], np.float32),
        )

    return Way(codec("inputs"), codec("outputs"))


def by_orjson(orjson: Any) -> Way:
    """It writes arrays as they are, with as many digits as float32 needs, but reads lists."""

    def serialise(array: Array, field: str) -> list[bytes]:
        return [orjson.dumps({field: array}, option=orjson.OPT_SERIALIZE_NUMPY)]

    def codec(field: str) -> Codec:
        return Codec(
            lambda array: serialise(array, field), lambda body: np.array(orjson.loads(body)[field], np.float32)
        )

    return Way(codec("inputs"), codec("outputs"))


WAYS = {"json": by_lists(json)}
for name, made_by in (("ujson", by_lists), ("orjson", by_orjson)):
    with contextlib.suppress(ImportError):  # an interpreter that has only some of them
        WAYS[name] = made_by(importlib.import_module(name))
