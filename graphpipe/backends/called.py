"""A model, or a stage, that is called like a function: ``vectors = encoder(ids)``.

A call gives what the thing itself gives. Of a function that is an array, a tuple or a dict, whichever it returns; of a
model the array where it declares one output, else a dict by name; what nobody named (``output_0``) is a tuple.

A value that stands for one of a trace (``graphpipe.trace``) says so by a method, and is told of the call.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from numpy.typing import NDArray

from graphpipe.signature import Signature
from graphpipe.words import listed, nearest, quoted

__all__ = ["Callee", "Form", "called", "form_of"]

# From values by the outputs' names to what a call gives.
Form = Callable[[Mapping[str, Any]], Any]
_RECORD = "__graphpipe_record__"
_LOOKED_AT = 8  # of a list, which may be long
_UNNAMED = re.compile(r"output_\d+")


class Callee(NamedTuple):
    """What is called: what a pipeline would have as its stage, what it is called, what it takes, and how it is run."""

    what: Any
    name: str
    signature: Signature
    run: Callable[[dict[str, Any]], tuple[dict[str, NDArray[Any]], Form]]


def called(callee: Callee, args: Sequence[Any], keywords: Mapping[str, Any]) -> Any:
    """Call it with inputs in their order, or by name. Raises TypeError for inputs that it does not have."""
    inputs = _by_name(callee, args, keywords)
    for value in inputs.values():
        # One in a list is refused there.
        for each in (value, *value[:_LOOKED_AT]) if isinstance(value, list | tuple) else (value,):
            record = getattr(type(each), _RECORD, None)
            if record is not None:
                return record(each, callee, inputs)
    outputs, form = callee.run(inputs)
    return form(outputs)


def form_of(signature: Signature) -> Form:
    """What the call of a model with such a signature gives."""
    return _alone if len(signature.output_names) == 1 else _named


def _alone(values: Mapping[str, Any]) -> Any:
    return next(iter(values.values()))


def _named(values: Mapping[str, Any]) -> Any:
    if not all(map(_UNNAMED.fullmatch, values)):
        return dict(values)
    return _alone(values) if len(values) == 1 else tuple(values.values())


def _by_name(callee: Callee, args: Sequence[Any], keywords: Mapping[str, Any]) -> dict[str, Any]:
    signature = callee.signature
    names = [spec.name for spec in signature.inputs if not spec.repeated]
    if signature.variadic:
        names += [f"input_{i}" for i in range(len(names), len(args))]
    if len(args) > len(names):
        raise TypeError(f"stage {callee.name!r} takes {listed(names)}; {len(args)} inputs came")
    inputs = dict(zip(names, args, strict=False))
    for name, value in keywords.items():
        if name in inputs:
            raise TypeError(f"stage {callee.name!r}: input {quoted(name)} came twice, by its place and by its name")
        if name not in names and not signature.variadic:
            raise TypeError(
                f"stage {callee.name!r} has no input {quoted(name)}{nearest(name, names) or f'; it takes {listed(names)}'}; "
                "what is no tensor is for the constructor of a stage that is a class"
            )
        inputs[name] = value
    for name, value in inputs.items():
        if isinstance(value, Mapping):
            has = listed(list(map(str, value))) or "nothing"
            raise TypeError(
                f"stage {callee.name!r} takes {quoted(name)} as one array, and a dict of {has} came: "
                f"say which of it, [{str(next(iter(value), name))!r}]"
            )
    return inputs
