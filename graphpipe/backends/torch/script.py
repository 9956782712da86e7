"""TorchScript files, traced or scripted.

Of its inputs such a file keeps the names, not the types and shapes. Those come from ``graphpipe.json`` inside it, or
from ``NAME.graphpipe.json`` beside it; without either the model serves all the same, and takes whatever the program
takes.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from graphpipe.backends.model import Model
from graphpipe.backends.options import LoadOptions
from graphpipe.backends.sidecar import INSIDE, Sidecar, beside, by_order
from graphpipe.backends.torch.operators import what_touches_files
from graphpipe.backends.torch.runtime import Placement, TorchModel, runtime
from graphpipe.errors import LoadError
from graphpipe.signature import Signature
from graphpipe.sources.digest import digest_of
from graphpipe.words import counted, first_line

__all__ = ["open_file"]


def open_file(path: Path, options: LoadOptions) -> Model:
    """The model in a TorchScript file. Raises LoadError."""
    torch = runtime(path, options)
    placement = Placement.of(torch, path, options)
    inside: dict[str, Any] = {INSIDE: ""}
    try:
        # Before it is read: classes may run code of their own while they are.
        if not options.trust_model and (operator := what_touches_files(torch, path)):
            raise LoadError(
                f"{path}: its program calls {operator!r}, which touches files; leave it out; if it is yours: --trust-model"
            )
        with warnings.catch_warnings():
            # PyTorch would rather have .pt2; people have .pt.
            warnings.filterwarnings("ignore", message=r"`?torch\.jit", category=DeprecationWarning)
            program = torch.jit.load(str(path), map_location=placement.device, _extra_files=inside).eval()
    except LoadError:
        raise
    except Exception as error:
        raise LoadError(f"{path}: PyTorch cannot load it: {first_line(error)}") from error
    program = placement.place(program, path)
    outside = beside(path)
    if outside.is_file():
        sidecar = Sidecar.read(outside.read_bytes(), outside)
    else:
        sidecar = Sidecar.read(inside[INSIDE] or "{}", f"{path}/{INSIDE}")
    required, optional = _parameters(path, program)
    parameters = _named(path, sidecar, required, optional)
    outputs = sidecar.outputs if sidecar.outputs is not None else by_order(_outputs(program), None)
    by_position = [name for parameter in required for name in parameters if parameters[name] == parameter]
    try:
        signature = Signature(
            by_order(list(parameters), sidecar.inputs),
            outputs,
            default_inputs=tuple(name for name in parameters if parameters[name] in required),
            open_outputs=not outputs,
        ).with_defaults(options.inputs, options.outputs)
    except ValueError as error:
        raise LoadError(f"{path}: {error}") from None
    written = _written(program)

    def call(tensors: Mapping[str, Any]) -> Any:
        if len(tensors) == len(by_position):
            return program(*[tensors[name] for name in by_position])
        return program(**{parameters[name]: tensor for name, tensor in tensors.items()})

    return TorchModel(
        signature,
        call,
        placement,
        version=digest_of(path, *([outside] if outside.is_file() else [])),
        description=sidecar.description or "TorchScript program",
        kind="TorchScript",
        written=frozenset(name for name, parameter in parameters.items() if parameter in written),
        bfloat16=sidecar.bfloat16 & set(parameters),
        differentiates=_differentiates(program),
    )


def _parameters(path: Path, program: Any) -> tuple[list[str], list[str]]:
    """The tensors that the program's forward wants, and those that it can do without."""
    required: list[str] = []
    optional: list[str] = []
    for argument in program.forward.schema.arguments[1:]:
        kind = str(argument.type)
        if kind == "Tensor":
            (optional if argument.has_default_value() else required).append(argument.name)
        elif kind == "Optional[Tensor]":
            optional.append(argument.name)
        elif not argument.has_default_value():
            raise LoadError(
                f"{path}: forward takes {argument.name!r}, a {kind}; only tensors travel: wrap the module in one whose "
                "forward takes tensors"
            )
    return required, optional


def _named(path: Path, sidecar: Sidecar, required: Sequence[str], optional: Sequence[str]) -> dict[str, str]:
    """The program's parameters by the names that callers use: its own, or those of a sidecar for the same tensors in
    order.
    """
    if sidecar.inputs is None:
        return {name: name for name in (*required, *optional)}
    names = [spec.name for spec in sidecar.inputs]
    if set(required) <= set(names) <= {*required, *optional}:
        return {name: name for name in names}
    if len(required) <= len(names) <= len(required) + len(optional):
        return dict(zip(names, (*required, *optional), strict=False))
    raise LoadError(
        f"{path}: {counted(len(names), 'described input')}, {', '.join(names)}; forward takes {', '.join(required)}"
    )


def _outputs(program: Any) -> list[str]:
    """The names of the outputs, as far as the program's graph tells."""
    [output] = program.graph.outputs()
    kind = output.type().kind()
    if kind == "TensorType":
        return ["output_0"]
    if kind == "DictType" and output.node().kind() == "prim::DictConstruct":
        # A traced dict: its keys are constants of the graph.
        keys = [key.toIValue() for key in list(output.node().inputs())[::2]]
        return keys if all(isinstance(key, str) for key in keys) else []
    # A NamedTuple names its tensors when it is there, but the graph does not say how.
    if kind == "TupleType" and not str(output.type()).startswith("__torch__"):
        elements = output.type().elements()
        if all(element.kind() == "TensorType" for element in elements):
            return [f"output_{i}" for i in range(len(elements))]
    return []


def _written(program: Any) -> set[str]:
    """The inputs that the program may write into."""
    graph = program.inlined_graph
    writers = graph.alias_db()
    arguments = zip(program.forward.schema.arguments[1:], list(graph.inputs())[1:], strict=True)
    return {argument.name for argument, value in arguments if writers.has_writers(value)}


def _differentiates(program: Any) -> bool:
    """Whether the program asks for gradients, anywhere in it."""
    kinds = "aten::requires_grad_", "aten::grad", "aten::backward", "aten::set_requires_grad"
    return any(program.inlined_graph.findAllNodes(kind) for kind in kinds)
