"""PyTorch itself: how it is imported and set up, and how arrays become its tensors and come back.

On a CPU neither way copies, whatever the alignment. A tensor made of an array is writable whatever the array says, so
an input that a program writes into (which its graph tells; of a module as it is nobody knows) is copied for it first.
A result is given away as it is if this call made it and nobody else has it: not a buffer, a parameter, a tensor that
the program keeps, an input, or a view of one of these. Those are copied.
"""

from __future__ import annotations

import re
import sys
import warnings
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from graphpipe.backends.framework import framework, keep_triton_out, versions, words_of
from graphpipe.backends.options import LoadOptions
from graphpipe.backends.owned import SURE_ABOVE_BYTES
from graphpipe.errors import InvalidRequest, LoadError
from graphpipe.signature import Signature
from graphpipe.wire.dtypes import Type, dtype_name, type_of
from graphpipe.words import counted, first_line, listed, quoted

__all__ = ["Placement", "TorchModel", "dtype_of", "fill_outputs", "runtime"]

Array = NDArray[Any]

# What PyTorch's errors look like where a value is none that the program knows: nobody but the caller chose it.
_VALUE = re.compile(
    r"out of range|out of bounds|not in the valid range"
    r"|Guard failed|must be (?:within|in range|in the interval|smaller than|non-negative)"
    r"|Expected p_in >= 0|input is not positive.definite|input matrix is singular",
    re.IGNORECASE,
)
# And where sizes or types do not fit each other: the caller's fault where the signature leaves them open.
_MISFIT = re.compile(
    r"size of tensor|sizes? of tensors|must match|shapes? cannot be multiplied|shape '.*' is invalid|size mismatch|"
    r"invalid for input of size|expected scalar type|should be the same|expected .*(?:channels|dimension|\dD)|"
    r"not implemented for|same (?:dtype|number of dimensions)|split_with_sizes|expand|condition to be a boolean|"
    r"following scalar types|size can't be greater than|(?:doesn't|does not|don't) match|"
    r"inconsistent tensor size|can't be cast|only supports? (?:boolean|bool)|tensors used as indices must be",
    re.IGNORECASE,
)
# Which of them are an index into a table: an embedding's, most of the time.
_INDEX = re.compile(r"index (?:-?\d+ )?(?:is )?out of (?:range|bounds)|not in the valid range", re.IGNORECASE)
# And which are about types alone, which no trace has to do with.
_TYPE = re.compile(
    r"expected scalar type|following scalar types|not implemented for|same dtype|condition to be a boolean|can't be cast|"
    r"only supports? (?:boolean|bool)|tensors used as indices must be",
    re.IGNORECASE,
)
# And where it wants gradients and runs without.
_NO_GRADIENTS = re.compile(r"does not require grad|does not have a grad_fn|outside of? (?:inference|no_grad)")
_GUARD = re.compile(r"Guard failed: (\w+)\.size\(\)\[(\d+)\] (<=|>=|==|<|>) (\d+)\s*$", re.MULTILINE)
_BOUND = {"<=": "at most", ">=": "at least", "==": "exactly", "<": "less than", ">": "more than"}


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
    it wants as bfloat16. ``differentiates`` says that it needs gradients while it runs, as few programs do.
    """

    shares_memory: ClassVar[bool] = False

    signature: Signature
    call: Callable[[Mapping[str, Any]], Any]
    placement: Placement
    version: str = ""
    description: str = ""
    kind: str = "PyTorch module"
    written: frozenset[str] = frozenset()
    bfloat16: frozenset[str] = frozenset()
    differentiates: bool = False
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
        special = place.bfloat16 or place.channels_last or self.bfloat16
        self._plain = place.on_cpu and not special
        # Where a type or a size is left open, nobody has checked it yet.
        self._vague = any(
            spec.dtype is None or spec.shape is None or any(not isinstance(dim, int) for dim in spec.shape)
            for spec in self.signature.inputs
        )

    def infer(
        self, inputs: Mapping[str, Array], outputs: Sequence[str] | None = None, *, config: str = ""
    ) -> dict[str, Array]:
        """Run the program once."""
        torch = self.placement.torch
        # Not inference_mode, in which a program that asks for gradients itself gets zeros, or an error.
        with torch.enable_grad() if self.differentiates else torch.no_grad():
            try:
                if self._plain and self.written:
                    # Half the price of a tensor's clone, where they are small.
                    tensors = {
                        name: torch.from_numpy(array.copy() if name in self.written else array)
                        for name, array in inputs.items()
                    }
                elif self._plain:
                    tensors = {name: torch.from_numpy(array) for name, array in inputs.items()}
                else:
                    tensors = {name: self._tensor(name, array) for name, array in inputs.items()}
            except TypeError:
                raise InvalidRequest(_not_numbers(inputs)) from None
            try:
                result = self.call(tensors)
            except (RuntimeError, AssertionError, IndexError, ValueError, TypeError) as error:
                words = str(error)
                if _VALUE.search(words) or (self._vague and _MISFIT.search(words)):
                    raise InvalidRequest(_misfit(inputs, error)) from error
                if self.differentiates or not _NO_GRADIENTS.search(words):
                    raise
                self.differentiates = True
            else:
                found, others = fill_outputs(torch, result, self._names)
                # What holds a result from here on is the program itself.
                del result, tensors
                return self._results(found, others, outputs)
        # It asks for gradients, and nothing of it said so beforehand.
        return self.infer(inputs, outputs, config=config)

    def _results(
        self, found: Mapping[str, Any], others: Mapping[str, str], outputs: Sequence[str] | None
    ) -> dict[str, Array]:
        wanted = outputs or self.signature.output_names
        for name in wanted:
            if name not in found:
                if name in others:
                    raise InvalidRequest(f"output {name!r} is a {others[name]}, which has no type on the wire")
                raise InvalidRequest(f"there is no output {quoted(name)}; the model gave {listed(list(found))}")
        if not wanted:
            wanted = tuple(name for name, tensor in found.items() if self._travels(tensor))
        return {name: self._own(found, name) for name in wanted}

    def close(self) -> None:
        """Let go of the program."""
        self.call = _closed

    def _tensor(self, name: str, array: Array) -> Any:
        torch, place = self.placement.torch, self.placement
        tensor = borrowed = torch.from_numpy(array)
        if not place.on_cpu:
            tensor = tensor.to(place.device)
        if name in self.bfloat16 or (place.bfloat16 and tensor.dtype == torch.float32):
            tensor = tensor.to(torch.bfloat16)
        if place.channels_last and tensor.ndim == 4:
            tensor = tensor.contiguous(memory_format=torch.channels_last)
        return tensor.clone() if tensor is borrowed and name in self.written else tensor

    def _own(self, found: Mapping[str, Any], name: str) -> Array:
        torch, tensor = self.placement.torch, found[name]
        strided = tensor.layout == torch.strided
        if strided and tensor.numel() * tensor.element_size() <= SURE_ABOVE_BYTES:
            return self._array(name, tensor).copy()
        # What comes from another device, or from another type, is copied on the way.
        sure = tensor.device.type != "cpu" or tensor.dtype == torch.bfloat16
        del tensor
        if not sure and strided:
            # Asked before there is an array, which holds the tensor too.
            alone = _alone(torch)
            sure = bool(alone) and _holders(torch, found, name) == alone
        array = self._array(name, found[name])
        return array if sure and array.flags.forc else array.copy()

    def _array(self, name: str, tensor: Any) -> Array:
        torch = self.placement.torch
        if tensor.dtype == torch.bfloat16:
            tensor = tensor.float()
        if not self.placement.on_cpu:
            tensor = tensor.cpu()
        if not self._travels(tensor):
            raise InvalidRequest(f"output {name!r} is {tensor.dtype}, which has no type on the wire")
        try:
            return tensor.numpy()  # type: ignore[no-any-return]
        except (TypeError, RuntimeError):
            # A lazily negated or conjugated view, a sparse layout, a tensor that still wants gradients.
            return tensor.detach().resolve_conj().resolve_neg().to_dense().numpy()  # type: ignore[no-any-return]

    def _travels(self, tensor: Any) -> bool:
        return tensor.dtype == self.placement.torch.bfloat16 or dtype_of(tensor.dtype) is not None


def _closed(tensors: Mapping[str, Any]) -> Any:
    raise RuntimeError("the model is closed")


def _holders(torch: Any, found: Mapping[str, Any], name: str) -> tuple[Any, ...]:
    """Who has a tensor, and the memory behind it: from Python, from C++, through other tensors, other than PyTorch."""
    tensor = found[name]
    storage = tensor.untyped_storage()
    return (
        sys.getrefcount(tensor),
        weakref.getweakrefcount(tensor),
        tensor._use_count(),
        torch._C._storage_Use_Count(storage._cdata),
        # Memory of an array, a file or another framework cannot grow.
        storage.resizable(),
        storage.is_shared(),
    )


@cache
def _alone(torch: Any) -> tuple[Any, ...]:
    """What is said of a tensor that nobody else has. Raises nothing: where that cannot be told, nothing is alone."""
    try:
        with torch.no_grad():
            fresh = {"": torch.ones(2) + 1}
            alone = _holders(torch, fresh, "")
            kept, array = fresh[""], np.zeros(2)
            others = ({"": kept}, {"": kept[:1]}, {"": kept.detach()}, {"": torch.from_numpy(array)})
            told = all(_holders(torch, each, "") != alone for each in others)
    except Exception:
        told = False
    return alone if told else ()


@cache
def dtype_of(torch_dtype: Any) -> np.dtype[Any] | None:
    """The element type that travels for a tensor's; None if there is none. bfloat16 travels as float32."""
    text = str(torch_dtype).removeprefix("torch.")
    try:
        dtype = np.dtype("float32" if text == "bfloat16" else text)
    except TypeError:
        return None
    return None if type_of(dtype) is Type.NULL else dtype


