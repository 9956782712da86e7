"""PyTorch itself: how it is imported and set up, and how arrays become its tensors and come back.

On a CPU neither way copies, whatever the alignment. A tensor made of an array is writable whatever the array says, so
an input that a program writes into (which its graph tells) is copied for it first.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphpipe.backends.framework import first_line, framework, keep_triton_out, versions
from graphpipe.backends.load import LoadOptions
from graphpipe.errors import InvalidRequest, LoadError
from graphpipe.signature import Signature
from graphpipe.wire.dtypes import Type, dtype_name, type_of

__all__ = ["Placement", "TorchModel", "fill_outputs", "runtime"]

Array = NDArray[Any]

# What PyTorch's errors look like where sizes or types do not fit each other.
_MISFIT = re.compile(
    r"size of tensor|sizes? of tensors|must match|shapes? cannot be multiplied|shape '.*' is invalid|size mismatch|"
    r"invalid for input of size|expected scalar type|should be the same|expected .*(?:channels|dimension|\dD)|"
    r"Guard failed|out of range|not implemented for|same (?:dtype|number of dimensions)|split_with_sizes|expand",
    re.IGNORECASE,
)


def runtime(source: str | Path, options: LoadOptions) -> Any:
    """The torch module, imported now if it was not yet. Raises LoadError."""
    keep_triton_out()
    torch = framework("torch", str(source), extra="torch")
    with warnings.catch_warnings():
        # It is said once in a process, of the first read-only array. Requests are read-only; nothing here writes to
        # them.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        read_only = np.zeros(1)
        read_only.flags.writeable = False
        torch.from_numpy(read_only)
    if options.intra_threads:
        torch.set_num_threads(options.intra_threads)
    for library in options.custom_ops:
        try:
            torch.ops.load_library(library)
        except Exception as error:
            raise LoadError(f"{library}: PyTorch cannot load these operators: {first_line(error)}") from error
    return torch


@dataclass(frozen=True)
class Placement:
    """Where and how a program runs: its device, and in which form weights and images are kept."""

    torch: Any
    device: Any
    on_cpu: bool
    bfloat16: bool
    channels_last: bool

    @classmethod
    def of(cls, torch: Any, source: str | Path, options: LoadOptions) -> Placement:
        """What the options ask for. Raises LoadError if there is no such device."""
        name = options.device.lower().replace("gpu", "cuda") or "cpu"
        there = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
        if (name if ":" in name or name == "cpu" else f"{name}:0") not in there:
            raise LoadError(f"{source}: PyTorch has no device {options.device!r} here; it has {', '.join(there)}")
        return cls(torch, torch.device(name), name == "cpu", options.bfloat16, options.channels_last)

    def place(self, module: Any, source: str | Path) -> Any:
        """The module, there and in that form. Raises LoadError."""
        torch = self.torch
        try:
            module = module.to(self.device)
            if self.bfloat16:
                module = module.to(torch.bfloat16)
            if self.channels_last:
                module = module.to(memory_format=torch.channels_last)
        except Exception as error:
            raise LoadError(f"{source}: PyTorch cannot place it on {self.device}: {first_line(error)}") from error
        return module


@dataclass(slots=True)
class TorchModel:
    """A PyTorch program with names. Safe in threads; the GIL is free while it works.

    ``call`` takes tensors by input name. ``written`` are inputs that the program writes into, ``bfloat16`` those that
    it wants as bfloat16.
    """

    signature: Signature
    call: Callable[[Mapping[str, Any]], Any]
    placement: Placement
    version: str = ""
    description: str = ""
    written: frozenset[str] = frozenset()
    bfloat16: frozenset[str] = frozenset()
    function: Any = None  # the Python object that it is, if it is one
    _names: tuple[str, ...] = field(init=False, default=())
    _plain: bool = field(init=False, default=False)
    _vague: bool = field(init=False, default=False)

    @property
    def runtime(self) -> str:
        """PyTorch, with its version."""
        return versions("torch")

    def __post_init__(self) -> None:
        place = self.placement
        self._names = tuple(spec.name for spec in self.signature.outputs)
        special = place.bfloat16 or place.channels_last or self.written or self.bfloat16
        self._plain = place.on_cpu and not special
        # Where a type or a size is left open, nobody has checked it yet. Rows are rarely what does not fit.
        self._vague = any(
            spec.dtype is None or spec.shape is None or any(not isinstance(dim, int) for dim in spec.shape[1:])
            for spec in self.signature.inputs
        )

    def infer(
        self, inputs: Mapping[str, Array], outputs: Sequence[str] | None = None, *, config: str = ""
    ) -> dict[str, Array]:
        """Run the program once."""
        torch = self.placement.torch
        with torch.inference_mode():
            if self._plain:
                tensors = {name: torch.from_numpy(array) for name, array in inputs.items()}
            else:
                tensors = {name: self._tensor(name, array) for name, array in inputs.items()}
            try:
                result = self.call(tensors)
            except (RuntimeError, AssertionError, IndexError, ValueError, TypeError) as error:
                if self._vague and _MISFIT.search(str(error)):
                    raise InvalidRequest(_misfit(inputs)) from error
                raise
            found = fill_outputs(torch, result, self._names)
            wanted = outputs or self.signature.output_names or tuple(found)
            for name in wanted:
                if name not in found:
                    raise InvalidRequest(f"there is no output {name!r}; the model gave {', '.join(map(repr, found))}")
            return {name: self._array(name, found[name]) for name in wanted}

    def close(self) -> None:
        """Let go of the program."""
        self.call = _closed

    def _tensor(self, name: str, array: Array) -> Any:
        torch, place = self.placement.torch, self.placement
        tensor = torch.from_numpy(array)
        if not place.on_cpu:
            tensor = tensor.to(place.device)
        elif name in self.written:
            tensor = tensor.clone()
        if name in self.bfloat16 or (place.bfloat16 and tensor.dtype == torch.float32):
            tensor = tensor.to(torch.bfloat16)
        if place.channels_last and tensor.ndim == 4:
            tensor = tensor.contiguous(memory_format=torch.channels_last)
        return tensor

    def _array(self, name: str, tensor: Any) -> Array:
        torch = self.placement.torch
        if tensor.dtype == torch.bfloat16:
            tensor = tensor.float()
        if not self.placement.on_cpu:
            tensor = tensor.cpu()
        try:
            array: Array = tensor.numpy()
        except (TypeError, RuntimeError):
            # A lazily negated or conjugated view, a sparse layout, a tensor that still wants gradients.
            array = tensor.detach().resolve_conj().resolve_neg().to_dense().numpy()
        if type_of(array.dtype) is Type.NULL:
            raise InvalidRequest(f"output {name!r} is {tensor.dtype}, which has no type on the wire")
        return array


def _closed(tensors: Mapping[str, Any]) -> Any:
    raise RuntimeError("the model is closed")


def fill_outputs(torch: Any, result: Any, names: Sequence[str]) -> dict[str, Any]:
    """A program's result as tensors by name: its own names where they are the declared ones, else the declared in
    order.
    """
    if isinstance(result, torch.Tensor):
        return {names[0] if names else "output_0": result}
    found = list(_tensors(torch, result, ""))
    own = [name for name, _ in found]
    if names and not set(names) <= set(own):
        if len(names) > len(found):
            raise ValueError(f"the program gave {len(found)} tensors, but {len(names)} outputs are declared")
        own = [*names, *own[len(names) :]]
    return dict(zip(own, (tensor for _, tensor in found), strict=True))


def _tensors(torch: Any, value: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Every tensor in a result, with the name that its place in it gives: a key, a field, a number."""
    if value is None:
        return
    if isinstance(value, torch.Tensor):
        yield name or "output_0", value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _tensors(torch, item, f"{name}_{key}" if name else str(key))
    elif hasattr(value, "_fields"):
        for key in value._fields:
            yield from _tensors(torch, getattr(value, key), f"{name}_{key}" if name else key)
    elif isinstance(value, tuple | list):
        for i, item in enumerate(value):
            yield from _tensors(torch, item, f"{name or 'output'}_{i}")
    else:
        yield name or "output_0", torch.as_tensor(value)


def _misfit(inputs: Mapping[str, Array]) -> str:
    came = ", ".join(f"{name!r} {dtype_name(array.dtype)} {list(array.shape)}" for name, array in inputs.items())
    return (
        f"the model cannot take inputs of these types and shapes, or of such values: {came}; a trace takes the sizes and "
        "types that it was made with: send these, or have the server fill up shorter inputs (--pad NAME:AXIS:VALUE)"
    )
