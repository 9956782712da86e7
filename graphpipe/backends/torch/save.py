"""``save``: a module as a file that knows its own inputs and outputs, and was tried before it was written."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from graphpipe.backends.options import LoadOptions
from graphpipe.backends.sidecar import INSIDE, Sidecar
from graphpipe.backends.torch.exported import specs_of
from graphpipe.backends.torch.runtime import fill_outputs, runtime
from graphpipe.errors import LoadError
from graphpipe.signature import Dim, TensorSpec
from graphpipe.wire.dtypes import Type, type_of

__all__ = ["save"]


def save(
    module: Any,
    path: str | Path,
    example_inputs: Mapping[str, Any] | Sequence[Any],
    *,
    output_names: Sequence[str] | None = None,
    dynamic: Mapping[str, Mapping[int, str]] | None = None,
    description: str = "",
) -> None:
    """Write a module as TorchScript (``.pt``, by tracing) or as an exported program (``.pt2``), with its signature
    inside.

    ``example_inputs`` are tensors or arrays, by the names of forward's parameters or in their order. ``dynamic``
    names the axes that may have any size: ``{"ids": {0: "n", 1: "length"}}``; axes with the same name have the same
    size. Without it axis 0 of every input is ``n``; ``{}`` fixes all sizes.

    The program is run on the example, and on one that is larger along all dynamic axes. ValueError says where it does
    not give what the module gives: tracing fixes sizes that the module computes with, and decisions that it makes.
    """
    path = Path(path)
    if path.suffix not in (".pt", ".pt2"):
        raise ValueError(f"{path}: expected a path that ends in .pt or .pt2")
    torch = runtime(path, LoadOptions())
    module = module.eval()
    inputs = _inputs(torch, module, example_inputs)
    if dynamic is None:
        dynamic = {name: {0: "n"} for name, tensor in inputs.items() if tensor.ndim}
    larger = _larger(torch, inputs, dynamic)
    with torch.no_grad(), warnings.catch_warnings():
        # What matters of a tracer's many warnings is tried below.
        warnings.simplefilter("ignore")
        if path.suffix == ".pt2":
            program = _exported(torch, module, larger, dynamic)
            call = program.module()
        else:
            program = torch.jit.trace(module, example_kwarg_inputs=inputs, strict=False, check_trace=False)
            call = program
        names = tuple(output_names or ())
        small, large = (_tried(torch, module, call, example, names) for example in (inputs, larger))
        sidecar = Sidecar(
            tuple(_spec(torch, name, tensor, larger[name], dynamic.get(name, {})) for name, tensor in inputs.items()),
            tuple(_output_spec(torch, name, small[name], large[name], inputs, larger, dynamic) for name in small),
            description,
            frozenset(name for name, tensor in {**inputs, **small}.items() if tensor.dtype == torch.bfloat16),
        )
        if path.suffix == ".pt2":
            specs_of(torch, program, path)
            torch.export.save(program, str(path), extra_files={INSIDE: str(sidecar)})
        else:
            torch.jit.save(program, str(path), {INSIDE: str(sidecar)})


def _inputs(torch: Any, module: Any, given: Mapping[str, Any] | Sequence[Any]) -> dict[str, Any]:
    names = list(inspect.signature(module.forward).parameters)
    if isinstance(given, Mapping):
        unknown = [name for name in given if name not in names]
        if unknown:
            raise ValueError(f"forward has no parameter {unknown[0]!r}; it has {', '.join(names)}")
        by_name = {name: given[name] for name in names if name in given}
    else:
        values = list(given) if isinstance(given, tuple | list) else [given]
        by_name = dict(zip(names, values, strict=False))
    return {name: torch.as_tensor(value) for name, value in by_name.items()}


def _larger(torch: Any, inputs: Mapping[str, Any], dynamic: Mapping[str, Mapping[int, str]]) -> dict[str, Any]:
    """The example with each dynamic axis made longer, by 1 for the first name, by 2 for the second: no two alike."""
    symbols = list(dict.fromkeys(symbol for axes in dynamic.values() for symbol in axes.values()))
    larger = dict(inputs)
    for name, axes in dynamic.items():
        for axis, symbol in axes.items():
            tensor = larger[name]
            first = tensor.narrow(axis, 0, 1)
            larger[name] = torch.cat([tensor, *[first] * (symbols.index(symbol) + 1)], axis)
    return larger


def _exported(torch: Any, module: Any, example: Mapping[str, Any], dynamic: Mapping[str, Mapping[int, str]]) -> Any:
    # Which sizes are possible, up to the longest text a model knows say, is for torch to find out.
    shapes = {name: dict.fromkeys(dynamic.get(name, ()), torch.export.Dim.DYNAMIC) for name in example}
    try:
        return torch.export.export(module, tuple(example.values()), dynamic_shapes=shapes)
    except Exception as error:
        raise ValueError(
            f"torch.export cannot export {type(module).__name__} with these dynamic axes: {error}"
        ) from error


def _tried(torch: Any, module: Any, call: Any, example: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """The program's outputs, which are those of the module."""
    want, _ = fill_outputs(torch, module(**{name: tensor.clone() for name, tensor in example.items()}), names)
    sizes = ", ".join(f"{name} {list(tensor.shape)}" for name, tensor in example.items())
    try:
        got, _ = fill_outputs(torch, call(*[tensor.clone() for tensor in example.values()]), names)
    except Exception as error:
        raise ValueError(
            f"the program fails on {sizes}: a size is fixed in it. Leave that axis out of `dynamic`. ({error})"
        ) from error
    for name, tensor in want.items():
        if got[name].shape != tensor.shape or not torch.allclose(
            got[name].double(), tensor.double(), rtol=1e-3, atol=1e-4, equal_nan=True
        ):
            raise ValueError(
                f"on {sizes} the program's {name!r} is not the module's: something in it was fixed when it was traced. "
                "Leave that axis out of `dynamic`, or export to .pt2"
            )
    return got


def _spec(torch: Any, name: str, tensor: Any, larger: Any, axes: Mapping[int, str]) -> TensorSpec:
    dtype = (
        np.dtype("float32") if tensor.dtype == torch.bfloat16 else np.dtype(str(tensor.dtype).removeprefix("torch."))
    )
    if type_of(dtype) is Type.NULL:
        raise LoadError(f"{name!r} is {tensor.dtype}, which has no type on the wire")
    return TensorSpec(name, dtype, tuple(axes.get(axis, size) for axis, size in enumerate(tensor.shape)))


def _output_spec(
    torch: Any,
    name: str,
    small: Any,
    large: Any,
    inputs: Mapping[str, Any],
    larger: Mapping[str, Any],
    dynamic: Mapping[str, Mapping[int, str]],
) -> TensorSpec:
    """An axis that grew with a symbol's sizes has that symbol; one that grew otherwise is open."""
    sizes = {
        (inputs[key].shape[axis], larger[key].shape[axis]): symbol
        for key, axes in dynamic.items()
        for axis, symbol in axes.items()
    }
    dims: list[Dim] = [
        size if size == grown else sizes.get((size, grown))
        for size, grown in zip(small.shape, large.shape, strict=True)
    ]
    return replace(_spec(torch, name, small, large, {}), shape=tuple(dims))