def fill_outputs(torch: Any, result: Any, names: Sequence[str]) -> tuple[dict[str, Any], dict[str, str]]:
    """A program's result as tensors by name: its own names where they are the declared ones, else the declared in
    order. And what else it gave, by name: the kinds of things that are no tensors.
    """
    if isinstance(result, torch.Tensor):
        return {names[0] if names else "output_0": result}, {}
    others: dict[str, str] = {}
    found = list(_tensors(torch, result, "", others))
    own = [name for name, _ in found]
    if names and not set(names) <= {*own, *others}:
        if len(names) > len(found):
            gave, declared = counted(len(found), "tensor"), counted(len(names), "declared output")
            raise ValueError(f"the program gave {gave}, where there are to be {declared}")
        own = [*names, *own[len(names) :]]
    return dict(zip(own, (tensor for _, tensor in found), strict=True)), others


def _tensors(torch: Any, value: Any, name: str, others: dict[str, str]) -> Iterator[tuple[str, Any]]:
    """Every tensor in a result, with the name that its place in it gives: a key, a field, a number."""
    if value is None:
        return
    if isinstance(value, torch.Tensor):
        yield name or "output_0", value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _tensors(torch, item, f"{name}_{key}" if name else str(key), others)
    elif hasattr(value, "_fields"):
        for key in value._fields:
            yield from _tensors(torch, getattr(value, key), f"{name}_{key}" if name else key, others)
    elif isinstance(value, tuple | list):
        for i, item in enumerate(value):
            yield from _tensors(torch, item, f"{name or 'output'}_{i}", others)
    elif isinstance(value, bool | int | float | np.ndarray | np.generic):
        yield name or "output_0", torch.as_tensor(value)
    else:  # a cache of keys and values, a text: in nobody's way who does not ask for it
        others[name or "output_0"] = type(value).__name__


