"""Formats that keep arrays, or bytes, as bytes."""

from __future__ import annotations

import msgpack
import numpy as np
import safetensors.numpy

from benchmarks.serializing.codec import Array, Codec, Parts, Way


def pack(array: Array) -> Parts:
    """A map with the bytes and what numpy needs to know of them; the packer reads the array's own memory."""
    return [msgpack.packb({"dtype": array.dtype.str, "shape": array.shape, "data": array.data})]


def unpack(body: bytes) -> Array:
    found = msgpack.unpackb(body)
    return np.frombuffer(found["data"], found["dtype"]).reshape(found["shape"])


_msgpack = Codec(pack, unpack)
_safetensors = Codec(
    lambda array: [safetensors.numpy.save({"x": array})], lambda body: safetensors.numpy.load(body)["x"]
)

WAYS = {"msgpack": Way(_msgpack, _msgpack), "safetensors": Way(_safetensors, _safetensors)}
