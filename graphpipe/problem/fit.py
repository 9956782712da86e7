"""Whether a model can answer a problem, as far as the model says what it takes and gives; and by which of its names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from graphpipe.arguments import came
from graphpipe.errors import LoadError
from graphpipe.signature import Dim, Signature, TensorSpec
from graphpipe.words import listed, nearest, quoted

__all__ = ["Names", "fit"]

# The problem's names to the model's, of inputs and of outputs.
Names = tuple[dict[str, str], dict[str, str]]


def fit(
    inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], model: Signature, name_map: Mapping[Any, Any], who: str
) -> Names:
    """The model's names for the problem's inputs and outputs.

    Raises LoadError with all that does not fit; ``who`` says there which model and which problem are meant.
    """
    wrong = _wrong_names(name_map, [spec.name for spec in (*inputs, *outputs)])
    given, wanted = {s.name: s for s in model.inputs}, {s.name: s for s in model.outputs}
    anything_in = model.variadic
    anything_out = model.variadic or model.open_outputs
    taken = _named(inputs, name_map, given, "input", anything_in, wrong)
    answered = _by_place(outputs, name_map, wanted)
    if answered is None:
        answered = _named(outputs, name_map, wanted, "output", anything_out, wrong)
    left = [] if model.variadic or model.any_inputs else [n for n in model.input_names if n not in taken.values()]
    # One that goes by another name has been named above.
    if left and len(taken) == len(inputs):
        wrong.append(f"the model takes {listed(left)} too, which the problem does not give")
    for spec in inputs:
        if (known := given.get(taken.get(spec.name, ""))) is not None:
            wrong += _input_misfits(spec, known)
    if not model.loose_symbols:
        wrong += _symbol_misfits(inputs, taken, given)
    for spec in outputs:
        if (known := wanted.get(answered.get(spec.name, ""))) is not None:
            wrong += _output_misfits(spec, known)
    if wrong:
        raise LoadError(f"{who}: {'; '.join(wrong)}")
    return taken, answered


def _wrong_names(name_map: Mapping[Any, Any], names: Sequence[str]) -> list[str]:
    wrong = []
    for name, graph_name in name_map.items():
        if not isinstance(graph_name, str) or not isinstance(name, str):
            wrong.append(f"name_map is from the problem's names to the model's; {came(graph_name)} for {name!r}")
        elif name not in names:
            near = nearest(name, names) or f"; it has {listed(names)}"
            wrong.append(f"name_map: the problem has no {quoted(name)}{near}")
    return wrong


def _named(
    specs: Sequence[TensorSpec],
    name_map: Mapping[Any, Any],
    known: Mapping[str, TensorSpec],
    what: str,
    anything: bool,
    wrong: list[str],
) -> dict[str, str]:
    """The model's name of each; what has none is added to ``wrong``."""
    found: dict[str, str] = {}
    for spec in specs:
        asked = name_map.get(spec.name, spec.name)
        if not isinstance(asked, str):
            continue  # said already
        name = _as_known(asked, known)
        if name is None and not anything:
            there = f"its {what}s are {listed(list(known))}" if known else f"it has no {what}s"
            near = nearest(asked, known)
            hint = " (a package's name_map, or that of Problem.posed, says another name)" if not near and known else ""
            wrong.append(f"the model has no {what} {quoted(asked)}{near or f'; {there}'}{hint}")
            continue
        name = asked if name is None else name
        if name in found.values():
            wrong.append(f"{what} {quoted(name)} of the model would be two of the problem's")
        found[spec.name] = name
    return found


def _by_place(
    outputs: Sequence[TensorSpec], name_map: Mapping[Any, Any], known: Mapping[str, TensorSpec]
) -> dict[str, str] | None:
    """The names of outputs that a model has only numbers for, as TorchScript has: those of the problem, in their order."""
    if not known or len(known) != len(outputs) or list(known) != [f"output_{i}" for i in range(len(known))]:
        return None
    if any(name_map.get(spec.name, spec.name) in known or spec.name in name_map for spec in outputs):
        return None
    return {spec.name: numbered for spec, numbered in zip(outputs, known, strict=True)}


def _as_known(name: str, known: Mapping[str, TensorSpec]) -> str | None:
    if name in known:
        return name
    other = name[:-2] if name.endswith(":0") else f"{name}:0"  # one name in a graph of TensorFlow's
    return other if other in known else None


def _input_misfits(spec: TensorSpec, known: TensorSpec) -> list[str]:
    """Why the model would not take all that the problem may give. What the problem leaves unsaid is the model's to say."""
    head = f"input {spec.name!r} is {spec.text}, and the model takes {known.text}"
    if spec.dtype is not None and known.dtype is not None and spec.dtype != known.dtype:
        return [head]
    if spec.shape is None or known.shape is None:
        return []
    if len(spec.shape) != len(known.shape):
        return [head]
    narrow = any(isinstance(k, int) and s != k for s, k in zip(spec.shape, known.shape, strict=True))
    return [head] if narrow else []


def _symbol_misfits(
    inputs: Sequence[TensorSpec], taken: Mapping[str, str], given: Mapping[str, TensorSpec]
) -> list[str]:
    """Where the model wants two dimensions to be equal, and the problem lets them differ."""
    first: dict[str, tuple[Dim, str, int]] = {}
    wrong = []
    for spec in inputs:
        known = given.get(taken.get(spec.name, ""))
        if known is None or known.shape is None or spec.shape is None or len(known.shape) != len(spec.shape):
            continue
        for axis, (symbol, dim) in enumerate(zip(known.shape, spec.shape, strict=True)):
            if not isinstance(symbol, str):
                continue
            before, where, there = first.setdefault(symbol, (dim, spec.name, axis))
            if (before is None or dim != before) and (where, there) != (spec.name, axis):
                wrong.append(
                    f"the model takes equal sizes ({symbol!r}) along axis {there} of {where!r} and axis {axis} of "
                    f"{spec.name!r}, and the problem lets them differ"
                )
    return wrong


def _output_misfits(spec: TensorSpec, known: TensorSpec) -> list[str]:
    """Why the model cannot give what the problem promises. What may come out right is looked at in each answer."""
    head = f"output {spec.name!r} of the model is {known.text}, and {spec.text} is promised"
    if spec.dtype is not None and known.dtype is not None and spec.dtype != known.dtype:
        return [head]
    if spec.shape is None or known.shape is None:
        return []
    pairs = list(zip(spec.shape, known.shape, strict=False))
    apart = any(isinstance(s, int) and isinstance(k, int) and s != k for s, k in pairs)
    return [head] if apart or len(spec.shape) != len(known.shape) else []
