"""Python functions: ``module:function``, ``module:Class``, ``path/to/file.py:function``, or a function handed over as
it is.

    def scale(x, factor):                                            # named by its parameters, any types and shapes
        return x * factor

    @graphpipe.model(inputs={"x": "float32[n, 4]"}, outputs={"mean": "float32[n]"})      # or by a decorator
    def mean(x):
        return x.mean(axis=1)

    def mean(x: Annotated[NDArray[np.float32], "n", 4]) -> Annotated[NDArray[np.float32], "n"]: ...   # or by
    annotations

A function gets arrays by the names of its parameters, and gives an array, a tuple of several, or a dict of them; a list
is one array, with a row for each element. A parameter with a default is an input only if its annotation says so.
``config`` and ``timeout_s``, where a function has them, are what the caller sent, and the seconds that it will still
wait. A PyTorch module is a function too, and so is scikit-learn's ``model.predict``.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import re
import sys
import traceback
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, ValuesView
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from graphpipe.arrays import array_of, has_own_type
from graphpipe.backends.backend import Backend
from graphpipe.backends.find import adopted
from graphpipe.backends.model import Model
from graphpipe.backends.options import LoadOptions
from graphpipe.backends.project import module_of_file
from graphpipe.errors import InvalidRequest, LoadError
from graphpipe.signature import Signature, TensorSpec, fitted
from graphpipe.wire.dtypes import Type, type_of
from graphpipe.words import first_line, listed, quoted

__all__ = ["BACKEND", "FunctionModel", "model"]

Array = NDArray[Any]
F = TypeVar("F", bound=Callable[..., Any])
Specs = Mapping[str, str] | Sequence[str]

_ATTRIBUTE = "__graphpipe_signature__"
_NOT_INPUTS = ("config", "timeout_s")


def model(*, inputs: Specs | None = None, outputs: Specs | None = None, description: str = "") -> Callable[[F], F]:
    """Say what a function takes and gives.

    ``inputs`` and ``outputs`` have, by name, an element type and a shape: ``"float32[n, 4]"``, where a number is
    fixed, a word is any size, but the same wherever the word stands, and ``?`` is any size. ``"float32"`` alone is
    any shape, ``"string[n]"`` text (arrays of bytes), and ``"any"`` anything. Outputs may be given as bare names.
    """
    declared = _Declared(_specs(inputs), _specs(outputs), description)

    def mark(function: F) -> F:
        setattr(function, _ATTRIBUTE, declared)
        return function

    return mark


@dataclass(frozen=True, slots=True)
class _Declared:
    inputs: tuple[TensorSpec, ...] | None
    outputs: tuple[TensorSpec, ...] | None
    description: str = ""


class FunctionModel:
    """A Python function as a model. As safe in threads as the function is."""

    def __init__(
        self, function: Callable[..., Any], signature: Signature, takes: _Takes, description: str = ""
    ) -> None:
        self.function = function
        self._signature = signature
        self._takes = takes
        self._specs = {spec.name: spec for spec in signature.outputs}
        self.description = description

    @property
    def signature(self) -> Signature:
        """What it takes and gives."""
        return self._signature

    def infer(
        self,
        inputs: Mapping[str, Array],
        outputs: Sequence[str] | None = None,
        *,
        config: str = "",
        timeout_s: float | None = None,
    ) -> dict[str, Array]:
        """Call the function."""
        takes = self._takes
        more: dict[str, Any] = {}
        if takes.config:
            more["config"] = config
        if takes.timeout_s:
            more["timeout_s"] = timeout_s
        if takes.positional:
            # Callers name their inputs in any order.
            order = inputs if self._signature.variadic else [s.name for s in self._signature.inputs if s.name in inputs]
            result = self.function(*(inputs[name] for name in order), **more)
        else:
            result = self.function(**inputs, **more)
        return self._named(result, outputs)

    def _named(self, result: Any, outputs: Sequence[str] | None) -> dict[str, Array]:
        values = _by_name(result, list(self._specs))
        wanted = outputs or self._signature.output_names or tuple(values)
        for name in wanted:
            if name not in values:
                if self._signature.open_outputs:
                    raise InvalidRequest(f"there is no output {quoted(name)}; the function gave {listed(list(values))}")
                raise ValueError(f"the function gave {', '.join(map(repr, values))}, but not {name!r}")
        return {name: _array(values[name], name, self._specs.get(name)) for name in wanted}

    def close(self) -> None:
        """Close what the function belongs to, if it can be closed."""
        owner = getattr(self.function, "__self__", self.function)
        close = getattr(owner, "close", None)
        if callable(close) and not inspect.isclass(owner):
            close()


def _by_name(result: Any, names: Sequence[str]) -> Mapping[str, Any]:
    """What a function gave, by name: its own names, else the declared ones in order, else output_0, output_1, ...

    A tuple is several outputs. A list is one, with a row for each element, unless several are declared.
    """
    if isinstance(result, np.ndarray):
        values: Sequence[Any] = [result]
    elif isinstance(result, Mapping):
        # Frameworks have keys for what they did not make.
        return result if names else {name: value for name, value in result.items() if value is not None}
    elif isinstance(result, tuple) and hasattr(result, "_fields"):
        return dict(zip(result._fields, result, strict=True))
    elif is_dataclass(result) and not has_own_type(result):
        return {field.name: getattr(result, field.name) for field in fields(result)}
    else:
        result = list(result) if isinstance(result, Iterator | ValuesView) else result
        several = isinstance(result, tuple) or (isinstance(result, list) and len(names) > 1)
        values = result if several else [result]
    if not names:
        names = [f"output_{i}" for i in range(len(values))]
    if len(values) != len(names):
        raise ValueError(f"the function gave {len(values)} outputs, but declares {len(names)}: {', '.join(names)}")
    return dict(zip(names, values, strict=True))


def _array(value: Any, name: str, spec: TensorSpec | None) -> Array:
    what = f"output {name!r}"
    own = type(value) is np.ndarray and value.dtype.kind != "T"
    array: Array = value if own else _made_array(value, what, spec)
    if spec is None or spec.dtype is None:
        if type_of(array.dtype) is Type.NULL:
            raise ValueError(f"{what} is {array.dtype}, which has no type on the wire; leave it out, or convert it")
        return array
    if array.dtype == spec.dtype or (spec.dtype == object and array.dtype.kind in "OSU"):
        return array
    # Arithmetic widens types on its own, float32 to float64 say; what was declared is what callers get.
    if array.dtype.kind not in "OSU" and spec.dtype != object and np.can_cast(array.dtype, spec.dtype, "same_kind"):
        return array.astype(spec.dtype)
    raise ValueError(f"{what} is {array.dtype}, but was declared as {spec}")


def _made_array(value: Any, what: str, spec: TensorSpec | None) -> Array:
    """What a function gave in place of an array as one: a tensor, a column, a number, a list of any of them.

    Raises ValueError.
    """
    try:
        if not isinstance(value, list | tuple | Iterator):
            array = array_of(value, what)
        else:
            items = _plain(value, what)
            if not items and spec is not None and spec.dtype is not None:
                rest = [dim if isinstance(dim, int) else 0 for dim in (spec.shape or ())[1:]]
                return np.empty((0, *rest), spec.dtype)
            try:
                array = array_of(items, what)
            except InvalidRequest:
                shapes = sorted({np.shape(item) for item in items})
                if len(shapes) < 2:
                    raise
                shown = " and ".join(str(list(shape)) for shape in shapes[:2])
                raise ValueError(
                    f"{what} is a list whose elements have different shapes, {shown}; an array has rows of one shape, "
                    "and several outputs are a tuple"
                ) from None
            if spec is not None and spec.dtype is not None and {spec.dtype.kind, array.dtype.kind} <= set("iu"):
                array = fitted(items, spec.dtype, False, what)  # Python's numbers have no type of their own
    except InvalidRequest as error:
        raise ValueError(error.message) from error
    if array.dtype == object:
        strange = [item for item in array.reshape(-1) if not isinstance(item, str | bytes)]
        if strange:
            raise ValueError(f"{what} has an element of type {type(strange[0]).__name__}; numbers and text travel")
    return array


def _plain(values: Iterable[Any], what: str) -> list[Any]:
    """The elements, which may be lists or tensors of any framework, as what numpy can put together."""
    found: list[Any] = []
    for value in values:
        if isinstance(value, list | tuple | Iterator):
            found.append(_plain(value, what))
        elif isinstance(value, str | bytes | int | float | np.generic):
            found.append(value)
        else:
            array = array_of(value, what)
            found.append(value if array.dtype == object and not array.ndim else array)
    return found


# --- from a function to its signature ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Takes:
    """How a function is called."""

    positional: bool
    config: bool
    timeout_s: bool


def _adopt(thing: object, name: str, options: LoadOptions) -> Model:
    """The model that a function, or anything else that can be called, is. Raises LoadError."""
    if not callable(thing):
        raise LoadError(f"{name}: a {type(thing).__name__} is neither a function nor a model (signature, infer, close)")
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
    takes = _Takes(positional, *(any(p.name == word for p in parameters) for word in _NOT_INPUTS))
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


def _specs(given: Specs | None) -> tuple[TensorSpec, ...] | None:
    if given is None:
        return None
    if isinstance(given, str):
        given = [given]
    if isinstance(given, Mapping):
        return tuple(TensorSpec.of(name, text) for name, text in given.items())
    return tuple(TensorSpec(name) for name in given)


# --- from a source to a function --------------------------------------------------------------------------------------

_MODULE = re.compile(r"([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*):([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)")
_FILE = re.compile(r"(.+\.py):([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)")


def _matches(source: str) -> bool:
    return bool(_FILE.fullmatch(source) or _MODULE.fullmatch(source))


def _open(source: str, options: LoadOptions) -> Model:
    if match := _FILE.fullmatch(source):
        module = _module_of_file(source, Path(match[1]))
    elif match := _MODULE.fullmatch(source):
        module = _module(source, match[1])
    else:
        raise LoadError(f"{source}: expected module:function, module:Class or file.py:function")
    thing: Any = module
    for part in match[2].split("."):
        if not hasattr(thing, part):
            raise LoadError(f"{source}: {thing.__name__} has no {part!r}")
        thing = getattr(thing, part)
    return adopted(thing, source, options)


def _module(source: str, name: str) -> ModuleType:
    with contextlib.suppress(OSError):  # a folder that is gone has no modules
        folder = str(Path.cwd())
        if folder not in sys.path and "" not in sys.path:
            sys.path.append(folder)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(f"{error.name}.")):
            raise LoadError(
                f"{source}: there is no module {name!r}, neither in the current folder nor in what is installed"
            ) from None
        raise LoadError(f"{source}: {name} {_reason(error, Path.cwd())}") from error
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise LoadError(f"{source}: {name} {_reason(error, Path.cwd())}") from error


def _module_of_file(source: str, path: Path) -> ModuleType:
    if not path.is_file():
        raise LoadError(f"{path}: no such file")
    try:
        return module_of_file(path)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # sys.exit, too: whoever wrote the file wanted it to be a program
        raise LoadError(f"{source}: {path.name} {_reason(error, path.resolve().parent)}") from error


def _reason(error: BaseException, folder: Path) -> str:
    """Why a module cannot be imported, and where in the files of its folder."""
    if isinstance(error, SyntaxError):
        return f"is not Python: {error.msg} ({error.filename}:{error.lineno})"
    near = [frame for frame in traceback.extract_tb(error.__traceback__) if folder in Path(frame.filename).parents]
    where = f" ({near[-1].filename}:{near[-1].lineno})" if near else ""
    if isinstance(error, ModuleNotFoundError) and error.name:
        return f"needs {error.name}, which is not installed{where}"
    return f"raised {type(error).__name__}: {first_line(error)}{where}"


BACKEND = Backend("python", _matches, _open, _adopt)
