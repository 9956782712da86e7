"""What a function says of itself: its parameters, its annotations, its decorator; and the signature that makes."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, overload

import numpy as np

from graphpipe.arguments import came
from graphpipe.backends.foreign import neither
from graphpipe.backends.model import Model
from graphpipe.backends.options import LoadOptions
from graphpipe.backends.python.calling import FunctionModel, Takes
from graphpipe.errors import LoadError
from graphpipe.signature import Signature, TensorSpec

__all__ = ["adopt", "model"]

F = TypeVar("F", bound=Callable[..., Any])
Specs = Mapping[str, str] | Sequence[str]

_ATTRIBUTE = "__graphpipe_signature__"
_NOT_INPUTS = ("config", "timeout_s")


@overload
def model(function: F, /) -> F: ...
@overload
def model(*, inputs: Specs | None = None, outputs: Specs | None = None, description: str = "") -> Callable[[F], F]: ...
def model(
    function: Any = None, /, *, inputs: Specs | None = None, outputs: Specs | None = None, description: str = ""
) -> Any:
    """Say what a function takes and gives.

    ``inputs`` and ``outputs`` have, by name, an element type and a shape: ``"float32[n, 4]"``, where a number is
    fixed, a word is any size, but the same wherever the word stands, and ``?`` is any size. ``"float32"`` alone is
    any shape, ``"string[n]"`` text (arrays of bytes), and ``"any"`` anything. Both may be given as bare names instead:
    ``outputs="label"``, ``outputs=["label", "score"]``. Without anything, as ``@graphpipe.model``, the function speaks for
    itself.

    Raises TypeError, or ValueError for a type or shape that cannot be.
    """
    declared = _Declared(_specs(inputs, "inputs"), _specs(outputs, "outputs"), description)

    def mark(function: F) -> F:
        if not callable(function):
            raise TypeError(f"{_EXPECTED}; {came(function)} in place of a function")
        setattr(getattr(function, "__graphpipe_what__", function), _ATTRIBUTE, declared)
        return function

    return mark if function is None else mark(function)


_EXPECTED = (
    'graphpipe.model is a decorator: @graphpipe.model(inputs={"x": "float32[n, 4]"}, outputs={"y": "float32[n]"})'
)


@dataclass(frozen=True, slots=True)
class _Declared:
    inputs: tuple[TensorSpec, ...] | None
    outputs: tuple[TensorSpec, ...] | None
    description: str = ""


def adopt(thing: object, name: str, options: LoadOptions) -> Model:
    """The model that a function, or anything else that can be called, is. Raises LoadError."""
    if not callable(thing):
        raise LoadError(f"{name}: {neither(thing, name)}")
    if inspect.iscoroutinefunction(thing):
        raise LoadError(
            f"{name}: an async function cannot be served; write a plain one, it runs in a thread of its own"
        )
    return _function_model(thing, name, options)


def _function_model(function: Callable[..., Any], name: str, options: LoadOptions) -> Model:
    declared = getattr(function, _ATTRIBUTE, None) or getattr(type(function), _ATTRIBUTE, None) or _Declared(None, None)
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        parameters = []
        if declared.inputs is None:
            raise LoadError(
                f"{name}: Python does not know its parameters; name its inputs with @graphpipe.model"
            ) from None
    hints = _hints(function)
    accepted = [p for p in parameters if p.name not in _NOT_INPUTS]
    named = [p for p in accepted if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    any_number = not named and bool(accepted) and declared.inputs is None
    positional = any(p.kind in (p.POSITIONAL_ONLY, p.VAR_POSITIONAL) for p in accepted) or (
        declared.inputs is not None and not named
    )
    required = [p for p in named if p.default is p.empty or _is_array(hints.get(p.name))]
    inputs = declared.inputs
    if inputs is None:
        inputs = tuple(_spec_of_hint(p.name, hints.get(p.name)) for p in required)
        defaults: tuple[str, ...] | None = tuple(p.name for p in required if p.default is p.empty)
    else:
        defaults = None
        unknown = [spec.name for spec in inputs if spec.name not in {p.name for p in named}]
        if unknown and not positional and not any(p.kind is p.VAR_KEYWORD for p in accepted):
            raise LoadError(f"{name}: the function has no parameter {unknown[0]!r}, which is declared as an input")
    outputs = declared.outputs if declared.outputs is not None else _outputs_of_hint(hints.get("return"))
    if any_number:
        inputs = (TensorSpec("input", description="any number of tensors, any shape, any type", repeated=True),)
    try:
        signature = Signature(
            inputs, outputs, defaults if not any_number else None, variadic=any_number, open_outputs=not outputs
        ).with_defaults(options.inputs, options.outputs)
    except ValueError as error:
        raise LoadError(f"{name}: {error}") from None
    takes = Takes(positional, *(any(p.name == word for p in parameters) for word in _NOT_INPUTS))
    words = declared.description or (inspect.getdoc(function) or "" if _has_own_words(function) else "")
    return FunctionModel(function, signature, takes, words.strip().partition("\n")[0])


def _has_own_words(function: Callable[..., Any]) -> bool:
    # An instance without words of its own would show its class's, or those of some builtin.
    return inspect.isfunction(function) or inspect.ismethod(function)


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    target = function if _has_own_words(function) else getattr(function, "__call__", function)  # noqa: B004
    try:
        return typing.get_type_hints(target, include_extras=True)
    except Exception:
        return {}  # annotations are made for people too: what cannot be resolved says nothing to us


def _is_array(hint: Any) -> bool:
    return hint is not None and _spec_of_hint("", hint).dtype is not None


def _spec_of_hint(name: str, hint: Any) -> TensorSpec:
    """``NDArray[np.float32]`` gives a type; ``Annotated[NDArray[np.float32], "n", 4]`` gives a shape too."""
    shape: tuple[Any, ...] | None = None
    if typing.get_origin(hint) is typing.Annotated:
        hint, *dims = typing.get_args(hint)
        if dims and all(dim is None or isinstance(dim, int | str) for dim in dims):
            shape = tuple(None if dim == "?" else dim for dim in dims)
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        hint = next((each for each in typing.get_args(hint) if each is not type(None)), None)
    if typing.get_origin(hint) is np.ndarray:
        scalar = typing.get_args(typing.get_args(hint)[1])
        if scalar and isinstance(scalar[0], type) and issubclass(scalar[0], np.generic):
            dtype = np.dtype(scalar[0])
            return TensorSpec(name, np.dtype(object) if dtype.kind in "SU" else dtype, shape)
    return TensorSpec(name, None, shape)


def _outputs_of_hint(hint: Any) -> tuple[TensorSpec, ...]:
    """The outputs that a return annotation names: an array, a tuple of them, a TypedDict or a NamedTuple; else
    unknown.
    """
    if isinstance(hint, type) and (typing.is_typeddict(hint) or hasattr(hint, "_fields")):
        return tuple(_spec_of_hint(key, each) for key, each in typing.get_type_hints(hint, include_extras=True).items())
    hints = typing.get_args(hint) if typing.get_origin(hint) is tuple else (hint,)
    if not hints or not all(_is_array(each) for each in hints):
        return ()
    return tuple(_spec_of_hint(f"output_{i}", each) for i, each in enumerate(hints))


def _specs(given: Any, what: str) -> tuple[TensorSpec, ...] | None:
    if given is None:
        return None
    if isinstance(given, Mapping):
        for text in given.values():
            if not isinstance(text, str):
                raise TypeError(f'{what} has types and shapes by name, {{"x": "float32[n, 4]"}}; {came(text)} as one')
        return tuple(TensorSpec.of(name, text) for name, text in given.items())
    if isinstance(given, str):
        given = [name.strip() for name in given.split(",")] if "[" not in given else [given]
    if not isinstance(given, Sequence) or not all(isinstance(name, str) for name in given):
        raise TypeError(f'{what} is names, or types and shapes by name, {{"x": "float32[n, 4]"}}; {came(given)}')
    for name in given:
        if "[" in name or not name:
            raise ValueError(f'{what} has {name!r} where a name belongs; say both: {{"x": "float32[n, 4]"}}')
    return tuple(TensorSpec(name) for name in given)
