"""The form in which a caller wants the outputs of ``infer``: arrays, tensors of PyTorch, or a frame."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numpy.typing import NDArray

from graphpipe.arguments import flag
from graphpipe.arrays import OutputsAs, outputs_as
from graphpipe.errors import InvalidRequest
from graphpipe.frames import frame_of

__all__ = ["in_form"]


def in_form(form: OutputsAs, as_frame: bool, inputs: object) -> Callable[[dict[str, NDArray[Any]]], Any]:
    """What makes the form of a model's outputs; ``inputs`` are what a frame is like, if they are one.

    Raises InvalidRequest for what is asked for in two forms.
    """
    if not flag(as_frame, "as_frame"):
        return lambda outputs: outputs_as(outputs, form)
    if form != "numpy":
        raise InvalidRequest(f"as_frame=True and outputs_as={form!r} are two forms of the same outputs; choose one")
    return lambda outputs: frame_of(outputs, inputs)
