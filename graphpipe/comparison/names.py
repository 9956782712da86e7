"""Which input and output of one model is which of another, by their names; for where no problem says it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from graphpipe.errors import LoadError
from graphpipe.signature import Signature, TensorSpec
from graphpipe.words import listed, quoted

__all__ = ["Names", "names_of"]


@dataclass(frozen=True, slots=True)
class Names:
    """The reference's names to a model's own, of inputs and outputs. ``notes`` are words on what was taken for the same.

    ``outputs`` are None where nobody says what they are: what comes is taken by its names.
    """

    inputs: Mapping[str, str]
    outputs: Mapping[str, str] | None
    notes: tuple[str, ...] = ()


def names_of(reference: Signature, model: Signature, who: str) -> Names:
    """The names of ``model`` for those of ``reference``: equal ones, ``x`` for ``x:0``, or the only one that each has.

    Raises LoadError, with all that is different, for a model that cannot be asked what the reference is asked, or has none
    of its outputs.
    """
    notes: list[str] = []
    inputs = {spec.name: spec.name for spec in reference.inputs}
    if not model.variadic and model.inputs:
        inputs = _paired(reference.inputs, model.inputs, "input", who, notes)
        _check_inputs(reference, model, inputs, who)
    if not reference.outputs or not model.outputs or model.open_outputs or model.variadic:
        return Names(inputs, None, tuple(notes))
    outputs = _paired(reference.outputs, model.outputs, "output", who, notes)
    if not outputs:
        raise LoadError(
            f"{who} has none of the reference's outputs {listed([spec.name for spec in reference.outputs])}, but "
            f"{listed([spec.name for spec in model.outputs])}; {_MEND}"
        )
    if lacking := [spec.name for spec in reference.outputs if spec.name not in outputs]:
        notes.append(f"{who} has no output {listed(lacking)}: the others are compared")
    return Names(inputs, outputs, tuple(notes))


_MEND = "a problem and, in a package, its name_map say what is what"


def _paired(
    reference: Sequence[TensorSpec], model: Sequence[TensorSpec], what: str, who: str, notes: list[str]
) -> dict[str, str]:
    own = {spec.name.removesuffix(":0"): spec.name for spec in model}
    found = {spec.name: own[key] for spec in reference if (key := spec.name.removesuffix(":0")) in own}
    if not found and len(reference) == len(model) == 1:
        found = {reference[0].name: model[0].name}
        notes.append(f"{who}: its only {what} {quoted(model[0].name)} is taken for {quoted(reference[0].name)}")
    return found


def _check_inputs(reference: Signature, model: Signature, names: Mapping[str, str], who: str) -> None:
    ours = {spec.name: spec for spec in reference.inputs}
    theirs = {spec.name: spec for spec in model.inputs}
    wrong = [f"it has no input {quoted(name)}" for name in reference.input_names if name not in names]
    wrong += [f"it takes {quoted(name)} too" for name in model.input_names if name not in names.values()]
    wrong += [
        f"input {quoted(name)} is {theirs[own].text}, and {ours[name].text} is what the reference takes"
        for name, own in names.items()
        if _differ(ours[name], theirs[own])
    ]
    if wrong:
        raise LoadError(f"{who} cannot be asked what the reference is asked: {'; '.join(wrong)}; {_MEND}")


def _differ(ours: TensorSpec, theirs: TensorSpec) -> bool:
    if ours.dtype is not None and theirs.dtype is not None and ours.dtype != theirs.dtype:
        return True
    if ours.shape is None or theirs.shape is None:
        return False
    fixed = zip(ours.shape, theirs.shape, strict=False)
    return len(ours.shape) != len(theirs.shape) or any(
        isinstance(a, int) and isinstance(b, int) and a != b for a, b in fixed
    )
