"""Tables: columns with names, from CSV, Parquet, or JSON's objects and lists of objects.

A column is the input of its name, in the type that the model takes. Where the model has one input, of another name, the
columns side by side are that one: [n, columns].
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphpipe.signature import TensorSpec
from graphpipe.words import listed, nearest

__all__ = ["SUFFIXES", "Table", "as_one", "by_input", "of_json", "table"]

SUFFIXES = (".csv", ".tsv", ".parquet")
_CELL_MAX = 2**31 - 1  # characters
_BOOLS = {"true": True, "1": True, "false": False, "0": False}


@dataclass(frozen=True, slots=True)
class Table:
    """Columns by name, each a list. ``texts``: they are a file's text, and what they mean is up to the model's types.

    ``headless``: the columns had no names, and are called 1, 2, 3.
    """

    where: str
    columns: Mapping[str, Any]
    texts: bool = False
    headless: bool = False

    def chosen(self, names: str) -> Table:
        """Of some columns, named with commas between them. Raises ValueError for one that is not there."""
        wanted = [name.strip() for name in names.split(",") if name.strip()]
        for name in wanted:
            if name not in self.columns:
                raise ValueError(
                    f"{self.where}: there is no column {name!r}{nearest(name, self.columns)}; {_have(self)}"
                )
        if not wanted:
            raise ValueError(f"{self.where}: name a column behind the colon; {_have(self)}")
        return Table(self.where, {name: self.columns[name] for name in wanted}, self.texts, self.headless)


def table(file: str) -> Table:
    """The table in a file, by its suffix. Raises ValueError for what is none."""
    return _parquet(file) if file.lower().endswith(".parquet") else _csv(file)


def of_json(value: Any, where: str) -> Any:
    """What JSON says: an object, or a list of them, as a table; anything else as it is. Raises ValueError."""
    if isinstance(value, dict):
        if not value:
            raise ValueError(f'{where}: an object without anything in it; expected columns by name: {{"x": [1, 2]}}')
        return Table(where, value)
    if not isinstance(value, list) or not any(isinstance(row, dict) for row in value):
        return value
    for i, row in enumerate(value):
        if not isinstance(row, dict):
            raise ValueError(f"{where}: row {i + 1} is no object, and others are")
        if row.keys() != value[0].keys():
            lacks = [*(value[0].keys() - row.keys()), *(row.keys() - value[0].keys())]
            raise ValueError(f"{where}: rows 1 and {i + 1} have other columns; {listed(lacks)} is in one of them only")
    return Table(where, {name: [row[name] for row in value] for name in value[0]})


def by_input(table: Table, specs: Sequence[TensorSpec], known: Mapping[str, TensorSpec]) -> list[tuple[str, object]]:
    """The table as the inputs of a model, with their names: ``specs`` are those it has to have, ``known`` all.

    Raises ValueError for columns that are no input, and cells that no tensor can have. What is missing is the model's to
    say: it may have defaults.
    """
    _check_names(table)
    anything = not specs or any(spec.repeated for spec in specs)
    if len(specs) == 1 and not anything and (specs[0].name not in table.columns or _as_wide(specs[0], table)):
        return [(specs[0].name, as_one(table, specs[0]))]
    takes = f"the model takes {listed(list(known))}"
    if table.headless:
        raise ValueError(f"{table.where}: its first line is numbers, and no names of columns; {takes}")
    unknown = [] if anything else [name for name in table.columns if name not in known]
    if unknown:
        rest = ",".join(name for name in table.columns if name in known)
        them = "it" if len(unknown) == 1 else "them"
        way = f"; leave {them} out: --input {table.where}:{rest}" if rest and table.where.endswith(SUFFIXES) else ""
        raise ValueError(
            f"{table.where}: {_columns(unknown)} no input of the model{nearest(unknown[0], known)}; {takes}{way}"
        )
    return [
        (name, _shaped(_cells(table, name, spec), spec))
        for name in table.columns
        for spec in [known.get(name, TensorSpec(name))]
    ]


def as_one(table: Table, spec: TensorSpec) -> object:
    """All columns side by side as one input: [n, columns], or what one column is. Raises ValueError if they do not fit."""
    _check_names(table)
    names = list(table.columns)
    if len(names) == 1:
        return _shaped(_cells(table, names[0], spec), spec)
    wide = spec.shape[-1] if spec.shape else None
    if spec.shape is not None and len(spec.shape) != 2:
        raise ValueError(f"{table.where}: {len(names)} columns are [n, {len(names)}], but the model takes {spec}")
    if isinstance(wide, int) and wide != len(names):
        raise ValueError(f"{table.where}: {len(names)} columns ({listed(names)}), but the model takes {wide}: {spec}")
    columns = [_cells(table, name, spec) for name in names]
    columns = [column if isinstance(column, list) else [column] for column in columns]
    for name, column in zip(names, columns, strict=True):
        if len(column) != len(columns[0]):
            raise ValueError(
                f"{table.where}: column {name!r} has {_rows(len(column))}, and {names[0]!r} {len(columns[0])}"
            )
    return [list(row) for row in zip(*columns, strict=True)]


def _check_names(table: Table) -> None:
    """Raises ValueError for a column without a name: pandas' row numbers, as a rule, which no model was trained with."""
    if "" in table.columns:
        rest = ",".join(name for name in table.columns if name)
        way = f"; leave it out: --input {table.where}:{rest}" if rest and table.where.endswith(SUFFIXES) else ""
        raise ValueError(
            f"{table.where}: column {list(table.columns).index('') + 1} has no name (pandas' index, perhaps, which "
            f"to_csv(index=False) does not write){way}"
        )