def _misfit(inputs: Mapping[str, Array], error: BaseException) -> str:
    guard = _GUARD.search(str(error))
    if guard is not None and guard[1] in inputs and int(guard[2]) < inputs[guard[1]].ndim:
        name, axis, bound, size = guard[1], int(guard[2]), _BOUND[guard[3]], guard[4]
        came = inputs[name].shape[axis]
        if axis == 0:
            return f"input {name!r} has {counted(came, 'row')}; the model takes {bound} {counted(int(size), 'row')}"
        return f"input {name!r} has {came} along axis {axis}; the model takes {bound} {size} along axis {axis}"
    # Of a program's failure PyTorch tells the whole way; the last line says what it was.
    last = next((line for line in reversed(str(error).splitlines()) if line.strip()), "")
    came, said = _came(inputs), f"PyTorch says: {words_of(Exception(last))}"
    if _INDEX.search(last):
        return f"an index in these inputs, a token's number say, is beyond what the model has: {came}; {said}"
    if _VALUE.search(str(error)):
        return f"the model refuses a value of these inputs: {came}; {said}"
    if _TYPE.search(last):
        return f"the model cannot take inputs of these types: {came}; {said}"
    return (
        f"the model cannot take inputs of these types and shapes, or of such values: {came}; a trace takes the "
        "sizes and types that it was made with: send these, or have the server fill up shorter inputs "
        f"(--pad NAME:AXIS:VALUE); {said}"
    )


def _not_numbers(inputs: Mapping[str, Array]) -> str:
    texts = [name for name, array in inputs.items() if array.dtype.kind not in "biuf"]
    return f"PyTorch takes numbers; {', '.join(map(repr, texts))} came as another type: {_came(inputs)}"


def _came(inputs: Mapping[str, Array]) -> str:
    return ", ".join(f"{name!r} {dtype_name(array.dtype)} {list(array.shape)}" for name, array in inputs.items())
