"""Ways that need numpy alone: a copy, pickle, .npy."""

from __future__ import annotations

import io
import pickle

import numpy as np

from benchmarks.serializing.codec import Array, Codec, Parts, Way

_warm: dict[tuple[int, ...], Array] = {}


def copy(array: Array) -> Parts:
    """The least that anything that copies has to do."""
    if array.shape not in _warm:
        _warm[array.shape] = np.zeros_like(array)
    np.copyto(_warm[array.shape], array)
    return [_warm[array.shape]]


def pickle_out(array: Array) -> Parts:
    buffers: list[pickle.PickleBuffer] = []
    head = pickle.dumps(array, protocol=5, buffer_callback=buffers.append)
    return [head, *[buffer.raw() for buffer in buffers]]


def npy(array: Array) -> Parts:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    return [file.getbuffer()]


_copy = Codec(copy, lambda body: copy(body)[0], lambda parts: parts[0].copy())
_pickle_in = Codec(lambda array: [pickle.dumps(array, protocol=5)], pickle.loads)
# What came is in writable memory, one piece for each buffer.
_pickle_out = Codec(
    pickle_out,
    lambda pieces: pickle.loads(pieces[0], buffers=pieces[1:]),
    lambda parts: [bytearray(part) for part in parts],
)
_npy = Codec(npy, lambda body: np.load(io.BytesIO(body), allow_pickle=False))

WAYS = {
    "memcpy": Way(_copy, _copy),
    "pickle-in": Way(_pickle_in, _pickle_in),
    "pickle-out": Way(_pickle_out, _pickle_out),
    "npy": Way(_npy, _npy),
}
