"""What can be a stage of a traced function: a function, a class, an object, a module, a model."""

from __future__ import annotations

import functools
import inspect
import sys
import threading
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar, overload

from numpy.typing import NDArray

from graphpipe.arguments import came
from graphpipe.backends.called import Callee, Form, called, form_of
from graphpipe.backends.construction import remember, remembered
from graphpipe.backends.find import adopting, load
from graphpipe.backends.loaded import LoadedModel
from graphpipe.backends.model import Model
from graphpipe.backends.options import LoadOptions
from graphpipe.backends.python.calling import FunctionModel
from graphpipe.pipeline.stage import checked_name

__all__ = ["Staged", "stage"]

K = TypeVar("K", bound=type)


@overload
def stage(what: K, /) -> K: ...
@overload
def stage(what: Any = None, /, *, name: str = "") -> Any: ...
def stage(what: Any = None, /, *, name: str = "") -> Any:
    """Make a stage of a function, a class, an object that can be called, a PyTorch module, or what ``graphpipe.load`` takes.

        @graphpipe.stage
        def split(text):
            return {"ids": ...}

        @graphpipe.stage
        class LookUp:
            def __init__(self, table): ...
            def __call__(self, words): ...

        encoder = graphpipe.stage(module)

    A stage that is called computes, on arrays as a server has them: text comes as bytes, and what a function returns,
    an array, a tuple or a dict, has arrays in it. In a function that ``graphpipe.trace`` runs, the call is recorded. Of a
    class the instances are stages: each knows what it was made with, so that it can be written down.

    ``name`` is what the stage is called, in place of its own name. Raises TypeError for what can be no stage.
    """
    if what is None:
        return functools.partial(stage, name=name)
    if name:
        checked_name(name)
    if isinstance(what, type):
        if name:
            raise TypeError(
                f"a class's stages are called after it; name one of them: graphpipe.stage({what.__name__}(...), "
                "name=...)"
            )
        return _of_class(what)
    if isinstance(what, str | Path):
        return load(what, name=name)
    if isinstance(what, LoadedModel) and not name:
        return what
    if isinstance(what, Staged):
        return Staged(what.what, name) if name else what
    if not callable(what) and not isinstance(what, Model):
        raise TypeError(f"a stage is a function, a class, an object that can be called, or a model; {came(what)}")
    if inspect.iscoroutinefunction(what):
        raise TypeError(f"{what.__name__} is an async function, which cannot be a stage; write a plain one")
    return Staged(what, name)


class Staged:
    """A function, an object or a module that is a stage (``graphpipe.stage``). ``what`` is the thing itself."""

    def __init__(self, what: Any, name: str = "") -> None:
        if hasattr(what, "__name__"):
            functools.update_wrapper(self, what)
        self.what = what
        self.__name__ = name or _name_of(what)
        self._runner: _Runner | None = None

    @property
    def __graphpipe_what__(self) -> Any:
        return self.what

    def __call__(self, /, *inputs: Any, **named: Any) -> Any:
        """Compute, or be recorded."""
        if self._runner is None:
            self._runner = _Runner(self.what, self.__name__)
        return called(self._runner.callee(self.what), inputs, named)

    def __set_name__(self, owner: type, name: str) -> None:
        if inspect.isfunction(self.what) and self.what.__qualname__ == f"{owner.__qualname__}.{name}":
            raise TypeError(
                f"{self.what.__qualname__} is a method, and no stage by itself: decorate the class, whose stages are "
                "its instances, and call it __call__"
            )

    def __reduce__(self) -> Any:
        found = getattr(sys.modules.get(getattr(self, "__module__", "")), self.__name__, None)
        return self.__name__ if found is self else (Staged, (self.what, self.__name__))

    def __repr__(self) -> str:
        return f"<stage {self.__name__}>"


class _Runner:
    """How a stage runs: as a model in this process, which gives what the thing itself gives. It does not hold the thing
    where ``held`` says so.
    """

    def __init__(self, what: Any, name: str, held: bool = True) -> None:
        model: Model = what.model if isinstance(what, LoadedModel) else adopting(what, name, LoadOptions())[0]
        self._noted: _Noted | None = None
        if isinstance(model, FunctionModel):
            self._noted = _Noted(model.function if held else weakref.ref(model.function), held)
            model = FunctionModel(self._noted, model.signature, model.takes, model.description)
        self._loaded = LoadedModel(model, name)

    def callee(self, what: Any) -> Callee:
        return Callee(what, self._loaded.name, self._loaded.signature, self._run)

    def _run(self, inputs: dict[str, Any]) -> tuple[dict[str, NDArray[Any]], Form]:
        outputs = self._loaded.infer(inputs)
        return outputs, form_of(self._loaded.signature) if self._noted is None else self._noted.form


