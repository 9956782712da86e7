"""The first calls of a model are its slowest: they are made here, before anybody waits for them. So are its own tests."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphpipe.backends.model import Model
from graphpipe.errors import GraphPipeError, LoadError, let_go
from graphpipe.signature import Signature, TensorSpec
from graphpipe.words import first_line

__all__ = ["prove", "warm_up"]

# A made-up input larger than this would cost more than it saves.
_ELEMENTS_MAX = 50_000_000


def warm_up(model: Model, calls: int) -> str:
    """Call the model so many times on inputs made from its signature. Gives why it did not answer; nothing if it did.

    What cannot be made (unknown type or rank) is skipped, and so is the rest after a refusal: a made-up input may well be
    nonsense to a model, which is no reason not to serve it.
    """
    try:
        inputs = _samples(model.signature)
    except BaseException as error:
        return f"it does not say what it takes: {_reason(error)}"
    if inputs is None:
        return ""
    for _ in range(calls):
        try:
            model.infer(inputs)
        except BaseException as error:  # sys.exit is one, and so is a panic of an extension in Rust
            return _reason(error)
    return ""


def prove(model: Model, name: str) -> None:
    """Have a model that can test itself do so. Raises LoadError: one that gives wrong answers is not to be served."""
    try:
        test = getattr(model, "self_test", None)
        if callable(test):
            test()
    except BaseException as error:  # sys.exit is one
        raise LoadError(f"model {name!r} failed its own test: {_reason(error)}") from let_go(error)


def _reason(error: BaseException) -> str:
    """Its words are about an input of zeros, not about anybody's."""
    words, kind = first_line(error), type(error).__name__
    return words if isinstance(error, GraphPipeError) or words == kind else f"{kind}: {words}"


def _samples(signature: Signature) -> dict[str, NDArray[Any]] | None:
    by_name = {spec.name: spec for spec in signature.inputs}
    specs = [by_name.get(name) for name in signature.input_names]
    samples = {spec.name: sample for spec in specs if spec is not None and (sample := _sample(spec)) is not None}
    return None if signature.variadic or len(samples) < len(specs) else samples


def _sample(spec: TensorSpec) -> NDArray[Any] | None:
    if spec.dtype is None or spec.shape is None:
        return None
    shape = tuple(d if isinstance(d, int) else 1 for d in spec.shape)
    if np.prod(shape, dtype=np.float64) > _ELEMENTS_MAX:
        return None
    sample = np.full(shape, b"", object) if spec.dtype.kind == "O" else np.zeros(shape, spec.dtype)
    sample.flags.writeable = False  # as a caller's are
    return sample
