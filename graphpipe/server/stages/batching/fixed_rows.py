"""A model that was made for one number of rows, shown as one that takes any.

Compiled models often have a fixed first dimension. Where a user names it (``--batch-sizes 8``), the batcher cuts and
fills what comes in to that size, and callers need not know of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from numpy.typing import NDArray

from graphpipe.backends.model import Model, timed
from graphpipe.signature import Signature, TensorSpec

__all__ = ["AnyRows", "fixed_rows", "takes_fixed_rows"]

_ROWS = "rows"


def fixed_rows(signature: Signature) -> int:
    """The number of rows that all inputs and outputs are fixed to; 0 if they are not."""
    firsts = {spec.shape[0] if spec.shape else None for spec in (*signature.inputs, *signature.outputs)}
    first = firsts.pop() if len(firsts) == 1 else None
    return first if isinstance(first, int) else 0


def takes_fixed_rows(signature: Signature) -> bool:
    """Whether some rows of a request cannot be asked for without the others."""
    return any(spec.shape and isinstance(spec.shape[0], int) and spec.shape[0] > 1 for spec in signature.inputs)


class AnyRows:
    """A model with the same answers, and a signature that leaves the number of rows open."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._run = timed(model)
        shown = model.signature
        self._signature = replace(
            shown,
            inputs=tuple(map(_open, shown.inputs)),
            outputs=tuple(map(_open, shown.outputs)),
        )

    @property
    def signature(self) -> Signature:
        """What it takes and gives, for any number of rows."""
        return self._signature

    def infer(
        self,
        inputs: Mapping[str, NDArray[Any]],
        outputs: Sequence[str] | None = None,
        *,
        config: str = "",
        timeout_s: float | None = None,
    ) -> dict[str, NDArray[Any]]:
        """Run once, on the one number of rows that the model knows."""
        return self._run(inputs, outputs, config, timeout_s)

    def close(self) -> None:
        """Close the model."""
        self._model.close()

    def __getattr__(self, name: str) -> Any:
        # version, description and whatever else a model may have.
        return getattr(self._model, name)


def _open(spec: TensorSpec) -> TensorSpec:
    return replace(spec, shape=(_ROWS, *(spec.shape or ())[1:]))
