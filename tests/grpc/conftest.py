"""Servers that callers of gRPC ask. What comes back here comes back by itself: the garbage collector is off."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from graphpipe.backends.echo import Echo
from graphpipe.signature import Signature, TensorSpec
from tests.front.conftest import without_collector
from tests.front.servers import InProcess, in_process
from tests.grpc.official import Caller, caller

__all__ = ["call", "server", "without_collector"]


class Simple:
    """Sums and differences, as Triton's own example has them, and what its caller configured."""

    signature = Signature(
        (TensorSpec("INPUT0", np.dtype("i4"), ("n", 4)), TensorSpec("INPUT1", np.dtype("i4"), ("n", 4))),
        (
            TensorSpec("OUTPUT0", np.dtype("i4"), ("n", 4)),
            TensorSpec("OUTPUT1", np.dtype("i4"), ("n", 4)),
            TensorSpec("CONFIG", np.dtype(object), ()),
        ),
        default_outputs=("OUTPUT0", "OUTPUT1"),
    )

    def infer(self, inputs: Any, outputs: Any = None, *, config: str = "") -> Any:
        one, other = inputs["INPUT0"], inputs["INPUT1"]
        text = np.empty((), object)
        text[()] = config.encode()
        return {"OUTPUT0": one + other, "OUTPUT1": one - other, "CONFIG": text}

    def close(self) -> None:
        pass


class Broken:
    """Ends in what is no Exception."""

    signature = Signature((TensorSpec("x"),), (TensorSpec("y"),))

    def infer(self, inputs: Any, outputs: Any = None, *, config: str = "") -> Any:
        raise GeneratorExit("as some libraries do")

    def close(self) -> None:
        pass


@pytest.fixture(scope="module")
def server() -> Iterator[InProcess]:
    with in_process({"echo": Echo(), "simple": Simple(), "broken": Broken()}, strings_max=200_000) as server:
        yield server


@pytest.fixture
def call(server: InProcess) -> Iterator[Caller]:
    with caller(server) as call:
        yield call
