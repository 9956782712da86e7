"""What a traced function has in its hands in place of arrays: it can be given to a stage, and returned, and no more."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NoReturn, Protocol

from graphpipe.backends.called import Callee
from graphpipe.errors import TraceError

__all__ = ["Recorder", "Traced"]


class Recorder(Protocol):
    """What the values of one trace belong to."""

    def record(self, callee: Callee, inputs: Mapping[str, Any]) -> Any:
        """Note that a stage is called with these, and give what the call gives."""
        ...

    def refuse(self, said: str) -> TraceError:
        """The error that says so, with the user's line; it is remembered, so that nobody passes over it."""
        ...


class Traced:
    """A value of a trace: an input, or what a stage gave, with what it is for the example."""

    __slots__ = ("__weakref__", "_name", "_recorder", "_stage", "_value")

    def __init__(self, recorder: Recorder, name: str, stage: str, value: Any) -> None:
        self._recorder = recorder
        self._name = name
        # Empty for an input.
        self._stage = stage
        self._value = value

    def __repr__(self) -> str:
        return f"<{_said(self)} of a trace>"

    def __graphpipe_record__(self, callee: Callee, inputs: Mapping[str, Any]) -> Any:
        return self._recorder.record(callee, inputs)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)  # tools look for many
        raise self._recorder.refuse(f"{_said(self)}: its {name!r} is another one in each request; {_MEND}")

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in Traced.__slots__:
            raise self._recorder.refuse(f"{_said(self)}: nothing can be kept in it; {_MEND}")
        object.__setattr__(self, name, value)

    # It is itself, whatever it is for the example.
    __hash__ = object.__hash__


_MEND = "what is to be computed with it belongs into a stage: @graphpipe.stage"


def _said(traced: Traced) -> str:
    name = object.__getattribute__(traced, "_name")
    stage = object.__getattribute__(traced, "_stage")
    return f"{name!r} of stage {stage!r}" if stage else f"input {name!r}"


def _refusing(what: str) -> Callable[..., NoReturn]:
    def refuse(self: Traced, *args: Any, **keywords: Any) -> NoReturn:
        raise self._recorder.refuse(f"{_said(self)}: {what}; {_MEND}")

    return refuse


def _refusing_of_class(what: str) -> classmethod[Any, Any, NoReturn]:
    # PyTorch asks the class, and the values are among what it hands over.
    def refuse(cls: type, function: Any, types: Any, args: Any = (), keywords: Any = None) -> NoReturn:
        values = [*args, *(keywords or {}).values()]
        traced = next((each for each in values if isinstance(each, Traced)), None)
        said = f"{what}; {_MEND}"
        raise TraceError(said) if traced is None else traced._recorder.refuse(f"{_said(traced)}: {said}")

    return classmethod(refuse)


_OPERATORS = (
    "add", "sub", "mul", "truediv", "floordiv", "mod", "divmod", "pow", "matmul", "lshift", "rshift", "and", "or", "xor",
)  # fmt: skip
_REFUSED = {
    "whether it is true depends on the data": ("bool",),
    "how long it is depends on the data": ("len", "length_hint"),
    "its elements depend on the data: nobody can go through them": ("iter", "next", "reversed", "aiter"),
    "what is in it depends on the data": ("contains",),
    "it is compared, which depends on the data": ("eq", "ne", "lt", "le", "gt", "ge"),
    "a number of it depends on the data": (
        "int", "float", "complex", "index", "round", "trunc", "floor", "ceil", "bytes",
    ),
    "a part of it is taken, and only stages compute": ("getitem", "setitem", "delitem"),
    "something is computed with it, and only stages compute": (
        *_OPERATORS, *(f"r{each}" for each in _OPERATORS), *(f"i{each}" for each in _OPERATORS),
        "neg", "pos", "abs", "invert",
    ),
    "it is called, and it is a value": ("call",),
    "it is given to numpy, and only stages compute": ("array", "array_ufunc", "array_function"),
    "it is given to another library, and only stages compute": ("dlpack", "dlpack_device", "arrow_c_array"),
    "it is copied, or sent to another process": ("copy", "deepcopy", "reduce_ex"),
    "it is a text now, and its text depends on the data": ("str", "format"),
}  # fmt: skip
for _what, _names in _REFUSED.items():
    for _name in _names:
        setattr(Traced, f"__{_name}__", _refusing(_what))
setattr(Traced, "__torch_function__", _refusing_of_class("it is given to PyTorch, and only stages compute"))  # noqa: B010
