"""Where calls come from: files, folders, frames, arrays, and the test cases of a problem."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

from graphpipe.arrays import array_of
from graphpipe.comparison.columns import Column, Held, of_npy, of_npz
from graphpipe.comparison.cut import Call, Cut, rows_named, split
from graphpipe.frames import inputs_of, is_frame
from graphpipe.signature import Signature, TensorSpec, fitted
from graphpipe.words import quoted

__all__ = ["Source", "source_of"]

Array = NDArray[Any]

_FORMS = "expected x.npz, x.parquet, or a folder of .npz files (a call each) or of .npy files (an input each)"


class Source(Protocol):
    """Calls, from the first to the last, as often as somebody likes. ``calls`` is how many there are."""

    title: str
    calls: int

    def __iter__(self) -> Iterator[Call]: ...


def source_of(data: object, signature: Signature, batch: int = 1, truth: Sequence[str] = ()) -> Source:
    """The calls in ``data``: a path, a mapping of arrays by name, a frame, or a sequence of cases or mappings, a call each.

    ``signature`` says what is an input and how many rows a call may have; ``batch`` is how many it has then.
    ``truth`` names what is expected, where it is not simply all that is no input.

    Raises ValueError for data that is none, or does not fit; OSError.
    """
    if isinstance(data, str | Path):
        return _of_path(Path(data), signature, batch, truth)
    if is_frame(data):
        columns, expected = _of_frame(data, signature, truth)
        return _Arrays(columns, signature, batch, expected, "the frame")
    if isinstance(data, Mapping):
        arrays = _arrays(data, (*signature.inputs, *signature.outputs))
        return _Arrays({name: Held(array) for name, array in arrays.items()}, signature, batch, truth, "the data")
    if isinstance(data, Sequence) and data:
        _no_batch(batch, "a sequence of cases")
        return _Cases(data, signature, truth)
    raise ValueError(
        f"a {type(data).__name__} came as data; {_FORMS}, a mapping of arrays, a frame, or a sequence of mappings"
    )


def _of_path(path: Path, signature: Signature, batch: int, truth: Sequence[str]) -> Source:
    if path.is_dir():
        files = sorted(path.iterdir())
        if calls := [file for file in files if file.suffix.lower() == ".npz"]:
            _no_batch(batch, f"{path}: a folder of .npz files")
            return _Files(str(path), calls, signature, truth)
        if arrays := [file for file in files if file.suffix.lower() == ".npy"]:
            return _Arrays({file.stem: of_npy(file) for file in arrays}, signature, batch, truth, str(path))
        raise ValueError(f"{path}: no .npz and no .npy file is in this folder; {_FORMS}")
    if not path.exists():
        raise ValueError(f"{path}: no such file or folder; {_FORMS}")
    if path.suffix.lower() == ".npz":
        return _Arrays(of_npz(path), signature, batch, truth, str(path))
    if path.suffix.lower() == ".parquet":
        return _Parquet(path, signature, batch, truth)
    raise ValueError(f"{path} is no data that can be compared with; {_FORMS}")


def _no_batch(batch: int, what: str) -> None:
    if batch > 1:
        raise ValueError(f"{what} has a call in each, whole; leave the batch out")


class _Arrays:
    """Arrays by name, cut along their rows."""

    def __init__(
        self, columns: Mapping[str, Column], signature: Signature, batch: int, truth: Sequence[str], where: str
    ) -> None:
        self._cut = Cut(columns, signature, batch, truth, where)
        self.title, self.calls = where, self._cut.calls

    def __iter__(self) -> Iterator[Call]:
        return iter(self._cut)


class _Files:
    """A folder with an .npz file for each call, in the order of their names."""

    def __init__(self, title: str, files: Sequence[Path], signature: Signature, truth: Sequence[str]) -> None:
        self.title, self.calls = title, len(files)
        self._files, self._signature, self._truth = files, signature, truth

    def __iter__(self) -> Iterator[Call]:
        for file in self._files:
            columns = of_npz(file)
            inputs, truth = split(list(columns), self._signature, self._truth, str(file))
            yield _one(file.name, {n: columns[there].whole() for n, there in inputs.items()},
                       {n: columns[n].whole() for n in truth}, self._signature)  # fmt: skip


class _Cases:
    """A call for each of some mappings, or of a problem's cases."""

    def __init__(self, cases: Sequence[Any], signature: Signature, truth: Sequence[str]) -> None:
        self.title, self.calls = f"{len(cases)} cases", len(cases)
        self._cases, self._signature, self._truth = cases, signature, truth

    def __iter__(self) -> Iterator[Call]:
        for place, case in enumerate(self._cases):
            name = str(getattr(case, "name", "") or f"case {place}")
            if isinstance(case, Mapping):
                names, expected = split(list(case), self._signature, self._truth, name)
                given = {n: case[there] for n, there in names.items()}, {n: case[n] for n in expected}
            elif hasattr(case, "inputs") and hasattr(case, "outputs"):
                given = dict(case.inputs), dict(case.outputs)
            else:
                raise ValueError(f"{name} is a {type(case).__name__}; expected a mapping of arrays by name")
            inputs, truth = _arrays(given[0], self._signature.inputs), _arrays(given[1], self._signature.outputs)
            yield _one(name, inputs, truth, self._signature)


