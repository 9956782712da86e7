"""``echo``: answers its inputs. Needs no framework; for tests, benchmarks and for trying out a client."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from graphpipe.backends.backend import Backend
from graphpipe.backends.model import Model
from graphpipe.backends.options import LoadOptions
from graphpipe.errors import InvalidRequest
from graphpipe.signature import Signature, TensorSpec

__all__ = ["BACKEND", "Echo"]

_SIGNATURE = Signature(
    (TensorSpec("input", description="any number of tensors, any shape, any type", repeated=True),),
    (TensorSpec("output", description="the same tensors"),),
    variadic=True,
)


class Echo:
    """Gives each input back: all of them in order, or those asked for.

    An output that has no input's name is the input at the same place.
    """

    signature = _SIGNATURE
    version = "1"
    description = "answers its inputs"
    quick = True
    gives_inputs = True

    def infer(
        self, inputs: Mapping[str, NDArray[Any]], outputs: Sequence[str] | None = None, *, config: str = ""
    ) -> dict[str, NDArray[Any]]:
        """The inputs."""
        if not outputs:
            return dict(inputs)
        in_order = list(inputs.values())
        if len(outputs) > len(in_order) and any(name not in inputs for name in outputs[len(in_order) :]):
            raise InvalidRequest(f"{len(outputs)} outputs were asked for, but only {len(in_order)} inputs came to echo")
        return {name: inputs[name] if name in inputs else in_order[i] for i, name in enumerate(outputs)}

    def close(self) -> None:
        """Nothing to give back."""


def _open(source: str, options: LoadOptions) -> Model:
    return Echo()


BACKEND = Backend("echo", lambda source: source == "echo", _open, uses=lambda source: ())
