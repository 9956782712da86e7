"""What goes where in a pipeline, and what the whole takes and gives.

A stage takes under a name what the last stage before it gave under that name, or else what the caller sent. What a stage
gives is declared, or read from a function's code; of one that says nothing (it is *open*) it is known when it has run.
Behind an open stage, a name that nobody declares is that stage's to give, or the caller's if it does not, unless the
pipeline's inputs are named.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from graphpipe.arguments import came
from graphpipe.errors import LoadError
from graphpipe.pipeline.part import Part
from graphpipe.signature import Signature, TensorSpec
from graphpipe.words import listed, nearest, quoted

__all__ = ["Wire", "Wiring", "wired"]

_ANY = TensorSpec("input", description="any number of tensors, any shape, any type", repeated=True)
_BYTES = {np.dtype(bool), np.dtype(np.uint8)}


@dataclass(frozen=True, slots=True)
class Wire:
    """One stage's names: its own, and the pipeline's for them.

    ``takes`` must be there, ``may_take`` is taken if it is. One that ``takes_all`` takes whatever the stage before it gave,
    or the caller sent. ``gives`` has what is known of its outputs; one that is ``open`` gives what it likes. The caller has
    ``sent`` some of what it takes.
    """

    name: str
    takes: Mapping[str, str]
    may_take: Mapping[str, str]
    gives: Mapping[str, str]
    renames: Mapping[str, str]
    sent: frozenset[str]
    takes_all: bool = False
    open: bool = False


@dataclass(frozen=True, slots=True)
class Wiring:
    """All stages' names, and what the whole takes and gives. ``outputs`` of None are whatever the last stage gives."""

    wires: tuple[Wire, ...]
    signature: Signature
    outputs: tuple[str, ...] | None


@dataclass(slots=True)
class _Found:
    """What has come to be known on the way from the first stage to the last."""

    own: tuple[str, ...] | None  # the inputs that somebody named
    inputs: dict[str, list[tuple[str, TensorSpec, bool]]] = field(default_factory=dict)  # by whom, whether needed
    given: dict[str, tuple[str, TensorSpec]] = field(default_factory=dict)
    maybe: set[str] = field(default_factory=set)  # inputs that an open stage may give instead
    open: str = ""  # the last stage of which nobody knows what it gives
    any_inputs: bool = False


def wired(parts: Sequence[Part], inputs: Any = None, outputs: Any = None) -> Wiring:
    """The wiring of stages in their order. ``inputs`` and ``outputs`` name those of the whole, where somebody says them.

    Raises LoadError.
    """
    found = _Found(_named(inputs, "inputs"))
    asked = _named(outputs, "outputs")
    for name in found.own or ():
        found.inputs[name] = []
    wires: list[Wire] = []
    for part in parts:
        wires.append(_wire(part, found, wires[-1] if wires else None))
    for name, takers in found.inputs.items():
        if not takers and not found.any_inputs and not found.open and name not in (asked or ()):
            raise LoadError(f"no stage takes the pipeline's input {quoted(name)}{nearest(name, _taken(wires))}")
    chosen, specs = _outputs(wires[-1], found, asked)
    return Wiring(tuple(wires), _signature(found, chosen, specs), chosen)


def _named(said: Any, what: str) -> tuple[str, ...] | None:
    if said is None:
        return None
    if isinstance(said, str):
        said = [said]
    if not isinstance(said, Sequence) or not said or not all(isinstance(name, str) and name for name in said):
        raise LoadError(f"a pipeline's {what} are names, at least one; {came(said)}")
    if len(set(said)) < len(said):
        raise LoadError(f"a pipeline's {what} name one twice: {listed(list(said))}")
    return tuple(said)


def _wire(part: Part, found: _Found, before: Wire | None) -> Wire:
    signature = part.model.signature
    specs = {spec.name: spec for spec in signature.inputs if not spec.repeated}
    any_number = signature.variadic and len(specs) < len(signature.inputs)
    for own in part.inputs:
        if own not in specs and not signature.variadic:
            raise LoadError(
                f"stage {part.name!r} has no input {quoted(own)}; it takes {_or_nothing(specs)}{nearest(own, specs)}"
            )
    takes: dict[str, str] = {}
    may_take: dict[str, str] = {}
    takes_all = any_number and not part.inputs
    if takes_all and before is not None and not before.open:
        # What there will be is known.
        takes, takes_all = {name: name for name in before.gives.values()}, False
    elif takes_all:
        found.any_inputs |= before is None
    elif any_number:
        takes = dict(part.inputs)
    else:
        needed = set(signature.input_names) | set(part.inputs)
        for own in (*specs, *(name for name in part.inputs if name not in specs)):
            (takes if own in needed else may_take)[own] = part.inputs.get(own, own)
    for own, name in (*takes.items(), *may_take.items()):
        _take(part, specs.get(own, TensorSpec(own)), name, own in takes, found)
    names = {*takes.values(), *may_take.values()}
    sent = frozenset(name for name in names if name in found.inputs and name not in found.given)
    gives, is_open = _gives(part, signature, any_number)
    wire = Wire(part.name, takes, may_take, gives, part.outputs, sent, takes_all, is_open)
    known = {spec.name: spec for spec in signature.outputs}
    for own, name in gives.items():
        found.given[name] = (part.name, known.get(own, TensorSpec(own)))
    if is_open:
        # It may give anything anew, of any type.
        found.open = part.name
        found.given = {name: (who, TensorSpec(name)) for name, (who, _) in found.given.items()}
    return wire


