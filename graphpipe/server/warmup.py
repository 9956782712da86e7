"""The first calls of a model are its slowest: they are made here, before anybody waits for them."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphpipe.backends.model import Model
from graphpipe.signature import TensorSpec

__all__ = ["warm_up"]

log = logging.getLogger("graphpipe.model")

# A made-up input larger than this would cost more than it saves.
_ELEMENTS_MAX = 50_000_000


def warm_up(model: Model, name: str, calls: int) -> int:
    """Call the model so many times on inputs made from its signature, and say how many calls it answered.

    What cannot be made (unknown type or rank) is skipped, and a refusal is taken note of: a made-up input may well be
    nonsense to a model, which is no reason not to serve it.
    """
    signature = model.signature
    by_name = {spec.name: spec for spec in signature.inputs}
    specs = [by_name.get(input_name) for input_name in signature.input_names]
    inputs = {spec.name: _sample(spec) for spec in specs if spec is not None}
    if signature.variadic or len(inputs) < len(specs) or any(sample is None for sample in inputs.values()):
        return 0
    for answered in range(calls):
        try:
            model.infer({key: sample for key, sample in inputs.items() if sample is not None})
        except Exception as error:
            log.info("model %r did not answer its warm-up: %s", name, error)
            return answered
    return calls


def _sample(spec: TensorSpec) -> NDArray[Any] | None:
    if spec.dtype is None or spec.shape is None:
        return None
    shape = tuple(d if isinstance(d, int) else 1 for d in spec.shape)
    if np.prod(shape, dtype=np.float64) > _ELEMENTS_MAX:
        return None
    sample = np.full(shape, b"", object) if spec.dtype.kind == "O" else np.zeros(shape, spec.dtype)
    sample.flags.writeable = False  # as a caller's are
    return sample