def _as_wide(spec: TensorSpec, table: Table) -> bool:
    """Whether an input has as many columns as the table has, and more than one."""
    return spec.shape is not None and len(spec.shape) == 2 and 1 < len(table.columns) == spec.shape[1]


def _cells(table: Table, name: str, spec: TensorSpec) -> Any:
    """A column as what the model takes. Raises ValueError for cells that are empty or cannot be read."""
    cells = table.columns[name]
    if not isinstance(cells, list):
        return cells
    empty = next((i for i, cell in enumerate(cells) if cell is None or (table.texts and not cell.strip())), None)
    text = spec.dtype is not None and spec.dtype.kind == "O"
    if empty is not None and not (text and cells[empty] is not None):
        raise ValueError(
            f"{table.where}: row {empty + 1} of column {name!r} is empty, and a tensor has no empty places; fill it first"
        )
    return _read(table.where, name, cells, spec.dtype) if table.texts else cells


def _read(where: str, name: str, cells: list[str], dtype: np.dtype[Any] | None) -> list[Any]:
    """Cells of text as what an element type is; where it is not known, as numbers if all of them are."""
    if dtype is None:
        for kind in (_int, _float):
            try:
                return [kind(cell) for cell in cells]
            except ValueError:
                continue
        return list(cells)
    readers: dict[str, tuple[Callable[[str], Any], str]] = {
        "O": (str, ""),
        "b": (lambda cell: _BOOLS[cell.strip().lower()], "true or false"),
        "f": (_float, "a number"),
    }
    read, expected = readers.get(dtype.kind, (_whole, "a whole number"))
    values = []
    for i, cell in enumerate(cells):
        try:
            values.append(read(cell))
        except (ValueError, KeyError):
            raise ValueError(
                f"{where}: row {i + 1} of column {name!r} is {cell[:100]!r}, and the model takes {expected} ({dtype}) there"
            ) from None
    return values


def _shaped(cells: Any, spec: TensorSpec) -> Any:
    """A column [n] as the model takes it: [n, 1] where it has two axes; a row's one value as a column of one."""
    if spec.shape is None:
        return cells
    if not isinstance(cells, list):
        cells = [cells] if spec.shape else cells
    flat = isinstance(cells, list) and not any(isinstance(cell, list) for cell in cells)
    if flat and len(spec.shape) == 2 and (spec.shape[1] == 1 or not isinstance(spec.shape[1], int)):
        return [[cell] for cell in cells]
    return cells


def _csv(file: str) -> Table:
    with open(file, encoding="utf-8-sig", newline="") as stream:
        try:
            first = stream.readline()
            stream.seek(0)
            # Spreadsheets put semicolons where a comma is the decimal point.
            # Strictly: a quote that is not closed would take the rest of the file for its cell, which may be a long one.
            csv.field_size_limit(_CELL_MAX)
            reader = csv.reader(stream, delimiter=max(",;\t", key=first.count), strict=True)
            rows = [row for row in reader if row]
        except UnicodeDecodeError as error:
            raise ValueError(
                f"{file}: no CSV in UTF-8 ({error.reason} at byte {error.start}); save it as UTF-8"
            ) from None
        except csv.Error as error:
            raise ValueError(f"{file}: no CSV: {error}") from None
    if not rows:
        raise ValueError(f"{file}: no line is in it; expected the columns' names, and rows")
    names = [name.strip() for name in rows[0]]
    headless = all(map(_is_number, names))
    if headless:
        names = [str(i + 1) for i in range(len(names))]
    else:
        rows = rows[1:]
    if len(set(names)) < len(names):
        twice = next(name for i, name in enumerate(names) if name in names[:i])
        raise ValueError(f"{file}: two columns are called {twice!r}")
    for i, row in enumerate(rows):
        if len(row) != len(names):
            cells = f"{len(row)} cell{'' if len(row) == 1 else 's'}"
            columns = f"{len(names)} column{'' if len(names) == 1 else 's'}"
            raise ValueError(f"{file}: row {i + 1} has {cells}, and there are {columns}")
    return Table(file, {name: [row[i] for row in rows] for i, name in enumerate(names)}, texts=True, headless=headless)


def _parquet(file: str) -> Table:
    try:
        from pyarrow import parquet
        from pyarrow.lib import ArrowException
    except ImportError:
        raise ValueError(f"{file}: Parquet files need pyarrow: pip install pyarrow") from None
    try:
        # A folder beside the file says nothing of its columns.
        read = parquet.read_table(file, partitioning=None)
    except (ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # it cannot be opened
            raise
        raise ValueError(f"{file}: no Parquet file: {str(error).splitlines()[0]}") from None
    names = read.column_names
    if not names:
        raise ValueError(f"{file}: no column is in it")
    return Table(file, {name: read.column(name).to_pylist() for name in names})


def _whole(cell: str) -> int:
    try:
        return _int(cell)
    except ValueError:
        if (number := _float(cell)).is_integer():  # as pandas writes integers that had gaps once
            return int(number)
        raise


def _int(cell: str) -> int:
    return int(_as_written(cell))


def _float(cell: str) -> float:
    return float(_as_written(cell))


def _as_written(cell: str) -> str:
    """A cell that may be a number. Raises ValueError for one that is a number to Python alone: ``1_000``."""
    if "_" in cell:
        raise ValueError(cell)
    return cell


def _is_number(text: str) -> bool:
    try:
        _float(text)
    except ValueError:
        return False
    return True


def _columns(names: Sequence[str]) -> str:
    return f"column {listed(names)} is" if len(names) == 1 else f"columns {listed(names)} are"


def _have(table: Table) -> str:
    names = list(table.columns)
    return f"its column{' is' if len(names) == 1 else 's are'} {listed(names)}"


def _rows(count: int) -> str:
    return f"{count} row{'' if count == 1 else 's'}"
