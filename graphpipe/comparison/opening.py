"""From what somebody names as models to those that can be asked: sources, functions, loaded models, clients."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from graphpipe.backends.find import default_name, kind_of, loaded
from graphpipe.backends.loaded import LoadedModel
from graphpipe.backends.options import LoadOptions
from graphpipe.backends.unused import Said, refuse_unused
from graphpipe.comparison.names import Names, names_of
from graphpipe.errors import LoadError
from graphpipe.problem import Problem
from graphpipe.signature import Signature

__all__ = ["Named", "Opened", "named", "opened"]


@dataclass(frozen=True, slots=True)
class Named:
    """A model by a name that no other has: a source, or something that is here already."""

    name: str
    thing: Any

    @property
    def source(self) -> str:
        """What it was made of, for people; a login in a URL is in no report."""
        if isinstance(self.thing, str | Path):
            return _without_login(self.thing)
        return (
            type(self.thing).__name__ if hasattr(self.thing, "infer") else getattr(self.thing, "__name__", "a function")
        )


def named(models: Mapping[str, Any] | Sequence[Any]) -> list[Named]:
    """The models, each with a name: what it is called in a mapping, or after its source. Raises ValueError for none."""
    if isinstance(models, Mapping):
        found = [Named(str(name), thing) for name, thing in models.items()]
    elif isinstance(models, str | Path) or not isinstance(models, Sequence):
        raise ValueError(
            f"expected a list of models, or a mapping from names to models; a {type(models).__name__} came"
        )
    else:
        short = [_name(thing) for thing in models]
        # Two files model.onnx in different folders are told apart by their paths.
        long = [_without_login(each) if isinstance(each, str | Path) and short.count(name) > 1 else name
                for each, name in zip(models, short, strict=True)]  # fmt: skip
        found = []
        for name, thing in zip(long, models, strict=True):
            taken = {each.name for each in found}
            again = next(i for i in range(1, len(long) + 2) if (name if i == 1 else f"{name} ({i})") not in taken)
            found.append(Named(name if again == 1 else f"{name} ({again})", thing))
    if not found:
        raise ValueError("there is no model to compare")
    return found


@dataclass(frozen=True, slots=True)
class Opened:
    """A model that can be asked, how its inputs and outputs are called, and what it takes."""

    name: str
    source: str
    model: Any
    names: Names
    signature: Signature


@contextmanager
def opened(
    models: Sequence[Named], problem: Problem | None, options: LoadOptions, said: Mapping[str, Said], backend: str = ""
) -> Iterator[tuple[list[Opened], Problem | None]]:
    """All models, and the problem that they answer: the one that is given, or that the first one, a package, was made for.
    What was opened here is closed at the end.

    Raises LoadError if one cannot be loaded, does not fit the problem, or takes other inputs than the first.
    """
    if said:
        sources = [each for each in models if isinstance(each.thing, str | Path)]
        refuse_unused([(each.name, kind_of(str(each.thing), backend), said) for each in sources])
    # As a server does: one thread for each call, whichever framework it is.
    options = replace(options, intra_threads=options.intra_threads or 1)
    found: list[Opened] = []
    with ExitStack() as stack:
        for each in models:
            model = each.thing
            if not callable(getattr(model, "execute_multi", None)):
                model = loaded(model, options, backend if isinstance(model, str | Path) else "", each.name)
                stack.callback(model.close)
            elif inspect.iscoroutinefunction(getattr(model, "infer", None)):
                raise LoadError(
                    f"{each.name}: models are asked one after the other; give a graphpipe.Client, or its URL"
                )
            inner = model.model if isinstance(model, LoadedModel) else model
            own = getattr(inner, "problem", None)
            if not found and problem is None and isinstance(own, Problem):
                problem = own
            if problem is not None:
                model = LoadedModel(problem.posed(inner, name=each.name), each.name)
            found.append(_opened(each, model, None if problem is not None or not found else found[0].signature))
        yield found, problem


def _opened(each: Named, model: Any, reference: Signature | None) -> Opened:
    """``reference`` is what the first model takes and gives, where names are to be found by it."""
    signature: Signature = model.signature
    if reference is not None:
        names = names_of(reference, signature, f"model {each.name!r}")
    else:
        outputs = {spec.name: spec.name for spec in signature.outputs}
        names = Names({spec.name: spec.name for spec in signature.inputs}, outputs or None)
    return Opened(each.name, each.source, model, names, signature)


def _without_login(source: str | Path) -> str:
    return re.sub(r"(?<=//)[^/]*@", "", str(source))


def _name(thing: Any) -> str:
    if isinstance(thing, str | Path):
        return default_name(_without_login(thing))
    own = getattr(thing, "name", "") or getattr(thing, "__name__", "")
    return own if isinstance(own, str) and own and own != "<lambda>" else type(thing).__name__
