"""What goes where: which output of an earlier part an input is, what is left to be given from outside, what comes out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import onnx

from graphpipe.errors import LoadError
from graphpipe.fusing.part import Part
from graphpipe.fusing.types import misfit, text
from graphpipe.words import listed, nearest

__all__ = ["Plan", "Value", "connected", "planned"]

# A value of a part: the part's place, and what the part calls it.
Value = tuple[int, str]


@dataclass
class Plan:
    """``fed`` says of an input which value it is, ``asked`` of an input from outside which inputs of parts it is,
    ``given`` of an output which value it is.
    """

    parts: Sequence[Part]
    fed: dict[Value, Value] = field(default_factory=dict)
    asked: dict[str, list[Value]] = field(default_factory=dict)
    given: dict[str, Value] = field(default_factory=dict)

    def source(self, value: Value) -> Value | str:
        """Where a value comes from in the end: a part computes it, or it is the input of that name."""
        place, name = value
        while name in self.parts[place].takes:
            if (place, name) not in self.fed:
                return next(public for public, inputs in self.asked.items() if (place, name) in inputs)
            place, name = self.fed[place, name]
        return place, name


def connected(
    parts: Sequence[Part], takes: Sequence[Mapping[str, Value | str]], asked: Sequence[str], given: Mapping[str, Value]
) -> Plan:
    """The parts connected as they are told: ``takes`` says of each part's inputs which value they are, or the name of an
    input from outside, of which ``asked`` has the order. Raises LoadError for what does not fit together.
    """
    plan = Plan(parts, asked={name: [] for name in asked}, given=dict(given))
    for place, (part, told) in enumerate(zip(parts, takes, strict=True)):
        for name, info in part.takes.items():
            origin = told[name]
            if isinstance(origin, str):
                plan.asked.setdefault(origin, []).append((place, name))
                _check_shared(parts, origin, plan.asked[origin])
            else:
                plan.fed[place, name] = origin
                _check(parts, origin, part, info)
    plan.asked = {name: inputs for name, inputs in plan.asked.items() if inputs}
    _check_names(plan)
    return plan


def planned(
    parts: Sequence[Part], name_map: Mapping[str, str], outputs: Sequence[str] | Mapping[str, str] | None
) -> Plan:
    """Connect the parts by names. Raises LoadError, with both values in it, for what does not fit together."""
    plan = Plan(parts)
    known: dict[str, Value] = {}
    unused_maps = set(name_map)
    for place, part in enumerate(parts):
        for name, info in part.takes.items():
            key = next((key for key in (f"{part.name}.{name}", name) if key in name_map), "")
            unused_maps.discard(key)
            wanted = name_map.get(key, name)
            if wanted in known:
                plan.fed[place, name] = known[wanted]
                _check(parts, known[wanted], part, info)
            else:
                plan.asked.setdefault(wanted, []).append((place, name))
                _check_shared(parts, wanted, plan.asked[wanted])
        own = {name: (place, name) for name in part.gives}
        known |= own | {
            f"{part.name}.{name}": value for name, value in own.items() if f"{part.name}.{name}" not in known
        }
    if unused_maps:
        names = [name for part in parts for name in part.takes]
        raise LoadError(
            f"no part takes {listed(sorted(unused_maps))}, which the name map has; they take {listed(names)}"
        )
    plan.given = _given(parts, known, outputs)
    _check_all_are_needed(plan)
    _check_names(plan)
    return plan


def _check_names(plan: Plan) -> None:
    both = sorted(set(plan.given) & set(plan.asked))
    if both:
        raise LoadError(
            f"{listed(both)} would be an input and an output, and in a graph a name is one value; give it another: "
            f"outputs={{'new_{both[0]}': {both[0]!r}}}"
        )


def _check(parts: Sequence[Part], value: Value, part: Part, info: onnx.ValueInfoProto) -> None:
    giver = parts[value[0]]
    given = giver.gives[value[1]]
    if misfit(given, info):
        raise LoadError(
            f"{giver.source} gives {given.name!r} {text(given)}, but {part.source} takes {info.name!r} {text(info)}"
        )


def _check_shared(parts: Sequence[Part], name: str, inputs: Sequence[Value]) -> None:
    first, last = ((parts[place], parts[place].takes[own]) for place, own in (inputs[0], inputs[-1]))
    if misfit(first[1], last[1]):
        raise LoadError(
            f"{first[0].source} takes {first[1].name!r} {text(first[1])}, and {last[0].source} takes "
            f"{last[1].name!r} {text(last[1])}: they cannot both be the input {name!r}"
        )


def _given(
    parts: Sequence[Part], known: Mapping[str, Value], outputs: Sequence[str] | Mapping[str, str] | None
) -> dict[str, Value]:
    if outputs is None:
        outputs = list(parts[-1].gives)
    wanted = dict(outputs) if isinstance(outputs, Mapping) else {name: name for name in outputs}
    if not wanted:
        raise LoadError("no outputs are asked for")
    unknown = [value for value in wanted.values() if value not in known]
    if unknown:
        raise LoadError(
            f"no part gives {listed(unknown)}{nearest(unknown[0], known)}; they give "
            f"{listed([name for part in parts for name in part.gives])}"
        )
    return {name: known[value] for name, value in wanted.items()}


def _check_all_are_needed(plan: Plan) -> None:
    needed = {place for place, _ in (*plan.fed.values(), *plan.given.values())}
    for place, part in enumerate(plan.parts):
        if place in needed:
            continue
        gives = list(part.gives)
        later = [f"{other.name}.{name}" for other in plan.parts[place + 1 :] for name in other.takes]
        if later:
            rest = f"and later parts take {listed(later)}; if one is the other: name_map={{{later[0]!r}: {gives[0]!r}}}"
        else:
            rest = f"and the outputs asked for are {listed(list(plan.given))}"
        raise LoadError(f"nothing that {part.source} gives is used: it gives {listed(gives)}, {rest}")
