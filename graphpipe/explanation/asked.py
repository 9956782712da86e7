"""What a model is asked when it is explained, where nobody says it; and what becomes of one that does not take that."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from graphpipe.backends.failure import in_words
from graphpipe.backends.loaded import LoadedModel
from graphpipe.bench.requests import Request
from graphpipe.errors import GraphPipeError, ModelFailed
from graphpipe.explanation.explained import Explained
from graphpipe.explanation.explaining import explain
from graphpipe.signature import TensorSpec
from graphpipe.words import first_line

__all__ = ["explained", "open_sizes", "specs_of"]

Shape = tuple[int, ...]

# How large an axis is, the rows aside, that a model leaves open and nobody says the size of.
_OPEN_SIZE = 16


def specs_of(model: LoadedModel) -> list[TensorSpec]:
    """The inputs that are sent where nobody says which."""
    by_name = {spec.name: spec for spec in model.signature.inputs}
    return [by_name.get(name, TensorSpec(name)) for name in model.signature.input_names]


def open_sizes(specs: Sequence[TensorSpec], batch: int, said: Mapping[str, Shape]) -> Iterator[tuple[str, Shape]]:
    """Shapes for the inputs that leave more than their rows open: what nobody ``said`` is of one size."""
    known: dict[str, int] = {}
    for spec in specs:
        if spec.name in said and spec.shape is not None:
            pairs = zip(spec.shape, said[spec.name], strict=False)
            known |= {dim: size for dim, size in pairs if isinstance(dim, str)}
    for spec in specs:
        if spec.shape is None or spec.name in said:
            continue
        if all(isinstance(dim, int) for dim in spec.shape[1:]):
            continue
        rows = spec.shape[0]
        yield spec.name, tuple([
            dim if isinstance(dim, int)
            else known[dim] if isinstance(dim, str) and dim in known
            else batch if axis == 0 or (dim is not None and dim == rows)
            else _OPEN_SIZE
            for axis, dim in enumerate(spec.shape)
        ])  # fmt: skip


def explained(model: LoadedModel, request: Request, runs: int, *, kind: str, made_up: bool, mend: str) -> Explained:
    """The model asked ``request``. One that does not take what was ``made_up`` is explained without times, with why, and how
    to ``mend`` it.

    Raises what the model does with what somebody gave it.
    """
    try:
        return explain(model, request, runs, kind=kind)
    except GraphPipeError as error:
        inner = _innermost(error) if isinstance(error, ModelFailed) else None
        # The model is the caller's own: there is no server's log to look it up in.
        said = first_line(error) if inner is None else f"{first_line(error)}: {in_words(inner)}"
        if not made_up and inner is None:
            raise
        if not made_up:
            raise ModelFailed(said) from inner
        why = f"it does not take what is made up ({request}): {said}; say what it takes: {mend}"
        return explain(model, None, 0, kind=kind, unmeasured=why)


def _innermost(error: BaseException) -> BaseException | None:
    """What an error began with; None if it is that itself."""
    cause = error.__cause__
    while cause is not None and cause.__cause__ is not None:
        cause = cause.__cause__
    return cause
