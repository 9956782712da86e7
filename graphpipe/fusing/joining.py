"""Several graphs to one: every value gets one name, the parts' own ones with the part's in front, and the rest is put
side by side.
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx
from onnx import helper

from graphpipe.errors import LoadError
from graphpipe.fusing.graphs import graphs_of, names_in, rename
from graphpipe.fusing.part import Part
from graphpipe.fusing.plan import Plan, Value
from graphpipe.fusing.types import Symbols
from graphpipe.version import __version__
from graphpipe.words import quoted

__all__ = ["joined"]


def joined(
    plan: Plan, opsets: dict[str, int], ir_version: int, name: str
) -> tuple[onnx.ModelProto, dict[str, onnx.TensorProto]]:
    """The one graph, and its large weights, which stand in it as inputs. The parts are used up."""
    symbols = _symbols(plan)
    names = _names(plan)
    graph = onnx.GraphProto(name=name)
    weights: dict[str, onnx.TensorProto] = {}
    outputs = [_output(plan, symbols, public) for public in plan.given]
    inputs = {public: _input(plan, symbols, public) for public in plan.asked}
    defaults = {public: _default(plan, public) for public in plan.asked}
    between = _between(plan, symbols, names)
    for place, part in enumerate(plan.parts):
        _put(graph, place, part, names[place], weights)
    graph.input.extend(inputs.values())
    for public, default in defaults.items():
        if default is not None:
            default.name = public
            graph.initializer.append(default)
    _give(graph, plan, names, outputs)
    _leave_out_what_nothing_needs(graph, weights)
    made = {value for node in graph.node for value in node.output}
    known = {info.name for info in graph.output}
    graph.value_info.extend(info for info in between if info.name in made - known)
    for key, weight in weights.items():
        graph.input.append(helper.make_tensor_value_info(key, weight.data_type, list(weight.dims)))
    model = helper.make_model(
        graph, ir_version=ir_version, opset_imports=[helper.make_opsetid(*each) for each in opsets.items()],
        producer_name="graphpipe", producer_version=__version__,
        doc_string="\n".join(f"{part.name}: {part.model.doc_string}" for part in plan.parts if part.model.doc_string),
    )  # fmt: skip
    helper.set_model_props(model, _metadata(plan.parts))
    return model, weights


def _names(plan: Plan) -> list[dict[str, str]]:
    """Of each part, what its values are called in the whole."""
    public = {*plan.asked, *plan.given}
    outputs: dict[Value | str, str] = {}
    for name, value in plan.given.items():
        outputs.setdefault(plan.source(value), name)
    names: list[dict[str, str]] = []
    for place, part in enumerate(plan.parts):
        own: dict[str, str] = {}
        for name in sorted(names_in(part.graph)):
            source = plan.source((place, name))
            if isinstance(source, str):
                own[name] = source
            elif source[0] != place:
                own[name] = names[source[0]][source[1]]
            elif (place, name) in outputs:
                own[name] = outputs[place, name]
            else:
                full = f"{part.name}/{name}"
                while full in public:
                    full += "_"
                own[name] = full
        names.append(own)
    return names


def _put(
    graph: onnx.GraphProto, place: int, part: Part, names: dict[str, str], weights: dict[str, onnx.TensorProto]
) -> None:
    fed = set(part.takes)
    kept = [tensor for tensor in part.graph.initializer if tensor.name not in fed]
    del part.graph.initializer[:]
    part.graph.initializer.extend(kept)
    for number, node in enumerate(part.graph.node):
        node.name = node.name or f"{node.op_type}_{number}"  # so that a message can say which
    # What only an annotation names is nothing that runs.
    rename(part.graph, lambda name: names.get(name, f"{part.name}/{name}"), lambda node: f"{part.name}/{node}")
    for repeated in ("node", "initializer", "sparse_initializer", "quantization_annotation", "value_info"):
        getattr(graph, repeated).extend(getattr(part.graph, repeated))
    for name, weight in part.weights.items():
        weights[names[name]] = weight


def _symbols(plan: Plan) -> Symbols:
    symbols, parts = Symbols(), plan.parts
    for (place, name), (giver, given) in plan.fed.items():
        symbols.join(parts[giver], parts[giver].gives[given], parts[place], parts[place].takes[name])
    for inputs in plan.asked.values():
        first, own = inputs[0]
        for place, name in inputs[1:]:
            symbols.join(parts[first], parts[first].takes[own], parts[place], parts[place].takes[name])
    return symbols


def _input(plan: Plan, symbols: Symbols, public: str) -> onnx.ValueInfoProto:
    merged = onnx.ValueInfoProto()
    for place, name in plan.asked[public]:
        info = onnx.ValueInfoProto()
        info.CopyFrom(plan.parts[place].takes[name])
        symbols.write(plan.parts[place], info)
        _merge(merged, info)
    merged.name = public
    return merged


def _output(plan: Plan, symbols: Symbols, public: str) -> onnx.ValueInfoProto:
    place, name = plan.given[public]
    info = onnx.ValueInfoProto()
    info.CopyFrom(plan.parts[place].gives[name])
    symbols.write(plan.parts[place], info)
    info.name = public
    return info


def _between(plan: Plan, symbols: Symbols, names: list[dict[str, str]]) -> list[onnx.ValueInfoProto]:
    """What both sides say of the values that go from one part to another."""
    merged: dict[str, onnx.ValueInfoProto] = {}
    for (place, name), (giver, given) in plan.fed.items():
        for part, infos, own in ((giver, plan.parts[giver].gives, given), (place, plan.parts[place].takes, name)):
            info = onnx.ValueInfoProto()
            info.CopyFrom(infos[own])
            symbols.write(plan.parts[part], info)
            _merge(merged.setdefault(names[part][own], onnx.ValueInfoProto()), info)
    for full, info in merged.items():
        info.name = full
    return list(merged.values())


def _merge(into: onnx.ValueInfoProto, info: onnx.ValueInfoProto) -> None:
    """Add what another says of the same value; the two fit."""
    if into.type.WhichOneof("value") is None:
        into.CopyFrom(info)
        return
    mine, other = into.type.tensor_type, info.type.tensor_type
    if info.type.WhichOneof("value") != "tensor_type" or not other.HasField("shape"):
        return
    if not mine.HasField("shape"):
        mine.shape.CopyFrom(other.shape)
        return
    for dim, said in zip(mine.shape.dim, other.shape.dim, strict=True):
        if not dim.HasField("dim_value") and (said.HasField("dim_value") or not dim.dim_param):
            dim.CopyFrom(said)


def _default(plan: Plan, public: str) -> onnx.TensorProto | None:
    """What an input is where it is left out: none, unless every part that takes it has the same value for it."""
    found = []
    for place, name in plan.asked[public]:
        part = plan.parts[place]
        own = [tensor for tensor in part.graph.initializer if tensor.name == name]
        if not own:
            return None
        default = onnx.TensorProto()
        default.CopyFrom(own[0])  # the part's own list of them is emptied
        found.append((part, default))
    arrays = [onnx.numpy_helper.to_array(tensor) for _, tensor in found]
    if any(array.tobytes() != arrays[0].tobytes() for array in arrays):
        raise LoadError(
            f"{' and '.join(part.source for part, _ in found)} have different defaults for the input {quoted(public)}; give "
            "it another name in one of them by a name map"
        )
    return found[0][1]


def _give(
    graph: onnx.GraphProto, plan: Plan, names: list[dict[str, str]], outputs: Sequence[onnx.ValueInfoProto]
) -> None:
    """Let the outputs have their names: a value that has another one, or is an input, is passed on."""
    for info in outputs:
        place, own = plan.given[info.name]
        value = names[place][own]
        if value != info.name:
            graph.node.append(helper.make_node("Identity", [value], [info.name], name=f"give/{info.name}"))
        graph.output.append(info)


def _leave_out_what_nothing_needs(graph: onnx.GraphProto, weights: dict[str, onnx.TensorProto]) -> None:
    needed = {info.name for info in graph.output}
    kept = []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            needed.update(node.input)
            for inner in graphs_of(node):
                needed |= names_in(inner)
            kept.append(node)
    del graph.node[:]
    graph.node.extend(reversed(kept))
    constants = [tensor for tensor in graph.initializer if tensor.name in needed]
    del graph.initializer[:]
    graph.initializer.extend(constants)
    for name in set(weights) - needed:
        del weights[name]


def _metadata(parts: Sequence[Part]) -> dict[str, str]:
    """Every entry is kept, under the part's name too where parts say different things."""
    said: dict[str, set[str]] = {}
    for part in parts:
        for entry in part.model.metadata_props:
            said.setdefault(entry.key, set()).add(entry.value)
    return {
        (entry.key if len(said[entry.key]) == 1 else f"{part.name}.{entry.key}"): entry.value
        for part in parts
        for entry in part.model.metadata_props
    }
