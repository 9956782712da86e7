"""Our own codec, as client and server use it."""

from __future__ import annotations

import itertools
from collections.abc import Callable

from benchmarks.serializing.codec import Array, Codec, Parts, Way
from graphpipe.buffers import BufferPool
from graphpipe.wire import decode_infer_response, decode_request, encode_infer_response, encode_request, messages
from graphpipe.wire.memory import LayoutMemory

# What bodies are received into, and what a message lies in that has to be in one piece.
_pool = BufferPool(1 << 31)
_numbers = itertools.count()


def request(array: Array) -> Parts:
    return encode_request([array], ["x"], ["y"])


def response(array: Array) -> Parts:
    return encode_infer_response([array])


def in_one_buffer(parts: Parts) -> Parts:
    body = _pool.lease(sum(map(len, parts)))
    assert body is not None
    at = 0
    for part in parts:
        body[at : at + len(part)] = part
        at += len(part)
    return [body]


def new_request(array: Array) -> Parts:
    return encode_request([array], [f"x{next(_numbers)}"], ["y"])


def new_response(array: Array) -> Parts:
    # An answer has no names that could be new, so what is known of its layout is forgotten: 0.2 us.
    messages._known_responses.clear()
    messages._response_layout.cache_clear()
    return encode_infer_response([array])


def way(serialise: Callable[[Parts], Parts] = lambda parts: parts) -> Way:
    return Way(
        Codec(lambda array: serialise(request(array)), lambda body: decode_request(body).inputs[0], received),
        Codec(lambda array: serialise(response(array)), lambda body: decode_infer_response(body).outputs[0], received),
    )


def received(parts: Parts) -> memoryview:
    """A body as it has come: in memory of ours, in one piece."""
    return memoryview(bytearray(b"".join(parts)))


WAYS = {
    "graphpipe": way(),
    "graphpipe-warm": way(in_one_buffer),
    "graphpipe-joined": way(lambda parts: [b"".join(parts)]),
    "graphpipe-new": Way(
        Codec(new_request, lambda body: decode_request(body, LayoutMemory()).inputs[0], received),
        Codec(new_response, lambda body: decode_infer_response(body, LayoutMemory()).outputs[0], received),
    ),
}
