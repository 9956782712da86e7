"""How anything that holds numbers or text becomes an array, and an array a tensor of a framework; without a copy where
possible.

Arrays come from whatever offers one: ``__array__`` (PyTorch, TensorFlow, JAX, pandas, Arrow), ``__dlpack__``, Python's
buffer protocol (memoryview, array.array, ctypes), lists and numbers. What would be lost on the way is refused, not
lost: nulls and masks have no place in a tensor.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from graphpipe.arguments import a_kind
from graphpipe.errors import InvalidRequest
from graphpipe.nulls import missing_in
from graphpipe.ragged import ragged_in
from graphpipe.untyped import untyped_in

__all__ = ["OutputsAs", "array_of", "has_own_type", "outputs_as"]

Array = NDArray[Any]
OutputsAs = Literal["numpy", "torch"]


def array_of(value: object, what: str) -> Array:
    """``value`` as an array; a view of its memory wherever there is one that can be looked at from here.

    ``what`` names it in errors. Raises InvalidRequest for what is no array.
    """
    if type(value) is np.ndarray:
        return value if value.dtype.kind != "T" else _text(value, what)
    if hasattr(type(value), "collect_schema") and not hasattr(value, "get_columns"):
        raise InvalidRequest(
            f"{what} is no array: {a_kind(value)} came, which is yet to be computed; .collect() it first"
        )
    try:
        missing = missing_in(value)
    except ValueError as error:
        raise InvalidRequest(f"{what} is no array: {_reason(error)}") from None
    if missing:
        raise InvalidRequest(f"{what} has {missing}, which a tensor cannot have; fill them first")
    if hasattr(value, "detach") and hasattr(value, "cpu"):
        value = _on_cpu(value)
    if hasattr(value, "to_numpy_ndarray"):
        value = value.to_numpy_ndarray()  # Arrow's arrays of tensors
    try:
        if hasattr(value, "__dlpack__") and not hasattr(value, "__array__"):
            return np.from_dlpack(value)
        try:
            array = np.asarray(value)
        except UnicodeDecodeError:  # bytes that are no ASCII beside str
            array = np.asarray(value, object)
        if array.dtype.kind in "SU" and not isinstance(value, np.ndarray | np.generic):
            # numpy's own text types lose NULs at the end.
            array = np.asarray(value, object)
    except Exception as error:
        # Frameworks raise whatever they like; what they say is the reason.
        if ragged := ragged_in(value):
            raise InvalidRequest(
                f"{what} is no array but a ragged list: {ragged}; pad the rows to one length, or send each in a call of "
                "its own: a server that batches with --batch-pad pads and joins them"
            ) from None
        raise InvalidRequest(f"{what} is no array: {_reason(error)}{_hint(value)}") from error
    if array.dtype.kind == "O" and not isinstance(value, np.ndarray) and (said := untyped_in(array)):
        if not isinstance(value, list | tuple) and array.ndim:
            return array_of(array.tolist(), what)  # a column of Python's numbers, or of lists of them
        if array.ndim == 0 and array.item() is value and not isinstance(value, int):
            hint = ": .toarray() makes one of it" if hasattr(value, "toarray") else ""
            raise InvalidRequest(
                f"{what} is no array: {a_kind(value)} came; expected an array, a list or a number{hint}"
            )
        raise InvalidRequest(f"{what} {said}")
    return array if array.dtype.kind != "T" else _text(array, what)


def has_own_type(value: object) -> bool:
    """Whether ``value`` has an element type of its own; lists and numbers have none, and take the model's."""
    if isinstance(value, np.ndarray | np.generic) or hasattr(value, "__array__") or hasattr(value, "__dlpack__"):
        return True
    if isinstance(value, bytes | str | list | tuple | int | float | bool):
        return False
    try:
        memoryview(value)  # type: ignore[arg-type]
    except TypeError:
        return False
    return True


def outputs_as(outputs: dict[str, Array], form: OutputsAs) -> dict[str, Any]:
    """The outputs in the form that somebody asked for; tensors share the arrays' memory."""
    if form == "numpy":
        return outputs
    if form != "torch":
        raise ValueError(f"outputs_as is 'numpy' or 'torch'; {form!r} came")
    try:
        import torch
    except ModuleNotFoundError as error:
        raise ImportError("outputs_as='torch' needs PyTorch: pip install 'graphpipe-rpc[torch]'") from error

    for name, array in outputs.items():
        if array.dtype.kind not in "biuf":
            raise TypeError(f"output {name!r} is text, which PyTorch has no tensor for; take outputs_as='numpy'")
    # from_numpy takes any alignment and warns of memory that must not be written to: such an array is copied.
    return {
        name: torch.from_numpy(array if array.flags.writeable and array.flags.c_contiguous else array.copy())
        for name, array in outputs.items()
    }


def _text(array: Array, what: str) -> Array:
    """An array of numpy's StringDType as an object array of ``str``. Raises InvalidRequest if it has missing values."""
    null = getattr(array.dtype, "na_object", array)
    texts = array.astype(object)
    if null is not array and any(item is null for item in texts.flat):
        raise InvalidRequest(f"{what} has nulls, which a tensor cannot have; fill them first")
    return texts


def _on_cpu(tensor: Any) -> Any:
    """A PyTorch tensor where numpy can look at it: free where it is on the CPU already."""
    try:
        return tensor.detach().cpu()
    except Exception:
        return tensor


def _reason(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def _hint(value: object) -> str:
    name = str(getattr(value, "dtype", "")).rpartition(".")[2]
    if name == "bfloat16" or name.startswith("float8"):
        return f"; {name} has no type on the wire: send it as float32 (or float16)"
    return ""
