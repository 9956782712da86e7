"""A problem as a table of text, numbers, lists and tables: what a file of any format holds."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphpipe.arguments import came
from graphpipe.errors import ProblemError
from graphpipe.problem import arrays
from graphpipe.problem.case import Case
from graphpipe.problem.specs import dtype_of, known_keys, specs_of, table_of
from graphpipe.signature import TensorSpec
from graphpipe.wire.dtypes import NDIM_MAX, dtype_name

__all__ = ["case_of", "parts_of", "table_of_problem"]

Array = NDArray[Any]
# How an array is written down that is not to be in the table; None: it is.
Elsewhere = Callable[[Array], dict[str, Any] | None]

_KEYS = ("name", "description", "inputs", "outputs", "tests")
_CASE_KEYS = ("name", "inputs", "outputs", "rtol", "atol")
_NUMBERS: dict[str, tuple[type, ...]] = {"b": (bool,), "i": (int,), "u": (int,), "f": (int, float)}
_VALUE_KEYS = ("file", "key", "dtype", "shape", "data", "base64")


def parts_of(table: object, folder: Path | None) -> dict[str, Any]:
    """The fields of the problem that a table defines. Raises ProblemError."""
    if not isinstance(table, Mapping):
        raise ProblemError(f"expected a table with inputs and outputs; {came(table)}")
    known_keys(table, _KEYS, "problem")
    for what in ("inputs", "outputs"):
        if what not in table:
            raise ProblemError(f"a problem has {what}; there are none")
    tests = table.get("tests", [])
    if not isinstance(tests, list | tuple):
        raise ProblemError(f"tests: expected a list of tables; {came(tests)}")
    room = arrays.Room()
    return {
        "name": table.get("name", ""),
        "description": table.get("description", ""),
        "inputs": specs_of(table["inputs"], "inputs"),
        "outputs": specs_of(table["outputs"], "outputs"),
        "tests": tuple([case_of(case, f"tests[{i}]", folder, room) for i, case in enumerate(tests)]),
    }


def case_of(table: object, where: str, folder: Path | None = None, room: arrays.Room | None = None) -> Case:
    """The test that a table defines. Raises ProblemError."""
    if not isinstance(table, Mapping):
        raise ProblemError(f"{where}: expected a table with inputs and outputs; {came(table)}")
    known_keys(table, _CASE_KEYS, where)
    if "inputs" not in table:
        raise ProblemError(f"{where}: a test has inputs; there are none")
    room = room or arrays.Room()
    inputs, outputs = (_values(table.get(what, {}), f"{where}.{what}", folder, room) for what in ("inputs", "outputs"))
    return Case(inputs, outputs, **{each: table[each] for each in ("rtol", "atol", "name") if each in table})


def table_of_problem(
    name: str,
    description: str,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    tests: Sequence[Case],
    elsewhere: Elsewhere = lambda array: None,
) -> dict[str, Any]:
    """The reverse of ``parts_of``; ``elsewhere`` says what stands for an array that is kept apart."""
    table: dict[str, Any] = {}
    if name:
        table["name"] = name
    if description:
        table["description"] = description
    table |= {"inputs": table_of(inputs), "outputs": table_of(outputs)}
    if tests:
        specs = {"inputs": inputs, "outputs": outputs}
        table["tests"] = [_case_table(case, specs, elsewhere) for case in tests]
    return table


def _case_table(case: Case, specs: Mapping[str, Sequence[TensorSpec]], elsewhere: Elsewhere) -> dict[str, Any]:
    table: dict[str, Any] = {"name": case.name} if case.name else {}
    table |= {"rtol": case.rtol, "atol": case.atol}
    for what, values in (("inputs", case.inputs), ("outputs", case.outputs)):
        declared = {spec.name: spec for spec in specs[what]}
        table[what] = {name: elsewhere(array) or _written(array, declared[name]) for name, array in values.items()}
    return table


def _values(value: object, where: str, folder: Path | None, room: arrays.Room) -> dict[str, Any]:
    if isinstance(value, str):
        return dict(arrays.all_in(value, where, folder, room))
    if not isinstance(value, Mapping):
        raise ProblemError(f"{where}: expected values by name, or the name of an .npz file; {came(value)}")
    return {name: _value(each, f"{where}.{name}", folder, room) for name, each in value.items()}


def _value(value: object, where: str, folder: Path | None, room: arrays.Room) -> object:
    if not isinstance(value, Mapping):
        return value
    known_keys(value, _VALUE_KEYS, where)
    if "file" in value:
        known_keys(value, ("file", "key"), where)
        return arrays.one_in(value["file"], value.get("key", ""), where, folder, room)
    if ("data" in value) == ("base64" in value):
        raise ProblemError(f"{where}: expected lists and numbers, or a table with file, data or base64")
    known_keys(value, ("dtype", "shape", "data", "base64"), where)
    if "dtype" not in value or "shape" not in value:
        raise ProblemError(f"{where}: data needs dtype and shape beside it; lists and numbers alone do not")
    dtype, shape = dtype_of(where, value["dtype"]), _sizes(value["shape"], where)
    if dtype is None:
        raise ProblemError(f"{where}: an array is of some type; any is none")
    count = int(np.prod(shape, dtype=object)) if shape else 1
    flat = _flat(value, dtype, where)
    if flat.size != count:
        raise ProblemError(f"{where}: {flat.size:,} elements came, and a shape of {list(shape)} has {count:,}")
    return flat.reshape(shape)


def _flat(value: Mapping[Any, Any], dtype: np.dtype[Any], where: str) -> Array:
    if "base64" in value:
        if dtype.kind == "O":
            if not isinstance(value["base64"], list | tuple):
                raise ProblemError(f"{where}.base64: of text it is a list, with each element; {came(value['base64'])}")
            return _objects([_bytes(each, where) for each in value["base64"]])
        content = _bytes(value["base64"], where)
        if len(content) % dtype.itemsize:
            raise ProblemError(f"{where}.base64: {len(content):,} bytes are no whole number of {dtype_name(dtype)}")
        return np.frombuffer(content, dtype.newbyteorder("<")).astype(dtype)
    if not isinstance(value["data"], list | tuple):
        raise ProblemError(f"{where}.data: expected a flat list; {came(value['data'])}")
    items = list(value["data"])
    if dtype.kind == "O":
        return _objects(items)
    for item in items:
        if type(item) not in _NUMBERS[dtype.kind]:
            raise ProblemError(f"{where}.data: no {dtype_name(dtype)}: {came(item)}")
    try:
        with np.errstate(over="raise"):
            return np.array(items, dtype)
    except (OverflowError, FloatingPointError) as error:
        raise ProblemError(f"{where}.data: no list of {dtype_name(dtype)}: {error}") from None


def _objects(items: list[Any]) -> Array:
    made = np.empty(len(items), object)
    made[:] = items
    return made


def _bytes(text: object, where: str) -> bytes:
    if not isinstance(text, str):
        raise ProblemError(f"{where}.base64: expected text; {came(text)}")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ProblemError(f"{where}.base64: {error}") from None


def _sizes(shape: object, where: str) -> tuple[int, ...]:
    if not isinstance(shape, list | tuple) or len(shape) > NDIM_MAX:
        raise ProblemError(f"{where}.shape: expected a list of at most {NDIM_MAX} numbers; {came(shape)}")
    for each in shape:
        if type(each) is not int or not 0 <= each < 2**62:
            raise ProblemError(f"{where}.shape: a size is a number, 0 or more; {came(each)}")
    return tuple(shape)


def _written(array: Array, spec: TensorSpec) -> Any:
    """An array as lists and numbers where those say all of it, else with its type and shape beside its data."""
    said = {"dtype": dtype_name(array.dtype), "shape": list(array.shape)}
    # Some integers beyond int64 among others are floats to numpy, where a list does not say better.
    is_plain = array.size and spec.dtype is not None and array.dtype != np.uint64
    if array.dtype.hasobject:
        try:
            texts = [item.decode() for item in array.ravel().tolist()]
        except UnicodeDecodeError:
            return {**said, "base64": [base64.b64encode(item).decode() for item in array.ravel().tolist()]}
        return _objects(texts).reshape(array.shape).tolist() if is_plain else {**said, "data": texts}
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        return {**said, "base64": base64.b64encode(array.astype(array.dtype.newbyteorder("<")).tobytes()).decode()}
    return array.tolist() if is_plain else {**said, "data": array.ravel().tolist()}
