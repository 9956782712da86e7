"""Valid messages of every kind and manner, and ways to damage them."""

import random
import struct
from collections.abc import Callable
from typing import Any

import numpy as np

from graphpipe.wire import (
    ErrorInfo,
    IOMetadata,
    MetadataResponse,
    Type,
    decode_infer_response,
    decode_metadata_response,
    decode_request,
    encode_infer_response,
    encode_metadata_response,
    encode_request,
)
from graphpipe.wire.messages import encode_metadata_request
from tests.wire import official
from tests.wire.official import ORIGINAL_GO, ORIGINAL_PYTHON, Manner, Tensor

FLOATS = np.arange(6, dtype="f4").reshape(2, 3)
STRINGS = np.array([b"abcd", b"", b"a\0b", b"\xff"], object)
META = MetadataResponse(
    "m", "1", "s", "d", (IOMetadata("x", "first", (-1, 3), Type.FLOAT32),), (IOMetadata("y", "", (), Type.STRING),)
)
ARRAYS = [FLOATS, np.arange(3, dtype="u1"), np.zeros((0, 2), "i8"), np.float64(2.5)]
TENSORS = [Tensor(10, (2, 3), FLOATS.tobytes()), Tensor(12, (4,), STRINGS.tolist()), Tensor(1, (3,), b"\0\1\2")]

REQUESTS = {
    "ours": b"".join(encode_request([FLOATS], ["x"], ["y"])),
    "ours, several tensors": b"".join(encode_request(ARRAYS, ["a", "b", "c", "d"], [], "config")),
    "ours, strings": b"".join(encode_request([STRINGS, FLOATS], ["s", "ü"], ["y", "z"])),
    "ours, for metadata": encode_metadata_request(),
    "python's": official.write_request(TENSORS, ["a", "b", "c"], ["y"], "config", ORIGINAL_PYTHON),
    "go's": official.write_request(TENSORS, ["a", "b"], [], "", ORIGINAL_GO),
    "tables before data": official.write_request(TENSORS[:1], manner=Manner(config_last=True, data_first=True)),
}
RESPONSES = {
    "ours": b"".join(encode_infer_response(ARRAYS)),
    "ours, errors": b"".join(encode_infer_response([], [ErrorInfo(2, "no"), ErrorInfo(-1, "")])),
    "python's": official.write_infer_response(TENSORS, [(7, "late")], ORIGINAL_PYTHON),
    "go's": official.write_infer_response(TENSORS, [], ORIGINAL_GO),
}
METADATA = {
    "ours": encode_metadata_response(META),
    "go's": official.write_metadata_response(META, ORIGINAL_GO),
}
Decode = Callable[[bytes], Any]
SEEDS: list[tuple[Decode, bytes]] = [
    *((decode_request, message) for message in REQUESTS.values()),
    *((decode_infer_response, message) for message in RESPONSES.values()),
    *((decode_metadata_response, message) for message in METADATA.values()),
]

_BYTES = (0, 1, 2, 3, 4, 7, 8, 12, 13, 127, 128, 254, 255)
_WORDS = (0, 1, 2, 3, 4, 5, 8, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFC, 0xFFFF_FFFF, 0x4000_0000, 0x2000_0001)


def damaged(message: bytes, rng: random.Random) -> bytes:
    """The message with one to three things about it changed, most of them in ways that a reader could trip over."""
    body = bytearray(message)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        if len(body) < 8:
            break
        at = rng.randrange(len(body))
        word = at & ~3 if at + 4 <= len(body) else 0
        match rng.randrange(10):
            case 0 | 1:
                body[at] = rng.randrange(256)
            case 2:
                body[at] = rng.choice(_BYTES)
            case 3:
                body[at] ^= 1 << rng.randrange(8)
            case 4:
                struct.pack_into("<I", body, word, rng.choice(_WORDS))
            case 5:
                struct.pack_into("<I", body, word, (len(body) - word + rng.randrange(-9, 5)) & 0xFFFF_FFFF)
            case 6:
                near = struct.unpack_from("<I", body, word)[0] + rng.choice((-8, -4, -2, -1, 1, 2, 4, 8))
                struct.pack_into("<I", body, word, near & 0xFFFF_FFFF)
            case 7:
                other = rng.randrange(len(body) - 3) & ~3
                body[word : word + 4] = body[other : other + 4]
            case 8:
                del body[at:]
            case _:
                body[at:at] = bytes(rng.choice((1, 4, 8)))
    return bytes(body)
