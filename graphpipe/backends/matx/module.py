"""A saved module, loaded: only where MATXScript is installed."""

from __future__ import annotations

import contextlib
import importlib
import json
import logging
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from graphpipe.backends.matx.failure import what_it_says
from graphpipe.backends.matx.spec import Takes, inputs_of
from graphpipe.backends.matx.values import given, taken
from graphpipe.backends.options import LoadOptions
from graphpipe.backends.python.calling import FunctionModel
from graphpipe.backends.python.calling import Takes as Called
from graphpipe.backends.sidecar import Sidecar, beside, by_order
from graphpipe.errors import LoadError
from graphpipe.problem import Problem
from graphpipe.signature import Signature
from graphpipe.sources.digest import digest_of
from graphpipe.words import first_line

__all__ = ["MatxModel", "open_folder"]

Array = NDArray[Any]

_TEXTS = ("bytes", "str")


class MatxModel:
    """A module's ``run``. It holds the interpreter's lock all the time, so that one call at once is all there is."""

    kind = "MATXScript"
    threads = 1
    # Values are copied on their way into a module, and out of it.
    shares_memory = False

    def __init__(
        self, folder: Path, matx: Any, module: Any, signature: Signature, takes: Mapping[str, Takes], as_str: frozenset[str],
        version: str, description: str,
    ) -> None:  # fmt: skip
        self._folder, self._matx, self._module = folder, matx, module
        self._takes, self._as_str = takes, as_str
        self.signature = signature
        self.version = version
        self.description = description
        self.runtime = f"matxscript {matx.__version__}"
        self._named = FunctionModel(self._run, signature, Called(positional=False, config=False, timeout_s=False))

    def infer(
        self, inputs: Mapping[str, Array], outputs: Sequence[str] | None = None, *, config: str = ""
    ) -> dict[str, Array]:
        """Run the module once."""
        return self._named.infer(inputs, outputs, config=config)

    def _run(self, /, **inputs: Array) -> Any:
        matx, takes = self._matx, self._takes
        values = {name: taken(matx, name, array, takes[name], name in self._as_str) for name, array in inputs.items()}
        try:
            result = self._module.run(values)
        except Exception as error:
            # Its own text begins with pages of C++.
            raise RuntimeError(what_it_says(error, self._folder)) from None
        return given(matx, result)

    def close(self) -> None:
        """Let go of the module."""
        self._module = None


def open_folder(folder: Path, options: LoadOptions, problem: Problem | None = None) -> MatxModel:
    """The model of a saved module's folder. What the module does not say of its inputs and outputs, and no file beside it
    does, the problem says that it is to answer. Raises LoadError.
    """
    spec = folder / "model.spec.json"
    takes = inputs_of(spec)
    try:
        with _quiet():
            matx = importlib.import_module("matx")
    except Exception as error:
        raise LoadError(f"{folder}: MATXScript is installed, but cannot be imported: {first_line(error)}") from error
    libraries = _libraries(folder, options)
    try:
        # Their operators are known by name from then on, in all of this process.
        matx.pipeline.load_ops([str(each) for each in libraries])
        module = matx.load(str(folder.absolute()), _device(folder, options.device))
    except Exception as error:
        raise LoadError(f"{folder}: MATXScript cannot load it: {what_it_says(error, folder)}") from None
    described = beside(spec)
    text = described.read_bytes() if described.is_file() else b"{}"
    sidecar = Sidecar.read(text, described)
    _refuse_strangers(described, sidecar, takes)
    inputs = {spec.name: spec for spec in sidecar.inputs or (problem.inputs if problem else ())}
    outputs = sidecar.outputs
    if outputs is None:
        # What a module gives has no names of its own; those that are asked for are taken in order.
        outputs = problem.outputs if problem else by_order(options.outputs or (), None)
    try:
        signature = Signature(
            tuple(inputs.get(name) or kind.spec(name) for name, kind in takes.items()),
            outputs,
            open_outputs=not outputs,
        ).with_defaults(options.inputs, options.outputs)
    except ValueError as error:
        raise LoadError(f"{folder}: {error}") from None
    return MatxModel(
        folder, matx, module, signature, takes, _as_str(text, described), digest_of(folder, *libraries),
        sidecar.description or "MATXScript module",
    )  # fmt: skip


def _refuse_strangers(place: Path, sidecar: Sidecar, takes: Mapping[str, Takes]) -> None:
    for spec in sidecar.inputs or ():
        if spec.name not in takes:
            raise LoadError(f"{place}: there is no input {spec.name!r}; there are {', '.join(map(repr, takes))}")


def _libraries(folder: Path, options: LoadOptions) -> list[Path]:
    """Libraries of operators: those that were named, and those that lie beside the spec."""
    named = [Path(each).absolute() for each in options.custom_ops]
    for each in named:
        if not each.is_file():
            raise LoadError(f"{folder}: there is no library {each}")
    return [*named, *sorted(each.absolute() for each in folder.glob("*.so"))]


def _device(folder: Path, said: str) -> int:
    if said in ("", "cpu"):
        return -1
    match = re.fullmatch(r"cuda(?::(\d{1,4}))?", said)
    if match is None:
        raise LoadError(f"{folder}: --device {said}: expected cpu or cuda:NUMBER")
    return int(match[1] or 0)


def _as_str(text: bytes, place: Path) -> frozenset[str]:
    """The inputs whose texts are to be handed over as ``str``: of lists the module does not say it."""
    asked = {each["name"]: each.get("text", "bytes") for each in json.loads(text).get("inputs") or ()}
    for name, kind in asked.items():
        if kind not in _TEXTS:
            raise LoadError(f'{place}: input {name!r}: expected "text": "bytes" or "str"; {kind!r} came')
    return frozenset(name for name, kind in asked.items() if kind == "str")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """While MATXScript is imported: it warns of graphics cards that are not there, and takes over how errors are shown."""
    root, hook = logging.getLogger(), sys.excepthook
    listener = logging.NullHandler()  # without any, the first warning sets up another log beside ours
    root.addHandler(listener)
    root.addFilter(_is_no_word_of_its_own)  # and stays: at each error it warns of C++ that was elsewhere
    try:
        yield
    finally:
        root.removeHandler(listener)
        sys.excepthook = hook


def _is_no_word_of_its_own(record: logging.LogRecord) -> bool:
    return "/site-packages/matx/" not in record.pathname
