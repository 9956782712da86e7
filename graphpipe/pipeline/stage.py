"""What may be said of one stage beside what it is."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from graphpipe.arguments import came
from graphpipe.backends.construction import paths_apart
from graphpipe.errors import LoadError
from graphpipe.words import quoted

__all__ = ["Stage", "checked_name"]

# It is a model's name on a server, behind the pipeline's and a point.
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


class Stage:
    """A stage of a pipeline: what it is, what it is called, and the names that its inputs and outputs have in the pipeline.

    ``what`` is what ``graphpipe.load`` takes, a Model, or another Pipeline. ``inputs`` and ``outputs`` are from the stage's
    own names to the pipeline's; a name that is not there is the same in both. ``options`` are those of ``graphpipe.load``
    (``isolate=2``, ``python="matx"``), and those of a server that are about one model (``batch_rows_max=32``,
    ``cache=True``), which do nothing in this process. What is a class is made once, with ``arguments`` by the names of its
    constructor's parameters, and ``files``, which it gets as paths; a ``pathlib.Path`` among the arguments is one of them.

        Stage("model.onnx", name="encoder", inputs={"input_ids": "ids"}, outputs={"last_hidden_state": "vectors"})
        Stage("words.py:Split", arguments={"lower": True}, files={"vocabulary": "vocab.txt"})

    Raises LoadError for a name that is none, and for arguments that cannot be.
    """

    def __init__(
        self,
        what: Any,
        name: str = "",
        inputs: Mapping[str, str] | None = None,
        outputs: Mapping[str, str] | None = None,
        *,
        arguments: Mapping[str, Any] | None = None,
        files: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        if isinstance(what, Stage):
            raise LoadError(f"{what!r} is a stage already")
        self.what = what
        self.name = checked_name(name) if name else ""
        self.inputs = _names(inputs, "inputs")
        self.outputs = _names(outputs, "outputs")
        plain, paths = paths_apart(arguments, files)
        self.arguments: Mapping[str, Any] = MappingProxyType(plain)
        self.files: Mapping[str, str] = MappingProxyType(paths)
        self.options: Mapping[str, Any] = MappingProxyType(dict(options))

    def named(self, name: str) -> Stage:
        """The same under another name."""
        return Stage(
            self.what, name, self.inputs, self.outputs, arguments=self.arguments, files=self.files, **self.options
        )

    def __repr__(self) -> str:
        shown = self.what if isinstance(self.what, str) else getattr(self.what, "__name__", type(self.what).__name__)
        return f"Stage({shown!r}{f', name={self.name!r}' if self.name else ''})"


def checked_name(name: object) -> str:
    """The name of a stage. Raises LoadError for what cannot be one."""
    if isinstance(name, str) and _NAME.fullmatch(name):
        return name
    said = quoted(name) if isinstance(name, str) else repr(name)[:100]
    raise LoadError(f"a stage's name has letters, digits, _ and -, at most 64 of them; {said} came")


def _names(said: object, what: str) -> Mapping[str, str]:
    if said is None:
        return MappingProxyType({})
    if not isinstance(said, Mapping):
        raise LoadError(
            f"a stage's {what} are a table from its own names to the pipeline's, {{'input_ids': 'ids'}}; {came(said)}"
        )
    for own, name in said.items():
        if not (isinstance(own, str) and own and isinstance(name, str) and name):
            raise LoadError(f"a stage's {what} are names for names; {own!r}: {name!r} came")
    return MappingProxyType(dict(said))
