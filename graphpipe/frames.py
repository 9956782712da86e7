"""Frames: columns of numbers and text under names, as pandas, polars and Arrow have them; into tensors, and back.

A model of several inputs gets the columns by their names, one of a single input all of them as one tensor ``[n,
columns]``. Libraries are known by what they offer: none is imported here, but pandas by whoever wants its frames back.

A column's numbers take the model's element type, as those of lists do: pandas makes float64 and int64 of whatever it
reads. What would be lost is refused, and nothing is guessed: no codes of categories, no seconds of dates, no zeros for
nulls.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeGuard

import numpy as np
from numpy.typing import NDArray

from graphpipe.arrays import array_of
from graphpipe.errors import InvalidRequest
from graphpipe.signature import Signature, TensorSpec
from graphpipe.wire.dtypes import dtype_name
from graphpipe.words import counted, listed, nearest, quoted

__all__ = ["Frame", "frame_of", "inputs_of", "is_frame", "tensor_of_one"]

Array = NDArray[Any]
Column = tuple[Any, Any]  # a name, which may be anything in pandas, and what is below it

_NUMBERS = "biuf"


class Frame(Protocol):
    """Whatever has columns: pandas' and polars' DataFrame, Arrow's Table."""

    @property
    def columns(self) -> Any:
        """The columns, or their names."""

    def __len__(self) -> int: ...

    def __getitem__(self, key: Any, /) -> Any: ...


def is_frame(value: object) -> TypeGuard[Frame]:
    """Whether a value is a frame of one of the libraries that are known."""
    # Of its class: what is yet to be computed (polars' LazyFrame) would begin to, and a class is no frame.
    return hasattr(type(value), "columns") and (_of_pandas(value) or _of_polars(value) or _of_arrow(value))


def inputs_of(frame: Frame, signature: Signature, cast: bool) -> dict[str, Array]:
    """A model's inputs by name, from a frame's columns.

    One that has several inputs, or takes any, gets each column ``[n]`` under its name, or ``[n, 1]`` where it takes two
    dimensions. One that has a single input gets all columns as ``tensor_of`` has them. ``cast`` allows whole numbers to
    be rounded.

    Raises InvalidRequest if columns are missing, are no input, or hold what a tensor cannot.
    """
    columns = _columns(frame)
    specs = _wanted(signature)
    if not specs or any(spec.repeated for spec in specs):
        _check_names([name for name, _ in columns])
        return {name: _plain(name, column) for name, column in columns}
    if len(specs) == 1 and [_key(name) for name, _ in columns] != [_key(specs[0].name)]:
        return {specs[0].name: tensor_of(frame, specs[0], cast)}
    _check_names([name for name, _ in columns])
    found = {_key(name): (name, column) for name, column in columns}
    others = [spec for spec in signature.inputs if spec not in specs and _key(spec.name) in found]
    _check_all_there([name for name, _ in columns], [*specs, *others])
    return {spec.name: _column(*found[_key(spec.name)], spec, cast) for spec in [*specs, *others]}


def tensor_of_one(frame: Frame, signature: Signature, name: Sequence[str], cast: bool) -> Array:
    """All columns of a frame as the input of that name, or as the only one that a model has. Raises InvalidRequest."""
    specs = _wanted(signature)
    if name:
        specs = [spec for spec in specs if _key(spec.name) == _key(name[0])] or [TensorSpec(name[0])]
    elif len(specs) > 1:
        raise InvalidRequest(
            f"execute sends one input, and the model has {len(specs)}: infer(df) sends the columns by their names, "
            f"{listed([spec.name for spec in specs])}"
        )
    return tensor_of(frame, specs[0] if specs else TensorSpec("0"), cast)


def tensor_of(frame: Frame, spec: TensorSpec, cast: bool) -> Array:
    """All columns of a frame, in their order, as one tensor ``[n, columns]``; a single one may be ``[n]`` as well.

    Raises InvalidRequest.
    """
    columns = _columns(frame)
    rank = None if spec.shape is None else len(spec.shape)
    if len(columns) == 1 and rank != 2 and rank is not None:
        return _column(*columns[0], spec, cast)
    if rank not in (None, 2):
        raise InvalidRequest(
            f"a frame of {counted(len(columns), 'column')} is one tensor [n, {len(columns)}], but the model takes {spec}"
        )
    width = spec.shape[1] if spec.shape is not None else None
    if isinstance(width, int) and width != len(columns):
        raise InvalidRequest(
            f"input {spec.name!r} takes {counted(width, 'column')}, and the frame has {len(columns)}: choose those that "
            "the model was trained with, in that order: df[['name', ...]]"
        )
    if (whole := _of_one_type(frame)) is not None:
        return _converted(whole, spec, "the frame", cast)
    arrays = [_converted(_plain(name, column), spec, f"column {name!r}", cast) for name, column in columns]
    texts = [str(name) for (name, _), array in zip(columns, arrays, strict=True) if array.dtype.kind == "O"]
    if texts and len(texts) < len(arrays):
        raise InvalidRequest(
            f"columns of text ({listed(texts)}) and of numbers make no one tensor; leave the ones or the others out"
        )
    if bad := next((name for (name, _), array in zip(columns, arrays, strict=True) if array.ndim != 1), None):
        raise InvalidRequest(f"column {bad!r} holds lists, which have no place in one tensor with other columns")
    if not arrays:
        return np.empty((len(frame), 0), spec.dtype or np.float64)
    return np.stack(arrays, axis=1, dtype=spec.dtype or np.result_type(*arrays), casting="unsafe")


