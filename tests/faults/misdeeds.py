"""Models that misbehave in every way that Python knows: the first number of a row, if it is negative, says how.

``DEEDS`` are those that fail: their callers are told so, and nobody else notices. ``ODDITIES`` are right answers in an
uncommon form.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

import graphpipe
from graphpipe import Signature, TensorSpec, errors

Array = NDArray[Any]


class PanicException(BaseException):
    """What an extension written in Rust raises when it panics."""


class Unprintable(Exception):
    def __str__(self) -> str:
        raise SystemExit("__str__")

    __repr__ = __str__


class Strange(BaseException):
    """Equal to nothing that can be compared, and without attributes."""

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("__eq__")

    __hash__ = None  # type: ignore[assignment]

    def __getattribute__(self, name: str) -> Any:
        raise KeyboardInterrupt


class Wordless(errors.ServiceError):
    def __init__(self) -> None:
        pass  # and no message


class Fine(errors.InvalidRequest):
    http_status = 200


class Statusless(errors.InvalidRequest):
    http_status = "none"  # type: ignore[assignment]


class Trap(errors.InvalidRequest):
    @property
    def message(self) -> str:  # type: ignore[override]
        raise SystemExit(3)

    @message.setter
    def message(self, text: str) -> None:
        pass


class Singular(errors.UpstreamFailed):
    """Cannot be copied: each would have to be made from three words."""

    def __init__(self, one: str, two: str, three: str) -> None:
        super().__init__(one + two + three)

    def __reduce__(self) -> Any:
        raise TypeError("cannot be pickled")


class Untouchable:
    """An element of an array that cannot even be asked what it is."""

    @property
    def __class__(self) -> Any:
        raise SystemExit("__class__")


def raising(error: Callable[[], BaseException]) -> Callable[[Array], Any]:
    def deed(x: Array) -> Any:
        raise error()

    return deed


def recursive(x: Array) -> Any:
    return recursive(x)


def chained(x: Array) -> Any:
    error = ValueError("round")
    error.__cause__ = RuntimeError("and round")
    error.__cause__.__context__ = error
    raise error


def junk(x: Array) -> Array:
    array = np.empty(len(x), object)
    array[:] = [Untouchable() for _ in x]
    return array


class Torn(Mapping[str, Any]):
    """Says that it has an output, and does not give it."""

    def __getitem__(self, name: str) -> Any:
        raise PanicException

    def __iter__(self) -> Any:
        return iter(["y"])

    def __len__(self) -> int:
        return 1


DEEDS: dict[str, Callable[[Array], Any]] = {
    "panic": raising(lambda: PanicException("called `Option::unwrap()` on a `None` value")),
    "sys.exit": lambda x: sys.exit(2),
    "KeyboardInterrupt": raising(KeyboardInterrupt),
    "CancelledError": raising(asyncio.CancelledError),
    "GeneratorExit": raising(GeneratorExit),
    "StopIteration": raising(lambda: StopIteration(7)),
    "StopAsyncIteration": raising(StopAsyncIteration),
    "group": raising(lambda: BaseExceptionGroup("several", [SystemExit(1), ValueError("a")])),
    "unprintable": raising(Unprintable),
    "strange": raising(Strange),
    "wordless": raising(Wordless),
    "fine": raising(lambda: Fine("200")),
    "statusless": raising(lambda: Statusless("no status")),
    "trap": raising(lambda: Trap("no message")),
    "load error": raising(lambda: errors.LoadError("not now")),
    "no answer": raising(lambda: errors.NoAnswer("nobody is there")),
    "recursion": recursive,
    "memory": raising(MemoryError),
    "round": chained,
    "nothing": lambda x: None,
    "list": lambda x: ["y"],
    "text": lambda x: "y",
    "number": lambda x: 3,
    "missing": lambda x: {"z": x},
    "torn": lambda x: Torn(),
    "no array": lambda x: {"y": object()},
    "ragged": lambda x: {"y": [[1], [2, 3]]},
    "masked": lambda x: {"y": np.ma.array(x, mask=np.ones_like(x))},
    "junk": lambda x: {"y": junk(x)},
    "much junk": lambda x: {"y": np.broadcast_to(junk(x)[:, None], (len(x), 5000))},
    "complex128": lambda x: {"y": x.astype(np.complex128)},
    "datetime64": lambda x: {"y": np.zeros(x.shape, "datetime64[s]")},
    "bfloat16": lambda x: {"y": x.astype(ml_dtypes.bfloat16)},
    "structured": lambda x: {"y": np.zeros(len(x), [("a", "f4"), ("b", "i8")])},
    "void": lambda x: {"y": np.zeros(len(x), "V7")},
    "many axes": lambda x: {"y": np.zeros((len(x),) + (1,) * 40, np.float32)},
}

ODDITIES: dict[str, Callable[[Array], Any]] = {
    "backwards": lambda x: {"y": (x * 2)[:, ::-1][:, ::-1].copy()[::-1][::-1]},
    "columns": lambda x: {"y": np.asfortranarray(x * 2)},
    "big-endian": lambda x: {"y": (x * 2).astype(">f4")},
    "a list": lambda x: {"y": [[float(2 * a) for a in row] for row in x]},
    "a subclass": lambda x: {"y": np.ma.array(x * 2)},
    "read-only": lambda x: MappingProxyType({"y": x * 2}),
    "much else": lambda x: {"y": x * 2} | {f"z{i}": x for i in range(5000)},
    "numbers as names": lambda x: {"y": x * 2, 7: x},
}

_ALL = [*DEEDS.values(), *ODDITIES.values()]
NUMBERS = {name: -1.0 - i for i, name in enumerate([*DEEDS, *ODDITIES])}
_ROWS = Signature((TensorSpec("x", np.dtype("f4"), ("n", 2)),), (TensorSpec("y", np.dtype("f4"), ("n", 2)),))


class Actor:
    """Twice its input, unless a row says otherwise."""

    signature = _ROWS

    def infer(
        self, inputs: Mapping[str, Array], outputs: Sequence[str] | None = None, *, config: str = ""
    ) -> dict[str, Array]:
        x = inputs["x"]
        for number in x[:, 0]:
            if number < 0:
                return _ALL[int(-number) - 1](x)  # type: ignore[no-any-return]
        return {"y": x * 2}

    def close(self) -> None:
        raise PanicException("on the way out")


class Quick(Actor):
    """The same on the server's own loop."""

    quick = True


class Moody(Actor):
    """Answers what it is as long as no file says otherwise."""

    def _mood(self) -> None:
        if os.path.exists(os.environ.get("TEST_MOOD", "/nowhere")):
            raise PanicException("not now")

    @property
    def signature(self) -> Signature:  # type: ignore[override]
        self._mood()
        return _ROWS

    @property
    def version(self) -> str:
        self._mood()
        return "1"

    def current_version(self) -> str:
        self._mood()
        return "1"


@graphpipe.model(inputs={"x": "float32[n, 2]"}, outputs={"y": "float32[n, 2]"})
def cold(x: Array) -> Array:
    """Fails as long as it is warmed up: on zeros."""
    if not x.any():
        sys.exit("cold")
    return x * 2


class Unmade:
    def __init__(self) -> None:
        raise PanicException("no such device\nand more")


class Exits:
    def __init__(self) -> None:
        sys.exit(0)


class Mute(Actor):
    @property
    def signature(self) -> Signature:  # type: ignore[override]
        raise SystemExit("mute")


class Misnamed(Actor):
    @property
    def version(self) -> str:
        raise asyncio.CancelledError
