"""Arrow's IPC message of one tensor. From Python it always copies once on its way out, and never on its way in."""

from __future__ import annotations

import pyarrow as pa

from benchmarks.serializing.codec import Array, Codec, Parts, Way


def write(array: Array) -> Parts:
    tensor = pa.Tensor.from_numpy(array)
    # Memory of the right size at once: a BufferOutputStream grows, and copies what it has.
    body = pa.allocate_buffer(pa.ipc.get_tensor_size(tensor))
    pa.ipc.write_tensor(tensor, pa.FixedSizeBufferWriter(body))
    return [body]


_arrow = Codec(write, lambda body: pa.ipc.read_tensor(pa.BufferReader(body)).to_numpy())

WAYS = {"arrow": Way(_arrow, _arrow)}