def frame_of(outputs: Mapping[str, Array], like: object = None) -> Any:
    """A model's outputs as a frame: of the library of ``like``, with its index, if that is a frame; else pandas'.

    ``[n]`` and ``[n, 1]`` are one column under the output's name, ``[n, k]`` the columns ``name_0`` to ``name_{k-1}``.
    Text is text in it, where it is UTF-8.

    Raises ValueError for outputs that have no place in one frame, ImportError where there is no pandas.
    """
    rows = len(like) if is_frame(like) else None
    columns: dict[str, Any] = {}
    for name, output in outputs.items():
        for column, values in _columns_of(name, output):
            rows = len(values) if rows is None else rows
            if len(values) != rows:
                raise ValueError(
                    f"output {name!r} has {counted(len(values), 'row')}, but the frame has {rows}; {_without(name)}"
                )
            if column in columns:
                raise ValueError(f"two outputs make a column {column!r}; {_without(name)}")
            columns[column] = _readable(values)
    if is_frame(like) and _of_polars(like):
        return type(like)(columns)  # type: ignore[call-arg]
    if is_frame(like) and _of_arrow(like):
        return type(like).from_pydict(columns)  # type: ignore[attr-defined]
    try:
        pandas: Any = importlib.import_module("pandas")
    except ImportError as error:
        raise ImportError(
            "as_frame=True gives a frame of pandas, which is not installed: pip install pandas"
        ) from error
    return pandas.DataFrame(columns, index=getattr(like, "index", None) if is_frame(like) else None)


# --- frames, columns ---


def _of_pandas(value: object) -> bool:
    return hasattr(value, "iloc")


def _of_polars(value: object) -> bool:
    return hasattr(value, "get_columns")


def _of_arrow(value: object) -> bool:
    return hasattr(value, "itercolumns") and hasattr(value, "column_names")


def _columns(frame: Any) -> list[Column]:
    if _of_pandas(frame):
        return [(name, frame.iloc[:, place]) for place, name in enumerate(frame.columns)]
    if _of_polars(frame):
        return [(column.name, column) for column in frame.get_columns()]
    return list(zip(frame.column_names, frame.itercolumns(), strict=True))


def _of_one_type(frame: Any) -> Array | None:
    """The numbers of a frame that has one type of them, at once; None if it is not that."""
    if not _of_pandas(frame):
        return None
    kinds = set(frame.dtypes)
    kind = next(iter(kinds), None)
    if len(kinds) != 1 or not isinstance(kind, np.dtype) or kind.kind not in _NUMBERS:
        return None
    whole: Array = frame.to_numpy()
    return whole


def _plain(name: object, column: Any) -> Array:
    """A column as an array of numbers, or of text as objects. Raises InvalidRequest."""
    what = f"column {name!r}"
    array = array_of(column, what)
    if array.dtype.kind in "mM":
        raise InvalidRequest(
            f"{what} holds times ({array.dtype}), which have no type on the wire: send the number that the model was "
            "trained with, .astype('int64') say"
        )
    if array.dtype.kind not in _NUMBERS + "O":
        raise InvalidRequest(f"{what} holds {array.dtype}, which has no type on the wire")
    return array


def _column(name: object, column: Any, spec: TensorSpec, cast: bool) -> Array:
    """A column as the input that it is."""
    array = _converted(_plain(name, column), spec, f"column {name!r}", cast)
    if spec.shape is None or len(spec.shape) == array.ndim:
        return array
    if len(spec.shape) == array.ndim + 1 and (not isinstance(spec.shape[-1], int) or spec.shape[-1] == 1):
        return array[..., None]
    raise InvalidRequest(f"column {name!r} has shape {list(array.shape)}, but the model takes {spec}")


# --- which column is which input ---


def _wanted(signature: Signature) -> list[TensorSpec]:
    by_name = {spec.name: spec for spec in signature.inputs}
    return [by_name.get(name, TensorSpec(name)) for name in signature.input_names]


def _key(name: object) -> object:
    """``x`` and ``x:0`` are the same tensor to TensorFlow's callers."""
    return name.removesuffix(":0") if isinstance(name, str) else name