class _Noted:
    """A function that notes, for each thread, in which form its last answer was."""

    def __init__(self, function: Any, held: bool) -> None:
        self._function, self._held = function, held
        self._last = threading.local()

    def __call__(self, /, *args: Any, **keywords: Any) -> Any:
        function = self._function if self._held else self._function()
        own = getattr(type(function).__call__, "__graphpipe_called__", None)
        result = function(*args, **keywords) if own is None else own(function, *args, **keywords)
        self._last.form = _form(result)
        return result

    @property
    def form(self) -> Form:
        form: Form = self._last.form
        return form


def _form(result: Any) -> Form:
    if isinstance(result, tuple) and hasattr(result, "_fields"):
        return functools.partial(_fields, type(result))
    if isinstance(result, Mapping):
        return dict
    if isinstance(result, tuple):
        return _several
    return _one


def _fields(kind: Any, values: Mapping[str, Any]) -> Any:
    return kind(**values)


def _several(values: Mapping[str, Any]) -> Any:
    return tuple(values.values())


def _one(values: Mapping[str, Any]) -> Any:
    """One array where there is one: a list of several that are declared is several, and so is a dataclass."""
    return next(iter(values.values())) if len(values) == 1 else dict(values)


def _name_of(what: Any) -> str:
    return str(
        getattr(what, "name", "") if isinstance(what, LoadedModel) else getattr(what, "__name__", type(what).__name__)
    )


# --- classes ----------------------------------------------------------------------------------------------------------


# By the instances' addresses: they may be compared by what they are, and may not have a place for it.
_runners: dict[int, tuple[Any, _Runner]] = {}


def _of_class(kind: Any) -> Any:
    """The class, whose instances know what they were made with and are recorded where they are called."""
    torch = sys.modules.get("torch")
    if torch is not None and issubclass(kind, torch.nn.Module):
        raise TypeError(
            f"{kind.__name__} is a class of PyTorch modules; make a stage of each: "
            f"graphpipe.stage({kind.__name__}(...))"
        )
    if isinstance(getattr(kind, "infer", None), Callable):  # type: ignore[arg-type]
        raise TypeError(
            f"{kind.__name__} is a class of models, with an infer: graphpipe.load({kind.__name__}) is a stage as it is"
        )
    own = getattr(kind, "__call__", None)  # noqa: B004 - what is called of its instances
    if not inspect.isfunction(own):
        raise TypeError(f"the class {kind.__name__} has no __call__, which computes: def __call__(self, text): ...")
    computes = getattr(own, "__graphpipe_called__", own)

    @functools.wraps(computes)
    def call(self: Any, /, *inputs: Any, **named: Any) -> Any:
        if type(self).__call__ is not call:
            return computes(self, *inputs, **named)  # a part of what a subclass computes
        return called(_runner_of(self).callee(self), inputs, named)

    call.__graphpipe_called__ = computes  # type: ignore[attr-defined]
    kind.__call__ = call
    begins = kind.__init__
    if begins is object.__init__:
        return kind
    signature = inspect.signature(begins)

    @functools.wraps(begins)
    def init(self: Any, /, *args: Any, **keywords: Any) -> None:
        # A subclass with a constructor of its own is made with something else.
        if type(self).__init__ is init and remembered(self) is None:
            _note(self, signature, args, keywords)
        begins(self, *args, **keywords)

    kind.__init__ = init
    return kind


def _note(made: Any, signature: inspect.Signature, args: Any, keywords: Any) -> None:
    try:
        bound = signature.bind(made, *args, **keywords).arguments
    except TypeError:
        return  # the constructor says it better
    values: dict[str, Any] = {}
    for place, (name, value) in enumerate(bound.items()):
        kind = signature.parameters[name].kind
        if place == 0:
            continue
        if kind is inspect.Parameter.VAR_KEYWORD:
            values.update(value)
        elif kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.POSITIONAL_ONLY):
            return  # arguments have names where they are written down
        else:
            values[name] = value
    remember(made, values)


def _runner_of(made: Any) -> _Runner:
    key = id(made)
    found = _runners.get(key)
    if found is not None and found[0]() is made:
        return found[1]
    runner = _Runner(made, type(made).__name__, held=False)
    _runners[key] = weakref.ref(made, lambda _: _runners.pop(key, None)), runner
    return runner
