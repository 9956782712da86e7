"""Answers and metadata that mean harm, to the clients of each language."""

from __future__ import annotations

import gzip
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import flatbuffers
import numpy as np

from benchmarks.attacking.attack import MIB, Saw, Scene, attack
from benchmarks.attacking.victims import CLIENTS
from tests.canned import Caller, answer, canned, outputs
from tests.generated import graphpipe_generated as fbs
from tests.raw_http import chunked

X = np.ones((2, 3), np.float32)
SHARED = 300_000
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def _strings() -> bytes:
    """An answer with one tensor of strings that are all the same one of 1 KB."""
    builder = flatbuffers.Builder(8 * SHARED)
    only = builder.CreateString("x" * 1000)
    builder.StartVector(4, SHARED, 4)
    for _ in range(SHARED):
        builder.PrependUOffsetTRelative(only)
    strings = builder.EndVector()
    fbs.TensorStartShapeVector(builder, 1)
    builder.PrependInt64(SHARED)
    shape = builder.EndVector()
    fbs.TensorStart(builder)
    fbs.TensorAddType(builder, fbs.Type.String)
    fbs.TensorAddShape(builder, shape)
    fbs.TensorAddStringVal(builder, strings)
    tensor = fbs.TensorEnd(builder)
    fbs.InferResponseStartOutputTensorsVector(builder, 1)
    builder.PrependUOffsetTRelative(tensor)
    tensors = builder.EndVector()
    fbs.InferResponseStart(builder)
    fbs.InferResponseAddOutputTensors(builder, tensors)
    builder.Finish(fbs.InferResponseEnd(builder))
    return bytes(builder.Output())


def _inputs() -> bytes:
    """Metadata with inputs that are all the same one, whose name has 1 KB."""
    builder = flatbuffers.Builder(8 * SHARED)
    name = builder.CreateString("x" * 1000)
    fbs.IOMetadataStart(builder)
    fbs.IOMetadataAddName(builder, name)
    fbs.IOMetadataAddType(builder, fbs.Type.Float32)
    only = fbs.IOMetadataEnd(builder)
    fbs.MetadataResponseStartInputsVector(builder, SHARED)
    for _ in range(SHARED):
        builder.PrependUOffsetTRelative(only)
    inputs = builder.EndVector()
    fbs.MetadataResponseStart(builder)
    fbs.MetadataResponseAddInputs(builder, inputs)
    builder.Finish(fbs.MetadataResponseEnd(builder))
    return bytes(builder.Output())


def _sends(data: bytes, caller: Caller) -> None:
    while caller.read_request():
        caller.send(data)


def _endless(begin: bytes, again: bytes, caller: Caller) -> None:
    caller.read_request()
    caller.send(begin)
    until = time.monotonic() + 8  # longer than the client waits
    while time.monotonic() < until:
        caller.send(again)


def _drips(caller: Caller) -> None:
    caller.read_request()
    for byte in answer(outputs(X)):
        caller.send(bytes([byte]))
        time.sleep(0.1)


def _answers() -> dict[str, tuple[str, Callable[[Caller], Any]]]:
    good = outputs(X)
    huge = bytearray(good)
    assert huge[-X.nbytes - 4 : -X.nbytes] == X.nbytes.to_bytes(4, "little")  # the count of the tensor's bytes
    huge[-X.nbytes - 4 : -X.nbytes] = b"\xff\xff\xff\x7f"
    bomb = gzip.compress(bytes(256 * MIB), 9)
    lengths = {
        f"a length of {n}": ("infer", partial(_sends, b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % n))
        for n in (1 << 31, 10**17, 10**30)
    }
    return {
        **lengths,
        "a chunk of 2 GiB": ("infer", partial(_sends, CHUNKED + b"80000000\r\n")),
        "fields without end": ("infer", partial(_endless, b"HTTP/1.1 200 OK\r\n", b"X: y\r\n" * 10_000)),
        "interim answers without end": ("infer", partial(_endless, b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 4000)),
        "a line without end": ("infer", partial(_endless, b"HTTP/1.1 200 OK\r\nX: ", b"y" * 65536)),
        "chunks without end": ("infer", partial(_endless, CHUNKED, chunked(bytes(65536))[:-5])),
        "a body without end": ("infer", partial(_endless, b"HTTP/1.1 200 OK\r\n\r\n", bytes(65536))),
        "a bomb": ("infer", partial(_sends, answer(bomb, "200 OK", "Content-Encoding: gzip"))),
        "a refusal of 32 MiB": ("infer", partial(_sends, answer(b"x" * 32 * MIB, "400 Bad Request"))),
        "a count of 2 GiB": ("infer", partial(_sends, answer(bytes(huge)))),
        "300,000 times one string of 1 KB": ("infer", partial(_sends, answer(_strings()))),
        "300,000 times one input": ("metadata", partial(_sends, answer(_inputs()))),
        "metadata that is an answer": ("metadata", partial(_sends, answer(good))),
        "metadata without end": ("metadata", partial(_endless, CHUNKED, chunked(b"\xff" * 65536)[:-5])),
        "a byte each tenth of a second": ("infer", _drips),
    }  # fmt: skip


def _a_good_answer(scene: Scene) -> None:
    with canned() as server:
        assert scene.tell(f"infer {server.url}") == "answered"
        assert scene.tell(f"metadata {server.url}") == "answered"


def _each(scene: Scene) -> Saw:
    """How many were answered or refused, and the longest time of one call."""
    seen: dict[str, float] = {"answered": 0, "refused": 0}
    longest_s = 0.0
    for what, talk in _answers().values():
        with canned(talk) as server:
            began = time.monotonic()
            seen[scene.tell(f"{what} {server.url}").partition(":")[0]] += 1
            longest_s = max(longest_s, time.monotonic() - began)
    return {**seen, "longest, s": longest_s}


for _language, (_client, _program) in CLIENTS.items():
    attack(
        f"answers to the {_language} client",
        "17 servers, one after another: lengths, chunks and counts beyond all memory, heads, bodies and metadata without "
        "end, a bomb, one string or one input 300,000 times, a byte each 100 ms; the client's time is 5 s and its size "
        f"64 MiB{', the heap at most 256 MiB' if _language == 'Java' else ''}",
        program=_program, victim=_client, first=_a_good_answer,
    )(_each)  # fmt: skip