def _gives(part: Part, signature: Signature, any_number: bool) -> tuple[dict[str, str], bool]:
    known = {spec.name for spec in signature.outputs} | set(part.returns)
    is_open = any_number or not known
    names = () if any_number else (*signature.output_names, *part.returns)
    for own in part.outputs:
        if own not in known and not is_open and not (signature.open_outputs and not part.returns):
            raise LoadError(
                f"stage {part.name!r} has no output {quoted(own)}; it gives {_or_nothing(known)}{nearest(own, known)}"
            )
    gives = {own: part.outputs.get(own, own) for own in (*names, *part.outputs)}
    if len(set(gives.values())) < len(gives):
        twice = next(name for name in gives.values() if list(gives.values()).count(name) > 1)
        raise LoadError(f"stage {part.name!r} has two outputs that the pipeline would call {quoted(twice)}")
    return gives, is_open


def _take(part: Part, spec: TensorSpec, name: str, is_needed: bool, found: _Found) -> None:
    stage = part.name
    if name in found.given:
        who, given = found.given[name]
        if clash := _clash(replace(given, dtype=None) if part.settings.get("cast") else given, spec):
            raise LoadError(
                f"stage {stage!r} takes {quoted(name)} as {spec.text}, and stage {who!r} gives it as {given.text}: {clash}"
            )
        return
    if found.open and name not in found.inputs:
        # That stage's to give, or else the caller's.
        if found.own is None:
            found.inputs[name] = [(stage, spec, False)]
            found.maybe.add(name)
        return
    if name not in found.maybe:
        if found.own is not None and name not in found.own:
            if is_needed:
                raise LoadError(
                    f"stage {stage!r} takes {quoted(name)}, which no stage before it gives, nor is it one of the pipeline's "
                    f"inputs: {listed(found.own)}{nearest(name, [*found.given, *found.own])}"
                )
            return
        for other, known, _ in found.inputs.setdefault(name, []):
            if clash := _clash(known, spec):
                raise LoadError(
                    f"stages {other!r} and {stage!r} both take {quoted(name)}, one as {known.text}, the other as "
                    f"{spec.text}: {clash}"
                )
        found.inputs[name].append((stage, spec, is_needed))


def _clash(one: TensorSpec, other: TensorSpec) -> str:
    """Why no tensor can be both; empty if one may be."""
    kinds = {one.dtype, other.dtype}
    if len(kinds) == 2 and None not in kinds and kinds != _BYTES:
        return "the types are different"
    if one.shape is None or other.shape is None:
        return ""
    if len(one.shape) != len(other.shape):
        return "they have different numbers of dimensions"
    for axis, (here, there) in enumerate(zip(one.shape, other.shape, strict=True)):
        if isinstance(here, int) and isinstance(there, int) and here != there:
            return f"along axis {axis} they are different"
    return ""


def _outputs(
    last: Wire, found: _Found, asked: tuple[str, ...] | None
) -> tuple[tuple[str, ...] | None, list[TensorSpec]]:
    if asked is None:
        if last.open:
            return None, []
        chosen = tuple(last.gives.values())
    else:
        chosen = asked
        for name in chosen:
            if name not in found.given and name not in found.inputs and not found.open:
                known = [*found.given]
                raise LoadError(
                    f"no stage gives the pipeline's output {quoted(name)}; they give {_or_nothing(known)}"
                    f"{nearest(name, known)}"
                )
    specs = []
    for name in chosen:
        if name in found.given:
            spec = found.given[name][1]
        else:
            spec = _merged(name, found.inputs.get(name, []))
        specs.append(TensorSpec(name, spec.dtype, spec.shape, spec.description))
    return chosen, specs


def _signature(found: _Found, outputs: tuple[str, ...] | None, specs: list[TensorSpec]) -> Signature:
    inputs = [_merged(name, takers) for name, takers in found.inputs.items()]
    required = [
        name
        for name, takers in found.inputs.items()
        if any(each for _, _, each in takers) or (not takers and name in (found.own or ()))
    ]
    stages = {stage for takers in found.inputs.values() for stage, _, _ in takers}
    if found.any_inputs:
        others = replace(_ANY, name=_free("input", found.inputs))
        return Signature((*inputs, others), tuple(specs), variadic=True, open_outputs=True)
    return Signature(
        tuple(inputs),
        tuple(specs),
        tuple(required) if len(required) < len(inputs) else None,
        open_outputs=True,
        # Each stage's symbols are its own: it looks at its inputs itself.
        loose_symbols=len(stages) > 1,
    )


def _merged(name: str, takers: Sequence[tuple[str, TensorSpec, bool]]) -> TensorSpec:
    """What an input is that several stages take."""
    made = TensorSpec(name)
    for _, spec, _ in takers:
        shape = spec.shape if made.shape is None else made.shape
        if made.shape is not None and spec.shape is not None:
            pairs = zip(made.shape, spec.shape, strict=True)
            shape = tuple([there if isinstance(there, int) or here is None else here for here, there in pairs])
        made = replace(
            made,
            dtype=spec.dtype if made.dtype is None else made.dtype,
            shape=shape,
            description=made.description or spec.description,
        )
    return made


def _free(name: str, taken: Mapping[str, Any]) -> str:
    return name if name not in taken else _free(f"{name}_", taken)


def _taken(wires: Sequence[Wire]) -> list[str]:
    return [name for wire in wires for name in (*wire.takes.values(), *wire.may_take.values())]


def _or_nothing(names: Any) -> str:
    return listed(list(names)) or "nothing that is known before it runs"