def _check_names(names: Sequence[object]) -> None:
    for name in names:
        if not isinstance(name, str):
            raise InvalidRequest(
                f"columns are inputs by their names, which are text; {name!r} is the name of one: set df.columns"
            )
    if len(twice := {name for name in names if names.count(name) > 1}):
        raise InvalidRequest(
            f"the frame has two columns of the name {min(map(repr, twice))}; inputs have one name each"
        )


def _check_all_there(names: Sequence[str], specs: Sequence[TensorSpec]) -> None:
    inputs = [spec.name for spec in specs]
    known = {_key(name) for name in inputs}
    missing = [name for name in inputs if _key(name) not in {_key(each) for each in names}]
    extra = [name for name in names if _key(name) not in known]
    if missing:
        more = f", and {listed(extra)} {_is_no(extra)}" if extra else ""
        hint = nearest(missing[0], extra) if extra else ""
        raise InvalidRequest(
            f"the frame has no column for the model's input{'s' if len(missing) > 1 else ''} {listed(missing)}{more}{hint}"
        )
    if extra:
        picked = ", ".join(map(quoted, inputs[:10]))
        raise InvalidRequest(
            f"the frame has {'a column' if len(extra) == 1 else 'columns'} {listed(extra)}, which {_is_no(extra)} of the "
            f"model; send those that are: df[[{picked}{', ...' if len(inputs) > 10 else ''}]]"
        )


def _is_no(names: Sequence[str]) -> str:
    return "is no input" if len(names) == 1 else "are no inputs"


# --- numbers ---


def _converted(array: Array, spec: TensorSpec, what: str, cast: bool) -> Array:
    """``array`` in the element type of an input. Raises InvalidRequest where something would be lost."""
    want = spec.dtype
    if want is None or array.dtype == want:
        return array
    if not array.size and "O" in (array.dtype.kind, want.kind):
        return array.astype(want)  # a column without rows is of no type: libraries call it one of objects
    came, expected = ("text" if array.dtype.kind == "O" else dtype_name(array.dtype)), dtype_name(want)
    if want.kind == "O":
        raise InvalidRequest(f"{what} is {came}, but the model takes text: .astype(str) makes text of it")
    if array.dtype.kind == "O":
        raise InvalidRequest(
            f"{what} is text, but the model takes {expected}: make numbers of it as it was done for training; nobody "
            "here can know how"
        )
    with np.errstate(all="ignore"):
        converted = array.astype(want)
        if want.kind == "f":
            lost = bool(np.any(np.isinf(converted) & ~np.isinf(array)))
            rounded = array.dtype.kind in "iu" and bool(np.any(np.abs(array.astype(np.float64)) > _exact_up_to(want)))
        else:
            lost, rounded = not np.array_equal(converted.astype(array.dtype), array) or _wraps(array, want), False
    if lost:
        hint = "" if want.kind == "f" or array.dtype.kind != "f" else ": round it first, if that is meant"
        if hint and np.isnan(array).any():
            hint = ": NaN, which is no whole number; fill them first, .fillna(0) say"
        raise InvalidRequest(f"{what} has values that {expected} cannot hold{hint}")
    if rounded and not cast:
        raise InvalidRequest(
            f"{what} has whole numbers over {_exact_up_to(want)}, which {expected} cannot hold exactly; cast=True rounds "
            "them"
        )
    return converted


def _exact_up_to(dtype: np.dtype[Any]) -> int:
    """Up to where each whole number is one of a type's floating-point numbers."""
    return 1 << (np.finfo(dtype).nmant + 1)


def _wraps(array: Array, want: np.dtype[Any]) -> bool:
    """Whether there and back is only the same because both ways go round: -1, as uint64."""
    if not array.size or want.kind == "b" or array.dtype.kind == "b":
        return False
    limits = np.iinfo(want)
    return bool(array.min() < limits.min or array.max() > limits.max)


# --- outputs ---


def _columns_of(name: str, output: Array) -> list[tuple[str, Array]]:
    if output.ndim == 1:
        return [(name, output)]
    if output.ndim == 2 and output.shape[1] == 1:
        return [(name, output[:, 0])]
    if output.ndim == 2:
        return [(f"{name}_{place}", output[:, place]) for place in range(output.shape[1])]
    raise ValueError(
        f"output {name!r} has shape {list(output.shape)}, which has no place in a frame: [n] and [n, k] have; "
        f"{_without(name)}"
    )


def _without(name: str) -> str:
    return f"leave as_frame out, or ask for other outputs than {name!r}"


def _readable(values: Array) -> Any:
    if values.dtype.kind != "O":
        return values
    try:
        return [item.decode() if isinstance(item, bytes) else item for item in values.tolist()]
    except UnicodeDecodeError:
        return values
