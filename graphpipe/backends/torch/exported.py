"""Exported programs (.pt2): torch.export's format, which keeps names, types and symbolic shapes."""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from graphpipe.backends.model import Model
from graphpipe.backends.options import LoadOptions
from graphpipe.backends.sidecar import INSIDE, Sidecar, beside
from graphpipe.backends.torch.archive import without_code
from graphpipe.backends.torch.runtime import Placement, TorchModel, dtype_of, fill_outputs, runtime
from graphpipe.errors import LoadError
from graphpipe.signature import Dim, Signature, TensorSpec
from graphpipe.sources.digest import digest_of
from graphpipe.words import counted, first_line

__all__ = ["open_file", "specs_of"]

_SYMBOLS = "nmkl"


def open_file(path: Path, options: LoadOptions) -> Model:
    """The model in a .pt2 file. Raises LoadError."""
    torch = runtime(path, options)
    placement = Placement.of(torch, path, options)
    if options.bfloat16 or options.channels_last:
        raise LoadError(
            f"{path}: an exported program keeps the form it was exported in; export it in that form instead"
        )
    inside: dict[str, Any] = {INSIDE: ""}
    try:
        with nullcontext(path) if options.trust_model else without_code(torch, path) as safe:
            program = torch.export.load(str(safe), extra_files=inside)
        if not placement.on_cpu:
            program = torch.export.passes.move_to_device_pass(program, placement.device)
        module = program.module()
    except LoadError:
        raise
    except pickle.UnpicklingError as error:
        raise LoadError(
            f"{path}: its weights or constants are pickled Python objects, which are not loaded: they can run any code; "
            "if it is yours: --trust-model"
        ) from error
    except Exception as error:
        raise LoadError(f"{path}: PyTorch cannot load it: {first_line(error)}") from error
    outside = beside(path)
    if outside.is_file():
        sidecar = Sidecar.read(outside.read_bytes(), outside)
    else:
        sidecar = Sidecar.read(inside[INSIDE] or "{}", f"{path}/{INSIDE}")
    own_inputs, own_outputs, bfloat16 = specs_of(torch, program, path, options.outputs or ())
    inputs = sidecar.inputs if sidecar.inputs is not None else own_inputs
    outputs = sidecar.outputs if sidecar.outputs is not None else own_outputs
    if len(inputs) != len(own_inputs):
        raise LoadError(f"{path}: {counted(len(inputs), 'described input')}, but the program takes {len(own_inputs)}")
    try:
        signature = Signature(inputs, outputs).with_defaults(options.inputs, options.outputs)
    except ValueError as error:
        raise LoadError(f"{path}: {error}") from None
    names = {own.name: spec.name for own, spec in zip(own_inputs, inputs, strict=True)}
    return TorchModel(
        signature,
        _caller(torch, program, module, names),
        placement,
        version=digest_of(path, *([outside] if outside.is_file() else [])),
        description=sidecar.description or "PyTorch exported program",
        kind="PyTorch exported program",
        written=frozenset(names[own] for own in _written(program) if own in names),
        bfloat16=frozenset(names[own] for own in bfloat16 if own in names),
    )


def specs_of(
    torch: Any, program: Any, source: object, asked: Sequence[str] = ()
) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...], frozenset[str]]:
    """A program's inputs and outputs, and which inputs are bfloat16.

    Raises LoadError for an input that does not travel; such an output is left out unless it is among those ``asked`` for.
    """
    values = {node.name: node.meta.get("val") for node in program.graph.nodes}
    symbols: dict[str, str] = {}
    arguments = [
        spec.arg.name
        for spec in program.graph_signature.input_specs
        if spec.kind is torch.export.graph_signature.InputKind.USER_INPUT
        and hasattr(values.get(spec.arg.name), "shape")
    ]
    inputs = tuple(_spec(torch, source, "input", name, values[name], symbols) for name in arguments)
    results = [
        values.get(spec.arg.name) if hasattr(spec.arg, "name") else None
        for spec in program.graph_signature.output_specs
        if spec.kind is torch.export.graph_signature.OutputKind.USER_OUTPUT
    ]
    shaped = torch.utils._pytree.tree_unflatten(results, program.call_spec.out_spec)
    found, _ = fill_outputs(torch, shaped, ())
    outputs = tuple(
        _spec(torch, source, "output", name, value, symbols)
        for name, value in found.items()
        if name in asked or dtype_of(value.dtype) is not None
    )
    return inputs, outputs, frozenset(name for name in arguments if values[name].dtype == torch.bfloat16)


def _spec(torch: Any, source: object, what: str, name: str, value: Any, symbols: dict[str, str]) -> TensorSpec:
    known = dtype_of(value.dtype)
    if known is None:
        raise LoadError(f"{source}: {what} {name!r} is {value.dtype}, which has no type on the wire")
    return TensorSpec(name, known, tuple(_dim(dim, symbols) for dim in value.shape))


def _dim(dim: Any, symbols: dict[str, str]) -> Dim:
    if isinstance(dim, int):
        return dim
    text = str(dim)
    if not text.isidentifier():
        return None  # an expression of others: 2*n
    # PyTorch calls them s17 and the like.
    fresh = _SYMBOLS[len(symbols)] if len(symbols) < len(_SYMBOLS) else text
    return symbols.setdefault(text, fresh)


def _written(program: Any) -> set[str]:
    """The inputs that the program writes into: by operators on them or on views of them, or at its end."""
    written = set(getattr(program.graph_signature, "user_inputs_to_mutate", {}).values())
    # By node: the inputs whose memory it may share.
    shares: dict[Any, set[str]] = {}
    for node in program.graph.nodes:
        if node.op == "placeholder":
            shares[node] = {node.name}
            continue
        schema = getattr(node.target, "_schema", None)
        if schema is None:
            # A part of another node's result, or an operator that says nothing of itself.
            shares[node] = set().union(*(shares.get(each, set()) for each in node.all_input_nodes))
            continue
        shares[node] = set()
        for argument, value in zip(schema.arguments, node.args, strict=False):
            if argument.alias_info is None:
                continue
            for each in value if isinstance(value, list | tuple) else [value]:
                owners = shares.get(each, set())
                shares[node] |= owners
                if argument.alias_info.is_write:
                    written |= owners
    return written


def _caller(torch: Any, program: Any, module: Any, names: Mapping[str, str]) -> Any:
    """The call of a program by the names of its inputs."""
    kinds = torch.export.graph_signature
    leaves = [spec.arg for spec in program.graph_signature.input_specs if spec.kind is kinds.InputKind.USER_INPUT]
    fixed = [getattr(arg, "value", None) for arg in leaves]
    order = [(i, names[arg.name]) for i, arg in enumerate(leaves) if arg.name in names]
    args, kwargs = torch.utils._pytree.tree_unflatten(list(range(len(leaves))), program.call_spec.in_spec)
    if list(args) == list(range(len(leaves))) and not kwargs and len(order) == len(leaves):
        wanted = [name for _, name in order]
        return lambda tensors: module(*[tensors[name] for name in wanted])

    def call(tensors: Mapping[str, Any]) -> Any:
        flat = list(fixed)
        for i, name in order:
            flat[i] = tensors[name]
        args, kwargs = torch.utils._pytree.tree_unflatten(flat, program.call_spec.in_spec)
        return module(*args, **kwargs)

    return call
