"""``graphpipe.explain``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import fields
from pathlib import Path
from typing import Any

from graphpipe.arguments import named_tensors, names
from graphpipe.backends.find import kind_of, loaded
from graphpipe.backends.loaded import LoadedModel
from graphpipe.backends.options import LoadOptions
from graphpipe.bench.requests import Request, given, synthetic
from graphpipe.explanation.asked import explained, open_sizes, specs_of
from graphpipe.explanation.document import as_json
from graphpipe.explanation.explained import Explained
from graphpipe.explanation.explaining import explain as look_at
from graphpipe.explanation.picture import svg
from graphpipe.explanation.table import as_text

__all__ = ["Explanation", "explain"]


class Explanation(Explained):
    """What ``graphpipe.explain`` found: ``parts``, the ``values`` between them, and times in seconds; ``print`` shows it."""

    def text(self) -> str:
        """Words and tables, as ``graphpipe explain`` prints them."""
        return as_text(self)

    def svg(self) -> str:
        """A picture, for light and dark pages."""
        return svg(self)

    def as_json(self) -> dict[str, Any]:
        """All of it as one object of JSON, times in milliseconds; docs/explaining.md has the names."""
        return as_json(self)

    def __str__(self) -> str:
        return self.text()


def explain(
    model: LoadedModel | Callable[..., Any] | str | Path,
    inputs: Mapping[str, Any] | None = None,
    *,
    outputs: Sequence[str] | None = None,
    config: str = "",
    cast: bool = False,
    batch: int = 1,
    shapes: Mapping[str, Sequence[int]] | None = None,
    seed: int = 0,
    runs: int = 20,
) -> Explanation:
    """Say what a model is made of, what goes between its parts, and where its time goes.

    ``model`` is a loaded one, a pipeline for example, or what ``graphpipe.load`` takes. It is asked ``inputs``, arrays by
    name, ``runs`` times after a first one that does not count; 0 asks nothing. Without inputs, values are made up from what
    it says it takes: ``batch`` rows, and ``shapes`` by input for what it leaves open, which is 16 otherwise. A model that
    does not take those is explained without times, and ``unmeasured`` says why.

        print(graphpipe.explain(pipeline, {"text": ["hello world"]}))
        pathlib.Path("digits.svg").write_text(graphpipe.explain("digits.onnx").svg())

    Raises LoadError, what the model says against ``inputs``, and ValueError for shapes that are not the model's.
    """
    for what, number, least in (("batch", batch, 1), ("runs", runs, 0)):
        if number < least:
            raise ValueError(f"{what} is {least} or more; {number} came")
    if inputs is not None and (shapes or batch > 1):
        raise ValueError("batch and shapes are for what is made up; inputs say what is asked")
    with ExitStack() as stack:
        if not isinstance(model, LoadedModel):
            # One thread a call, as on a server.
            model = stack.enter_context(loaded(model, LoadOptions(intra_threads=1)))
        known = kind_of(model.source, model.backend) if model.source else None
        kind = "" if known is None else known.backend
        if not runs:
            found = look_at(model, None, 0, kind=kind, unmeasured="runs=0")
        else:
            asked = names(outputs, "outputs", gaps=False)
            request = _request(model, inputs, asked, config, cast, batch, shapes or {}, seed)
            found = explained(model, request, runs, kind=kind, made_up=inputs is None, mend="inputs=, or shapes=")
    return Explanation(**{each.name: getattr(found, each.name) for each in fields(found)})


def _request(
    model: LoadedModel,
    inputs: Mapping[str, Any] | None,
    outputs: Sequence[str],
    config: str,
    cast: bool,
    batch: int,
    shapes: Mapping[str, Sequence[int]],
    seed: int,
) -> Request:
    specs = specs_of(model)
    if inputs is not None:
        values = [*named_tensors(inputs, known=model.signature.input_names).items()]
        return given(values, [*specs, *model.signature.inputs], cast, outputs, config)
    said = {name: tuple(shape) for name, shape in shapes.items()}
    return synthetic(specs, batch, {**said, **dict(open_sizes(specs, batch, said))}, seed, outputs, config)