def _arrays(values: Mapping[str, Any], specs: Sequence[TensorSpec]) -> dict[str, Array]:
    """Values as arrays: lists and numbers in the types of the inputs and outputs that they are. Raises InvalidRequest."""
    dtypes = {spec.name: spec.dtype for spec in specs}
    return {str(name): fitted(value, dtypes.get(name), False, str(name)) for name, value in values.items()}


def _one(name: str, inputs: Mapping[str, Array], truth: Mapping[str, Array], signature: Signature) -> Call:
    """A call that came whole: its rows are the first axis of its inputs, where that is open."""
    specs = {spec.name: spec for spec in signature.inputs}
    rows = {
        array.shape[0]
        for n, array in inputs.items()
        if array.ndim
        and n in specs
        and (shape := specs[n].shape) is not None
        and shape
        and not isinstance(shape[0], int)
    }
    return Call(name, inputs, truth, rows.pop() if len(rows) == 1 else 1)


class _Parquet:
    """A Parquet file, read some rows at a time: columns are inputs by their names, or all together the only one."""

    _ROWS = 4096

    def __init__(self, path: Path, signature: Signature, batch: int, truth: Sequence[str]) -> None:
        try:
            self._parquet: Any = importlib.import_module("pyarrow.parquet")
            self._arrow: Any = importlib.import_module("pyarrow")
        except ImportError:
            raise ValueError(f"{path}: Parquet files need pyarrow: pip install pyarrow") from None
        self._path, self._signature, self._batch, self._truth = path, signature, batch, truth
        try:
            with self._parquet.ParquetFile(path) as file:
                rows = file.metadata.num_rows
        except self._arrow.ArrowInvalid as error:
            raise ValueError(f"{path}: no Parquet file: {str(error).splitlines()[0]}") from None
        if not rows:
            raise ValueError(f"{path}: there are no rows in it")
        first = next(iter(self._parts(self._batch)))
        self._batch = first.step  # the inputs may want another number
        self.title, self.calls = str(path), -(-rows // self._batch)

    def __iter__(self) -> Iterator[Call]:
        done = 0
        for part in self._parts(self._batch * max(1, self._ROWS // self._batch)):
            for call in part:
                at = done + (call.first_row or 0)
                yield Call(rows_named(at, call.rows), call.inputs, call.truth, call.rows, at)
            done += part.rows

    def _parts(self, rows: int) -> Iterator[Cut]:
        with self._parquet.ParquetFile(self._path) as file:
            for batch in file.iter_batches(batch_size=rows):
                frame = self._arrow.Table.from_batches([batch])
                columns, expected = _of_frame(frame, self._signature, self._truth)
                yield Cut(columns, self._signature, self._batch, expected, str(self._path))


def _of_frame(frame: Any, signature: Signature, truth: Sequence[str]) -> tuple[dict[str, Column], list[str]]:
    """The inputs and what is expected in a frame, and the names of the latter."""
    names = [str(name) for name in getattr(frame, "column_names", None) or list(frame.columns)]
    wanted = signature.input_names
    known = {name.removesuffix(":0") for name in (spec.name for spec in signature.inputs)}
    among = [name for name in names if name.removesuffix(":0") in known]
    if len(wanted) == 1 and not among:
        # All columns side by side are the one input, but those that are called as outputs are.
        outputs = {spec.name.removesuffix(":0") for spec in signature.outputs}
        expected = list(truth) or [name for name in names if name.removesuffix(":0") in outputs]
        chosen = [name for name in names if name not in expected]
    else:
        inputs, expected = split(names, signature, truth, "the frame")
        chosen = list(inputs.values())
    if lacking := [name for name in expected if name not in names]:
        raise ValueError(f"the frame has no column {quoted(lacking[0])}")
    arrays = inputs_of(_chosen(frame, chosen), signature, cast=False)
    arrays |= {name: array_of(frame[name], repr(name)) for name in expected}
    return {name: Held(array) for name, array in arrays.items()}, expected


def _chosen(frame: Any, names: Sequence[str]) -> Any:
    return frame.select(list(names)) if hasattr(frame, "select") else frame[list(names)]
