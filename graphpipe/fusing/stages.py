"""The graphs that a pipeline's stages are, and what goes where among them, as the pipeline's own wiring says it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from graphpipe.backends.isolated.model import IsolatedModel
from graphpipe.backends.model import Model
from graphpipe.backends.onnx import OnnxModel
from graphpipe.errors import LoadError
from graphpipe.pipeline.flow import Flow
from graphpipe.pipeline.part import Part
from graphpipe.words import listed, quoted

__all__ = ["Graphs", "graphs_of_pipeline"]

# An output of a graph, by its place and its name there, or an input of the whole.
Origin = tuple[int, str] | str


@dataclass(slots=True)
class Graphs:
    """Files under the names of their stages. ``takes`` says of each what its inputs are, ``asked`` has those of the whole
    in their order, ``given`` what comes out.
    """

    name: str
    files: dict[str, Path] = field(default_factory=dict)
    takes: list[dict[str, Origin]] = field(default_factory=list)
    asked: tuple[str, ...] = ()
    given: dict[str, tuple[int, str]] = field(default_factory=dict)
    custom_ops: tuple[str, ...] = ()


def graphs_of_pipeline(flow: Flow, outputs: Mapping[str, str] | None = None) -> Graphs:
    """All of them, in order; those of a pipeline in it too. ``outputs`` are from new names to the pipeline's.

    Raises LoadError for the first stage that is no graph of ONNX, and for an output that no stage gives.
    """
    found = Graphs(flow.name, asked=tuple(spec.name for spec in flow.signature.inputs))
    values = _add(flow, "", {}, found)
    if outputs is None:
        outputs = {name: name for name in flow.output_names or ()}
    for new, name in outputs.items():
        origin = values.get(name)
        if not isinstance(origin, tuple):
            given = [each for each, known in values.items() if isinstance(known, tuple)]
            raise LoadError(
                f"no stage of {flow.name!r} gives {quoted(name)}, which is to be an output; they give {listed(given)}"
            )
        found.given[new] = origin
    return found


def _add(flow: Flow, before: str, inputs: Mapping[str, Origin], found: Graphs) -> dict[str, Origin]:
    """Add a pipeline's stages; all its values by its own names. ``before`` is what its stages' names begin with."""
    values = dict(inputs)
    for part, wire in zip(flow.parts, flow.wires, strict=True):
        takes = {own: values.get(name, name) for own, name in {**wire.takes, **wire.may_take}.items()}
        if isinstance(part.model, Flow):
            inner = _add(part.model, f"{before}{part.name}.", takes, found)
            gives = {own: inner[own] for own in wire.gives}
        else:
            file, custom_ops = _graph(part, f"{before}{part.name}")
            place = len(found.files)
            found.files[_unused(f"{before}{part.name}".replace(".", "_"), found.files)] = file
            found.takes.append(takes)
            found.custom_ops = tuple(dict.fromkeys((*found.custom_ops, *custom_ops)))
            gives = {own: (place, own) for own in wire.gives}
        values |= {name: gives[own] for own, name in wire.gives.items()}
    return values


def _graph(part: Part, name: str) -> tuple[Path, tuple[str, ...]]:
    """The file of a stage, and the libraries that have its operators."""
    model = part.model
    if isinstance(model, OnnxModel):
        return model.file, model.custom_ops
    is_isolated_graph = isinstance(model, IsolatedModel) and model.kind == OnnxModel.kind and not part.options.pad
    if is_isolated_graph and Path(part.source).is_file():
        return Path(part.source), part.options.custom_ops
    raise LoadError(
        f"stage {name!r} ({_what(part, model)}) is no graph; stages that are files of ONNX, with nothing around them, "
        "become one, and a pipeline runs the others beside them"
    )


def _what(part: Part, model: Model) -> str:
    around = [
        f"a {key}" for key, is_there in (("problem", part.options.problem), ("pad", part.options.pad)) if is_there
    ]
    kind = str(getattr(model, "kind", "") or type(model).__name__)
    return f"{kind} with {' and '.join(around)} around it" if around else kind


def _unused(name: str, taken: Mapping[str, object]) -> str:
    number, free = 1, name
    while free in taken:
        number += 1
        free = f"{name}_{number}"
    return free
