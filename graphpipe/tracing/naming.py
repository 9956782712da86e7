"""A name in the pipeline for each value of a trace, so that no stage takes another's by accident."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from graphpipe.tracing.recording import Call, Recording
from graphpipe.tracing.traced import Traced
from graphpipe.words import listed, quoted

__all__ = ["Returned", "Wrong", "named", "safe", "stage_names", "unused"]

Returned = Sequence[tuple[str | None, Traced]]


class Wrong(ValueError):
    """What a function returns cannot be a pipeline's outputs."""


def named(recording: Recording, stages: Sequence[str], returned: Returned) -> tuple[dict[Traced, str], list[str]]:
    """The names of all values, and those of the pipeline's outputs; ``stages`` are the names of the calls' stages.

    An input has its own name and an output the one under which it is returned, or else its stage's. Every other value has
    its stage's if no other value has it. Raises Wrong.
    """
    names = {value: name for name, value in recording.inputs.items()}
    own = {value: name for call in recording.calls for name, value in call.outputs.items()}
    # What a stage may take, and was not given: a value of that name would be taken for it.
    untaken = {name for call in recording.calls for name in _left_out(call)}
    outputs: list[str] = []
    for key, value in returned:
        is_input = value not in own
        name = key or (names[value] if is_input else own[value])
        if is_input and name != names[value]:
            raise Wrong(f"it returns its input {quoted(names[value])} as {quoted(name)}; an input keeps its name")
        if not is_input and value in names:
            raise Wrong(f"it returns one value as {quoted(names[value])} and as {quoted(name)}; a value has one name")
        if name in outputs:
            raise Wrong(
                f"it returns two values that would be called {quoted(name)}; return them by names of their own: "
                f'{{"one": ..., "other": ...}}'
            )
        if not is_input and name in recording.inputs:
            _refuse_to_hide(recording, name, value, outputs)
        if name in untaken:
            raise Wrong(
                f"it returns {quoted(name)}, which a stage could take and is not given; return it by another name"
            )
        names[value] = name
        outputs.append(name)
    for name in recording.inputs:
        if name in untaken:
            raise Wrong(
                f"its input {quoted(name)} has the name of one that a stage could take and is not given; name it "
                "otherwise"
            )
    taken = {*names.values(), *untaken}
    for call, stage in zip(recording.calls, stages, strict=True):
        for name, value in call.outputs.items():
            if value not in names:
                names[value] = _free(name, stage, taken)
                taken.add(names[value])
    return names, outputs


def _left_out(call: Call) -> list[str]:
    return [spec.name for spec in call.callee.signature.inputs if not spec.repeated and spec.name not in call.inputs]


def _refuse_to_hide(recording: Recording, name: str, value: Traced, outputs: Sequence[str]) -> None:
    """Raise Wrong where an output has an input's name, and something after it still means the input."""
    made = next(i for i, call in enumerate(recording.calls) if _has(call.outputs, value))
    later = [call for call in recording.calls[made + 1 :] if _has(call.inputs, recording.inputs[name])]
    if later:
        raise Wrong(
            f"it returns {quoted(name)}, which is also its input, and stage {later[0].callee.name!r} takes the input "
            "after that; return it by another name"
        )


def _has(values: Mapping[str, Traced], value: Traced) -> bool:
    return any(each is value for each in values.values())  # they refuse to be compared


def _free(name: str, stage: str, taken: set[str]) -> str:
    if name not in taken:
        return name
    found = longer = f"{stage}_{name}"
    number = 1
    while found in taken:
        number += 1
        found = f"{longer}_{number}"
    return found


def stage_names(called: Sequence[str]) -> list[str]:
    """A name for each stage that was called, in order: its own, with a number where it is called again."""
    own = [safe(name)[:56] or "stage" for name in called]
    found: list[str] = []
    for name in own:
        number, free = 1, name
        while free in found or (number > 1 and free in own):
            number += 1
            free = f"{name}_{number}"
        found.append(free)
    return found


def unused(recording: Recording, returned: Returned) -> str:
    """The inputs that nobody takes or returns, in words; empty if there are none."""
    used = [value for call in recording.calls for value in call.inputs.values()] + [value for _, value in returned]
    return listed([name for name, value in recording.inputs.items() if all(value is not each for each in used)])


def safe(name: str) -> str:
    """A function's name as a pipeline's; empty where it can be none."""
    return re.sub(r"[^A-Za-z0-9_-]+", "_", name).strip("_")[:64] if "<" not in name else ""
