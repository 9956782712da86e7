"""Models that say what was asked of them, and a way to run coroutines as the front does: without tasks."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from graphpipe.server.stages import Outputs, Request
from graphpipe.server.taskless import Taskless
from graphpipe.signature import Signature, TensorSpec

Array = NDArray[Any]


class Model:
    """A model made of a function of its inputs (and config); ``calls`` has the rows of each call it got.

    While ``gate`` is closed it runs nothing. ``entered`` is set when a call has begun.
    """

    def __init__(self, function: Callable[..., Mapping[str, Array]], signature: Signature, version: str = "1") -> None:
        self.function = function
        self.signature = signature
        self.version = version
        self.calls: list[int] = []
        self.configs: list[str] = []
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self.closed = False

    def infer(
        self, inputs: Mapping[str, Array], outputs: Sequence[str] | None = None, *, config: str = ""
    ) -> dict[str, Array]:
        self.calls.append(next((len(array) for array in inputs.values() if array.ndim), 0))
        self.configs.append(config)
        self.entered.set()
        self.gate.wait(30)
        answers = dict(self.function(dict(inputs), config))
        return answers if outputs is None else {name: answers[name] for name in outputs}

    def close(self) -> None:
        self.closed = True


def signature(
    inputs: Mapping[str, tuple[Any, Any]] | None = None,
    outputs: Mapping[str, tuple[Any, Any]] | None = None,
    **more: Any,
) -> Signature:
    """Inputs and outputs by name: (dtype, shape)."""
    sides = [
        tuple(
            TensorSpec(name, None if dtype is None else np.dtype(dtype), shape) for name, (dtype, shape) in side.items()
        )
        for side in (inputs or {"x": ("f4", ("n", 2))}, outputs or {"y": ("f4", ("n", 2))})
    ]
    return Signature(*sides, **more)


def doubling(**more: Any) -> Model:
    """y = 2 x; fails on a row whose first number is negative."""

    def function(inputs: dict[str, Array], config: str) -> dict[str, Array]:
        if (inputs["x"][:, 0] < 0).any():
            raise ValueError("a negative number")
        return {"y": inputs["x"] * 2}

    return Model(function, signature(), **more)


def x(*values: float, **more: Any) -> Request:
    """A request of one row for each value."""
    return Request({"x": np.array([[value, value + 0.5] for value in values], np.float32)}, ("y",), "", **more)


class Call:
    """A call under way, stepped as the front steps it."""

    def __init__(self, coroutine: Coroutine[Any, Any, Outputs]) -> None:
        self.done = asyncio.Event()
        self.result: Outputs | None = None
        self.error: BaseException | None = None
        self._steps = Taskless(coroutine, self._end)
        self._steps.start()

    def _end(self, result: Outputs | None, error: BaseException | None) -> None:
        self.result, self.error = result, error
        self.done.set()

    def leave(self) -> None:
        """What the front does when the caller's connection is gone."""
        self._steps.cancel()

    async def answer(self) -> Outputs:
        """The outputs, or the error raised."""
        async with asyncio.timeout(20):
            await self.done.wait()
        if self.error is not None:
            raise self.error
        assert self.result is not None
        return self.result


async def turns(count: int = 5) -> None:
    """Let the loop go round."""
    for _ in range(count):
        await asyncio.sleep(0)


async def until(condition: Callable[[], object]) -> None:
    """Wait until something holds; the test's own time limit ends a wait in vain."""
    while not condition():  # noqa: ASYNC110 - threads set what is waited for
        await asyncio.sleep(0.001)


@pytest.fixture
def closing() -> Any:
    """Stages given to it are closed at the end: ``stage = closing(ModelRunner(...))``."""
    stages: list[Any] = []

    def keep(stage: Any) -> Any:
        stages.append(stage)
        return stage

    yield keep
    for stage in stages:
        stage.close()
