"""The one idea of this package: whatever answers an inference is a Model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from graphpipe.arrays import array_of
from graphpipe.backends.owned import own, read_only, refuse_to_write
from graphpipe.errors import ServiceError
from graphpipe.signature import Signature
from graphpipe.timed import Call, timed

__all__ = ["Model", "named_arrays", "owned", "timed"]

Array = NDArray[Any]


@runtime_checkable
class Model(Protocol):
    """Named arrays in, named arrays out; safe to call from several threads at once.

    A model may also have ``version`` (a digest of what it was made from: equal versions give equal answers),
    ``description``, ``quick = True`` if it needs so little time that a server may run it on its event loop, and
    ``threads``, how many calls it makes sense to run at once where that is not the number of CPUs (it waits more than
    it works, or it allows only one). ``runtime`` is what computes its answers, with its version: "onnxruntime 1.23", and
    ``kind`` what it is, for people: "ONNX". ``signature_name`` and ``method_name`` are TensorFlow's words for what it was
    loaded as.

    ``shares_memory = False`` says that it writes to no input, and gives only arrays that may be written to and that
    nobody else holds; others are shown their inputs read-only, and what they give is looked at (owned.py).
    ``keeps_deadlines = True`` says that no call of it lasts longer than its ``timeout_s``.
    ``shares_segments = True`` says that inputs in shared memory (``memory/``) are taken where they are, and ``numbers``
    gives what it counts itself, by the names of metrics.
    ``gives_inputs = True`` says that all it does is to give inputs back as they are.

    A ``self_test`` is a method without arguments that raises where the model's answers are not what they should be: a
    server calls it before it lets anybody ask.

    An ``infer`` that declares ``timeout_s`` is told how many seconds its caller will still wait (None: nobody said).
    Only a model that can pass this on, or stop in time, has a use for it.
    """

    @property
    def signature(self) -> Signature:
        """What it takes and gives."""
        ...

    def infer(
        self, inputs: Mapping[str, Array], outputs: Sequence[str] | None = None, *, config: str = ""
    ) -> dict[str, Array]:
        """Run once and give the ``outputs`` asked for (None: the defaults) by name.

        ``inputs`` have been checked against the signature, are C-contiguous and little-endian, may be read-only and may
        start at any address; strings are object arrays of bytes. ``config`` is whatever the caller sent, opaque to all
        but the model.
        """
        ...

    def close(self) -> None:
        """Give back what it holds. It is not called again afterwards."""
        ...


def named_arrays(outputs: Any, wanted: Sequence[str]) -> dict[str, Array]:
    """What a model gave, as arrays by name, those that were ``wanted`` among them.

    Raises something if it is not that: whoever wrote the model may have given anything.
    """
    if type(outputs) is dict:
        # Each request passes here: 0.15 us.
        ndarray, get = np.ndarray, outputs.get
        for name in wanted:
            if type(get(name)) is not ndarray:
                break
        else:
            if wanted:
                return outputs
            for name in outputs:
                if type(name) is not str or type(get(name)) is not ndarray:
                    break
            else:
                return outputs
    if not isinstance(outputs, Mapping):
        raise TypeError(f"the model gave a {type(outputs).__name__} where arrays by name were expected")
    for name in wanted:
        if name not in outputs:
            raise ValueError(f"the model gave {', '.join(map(repr, outputs))}, but not {name!r}")
    return {name: _array(outputs[name], name) for name in wanted or outputs}


def _array(value: object, name: object) -> Array:
    if type(name) is not str:
        raise TypeError(f"the model gave an output whose name is a {type(name).__name__}")
    try:
        return np.asarray(array_of(value, f"output {name!r}"))
    except ServiceError as error:  # it is not the caller's
        raise ValueError(error.message) from None


def owned(model: Model, *, inputs_are_ours: bool) -> Call:
    """The same, and whatever the model does: inputs are left as they were, and outputs are nobody else's.

    ``inputs_are_ours`` says that nobody will write to the inputs or use their memory again.
    """
    infer = timed(model)
    if not getattr(model, "shares_memory", True) or (inputs_are_ours and getattr(model, "gives_inputs", False)):
        return infer

    def call(
        inputs: Mapping[str, Array], outputs: Sequence[str] | None, config: str, left_s: float | None
    ) -> dict[str, Array]:
        inputs = read_only(inputs)
        try:
            # Passed on right away: a name for the results would be one who holds them.
            return own(infer(inputs, outputs, config, left_s), inputs, inputs_are_ours=inputs_are_ours)
        except ValueError as error:
            refuse_to_write(error)
            raise

    return call
