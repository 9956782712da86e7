"""What is remembered of requests' heads is little, whatever callers send."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from graphpipe.server.models.service import Service
from graphpipe.server.protocols.inference import Inference
from graphpipe.wire.dtypes import NDIM_MAX
from tests.front.servers import Function

MIB = 1 << 20
Head = tuple[Sequence[str], Sequence[Any]]


def _rows(i: int) -> Head:
    return ["x"], [np.zeros((i + 1, 1), "u1")]


def _dimensions(i: int) -> Head:
    dimensions = (*(1,) * (NDIM_MAX - 7), 0, *(300 + i,) * 6)
    return ["x", *(f"n{k}" for k in range(63))], [np.zeros(dimensions, "u1")] * 64


def _names(i: int) -> Head:
    return ["x", *(chr(0x10000 + i) * 120 + str(k) for k in range(63))], [np.zeros(1)] * 64


def _long_names(i: int) -> Head:
    return ["x", chr(0x10000 + i) * 65_000], [np.zeros(1)] * 2


def _many_names(i: int) -> Head:
    return ["x", *(f"{i}-{k}" for k in range(1000))], [np.zeros(1)] * 1001


@pytest.mark.parametrize(
    ("sent", "most"), [(_rows, 1), (_dimensions, 16), (_names, 16), (_long_names, 1), (_many_names, 1)]
)
def test_heads_that_never_come_again_take_no_memory_to_speak_of(sent: Callable[[int], Head], most: int) -> None:
    service = Service("m", Function(lambda inputs: {"y": inputs["x"]}), None, None, ignore_extra_inputs=True)  # type: ignore[arg-type]
    service.at_once = lambda request: {"y": np.zeros(1)}
    inference = Inference(service)
    tracemalloc.start()
    try:
        for i in range(400):
            assert inference.infer(*sent(i))
            assert i % 40 or tracemalloc.get_traced_memory()[0] < most * MIB
    finally:
        tracemalloc.stop()
