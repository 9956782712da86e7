"""A request's JSON to arrays: in rows (``instances``) or in columns (``inputs``), of the types that the model declares.

A value is a tensor as lists in lists; a string of bytes may come as ``{"b64": "..."}``. A column, or each row, is a value,
or an object with a value for each input.
"""

from __future__ import annotations

import binascii
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from graphpipe.errors import InvalidRequest, MalformedMessage, TooLarge
from graphpipe.server.protocols.lists import array_of, flattened
from graphpipe.server.protocols.room import UNLIMITED, Room
from graphpipe.signature import Signature, TensorSpec
from graphpipe.wire.dtypes import ENTRIES_MAX, NAME_BYTES_MAX, NDIM_MAX
from graphpipe.words import quoted

__all__ = ["Asked", "is_bytes", "octets_of", "predict_in", "signature_name_in"]

Array = NDArray[Any]

_OBJECT, _FLOAT, _BOOL = np.dtype(object), np.dtype("f4"), np.dtype(bool)
_INT32, _INT64, _UINT64 = np.dtype("i4"), np.dtype("i8"), np.dtype("u8")
_B64 = "b64"


class Asked(NamedTuple):
    """The inputs of a request, each with its name, or none where the model's first is meant; ``in_rows`` says how they came,
    and how the answer is to come.
    """

    names: tuple[str, ...]
    arrays: list[Array]
    in_rows: bool


def signature_name_in(request: dict[str, Any]) -> str:
    """Which of the model's signatures a request is for; empty for the default one. Raises MalformedMessage."""
    name = request.get("signature_name", "")
    if type(name) is not str:
        raise MalformedMessage("signature_name is a string")
    return name


def predict_in(request: dict[str, Any], signature: Signature, strings_max: int, room: Room = UNLIMITED) -> Asked:
    """What a request to predict says. Raises MalformedMessage, InvalidRequest, TooLarge."""
    in_rows = "instances" in request
    if in_rows == ("inputs" in request):
        raise MalformedMessage('a request has "instances", a list of rows, or "inputs", a column; send one of both')
    columns = _of_rows(request["instances"]) if in_rows else _of_columns(request["inputs"], signature)
    reading = _Reading(signature, strings_max, room)
    return Asked(tuple(columns), [reading.array(*column, in_rows) for column in columns.items()], in_rows)


def is_bytes(value: object) -> bool:
    """Whether a value stands for bytes: it is an object with ``b64`` and nothing else."""
    return type(value) is dict and len(value) == 1 and type(value.get(_B64)) is str


def octets_of(text: str, what: str) -> bytes:
    """The bytes that base64 stands for; it may be in lines, and lack its padding. Raises InvalidRequest."""
    text = "".join(text.split())
    try:
        return binascii.a2b_base64(f"{text}{'=' * (-len(text) % 4)}".encode("ascii"), strict_mode=True)
    except ValueError:
        raise InvalidRequest(f"{what} has a b64 that is no base64") from None


def _of_rows(rows: object) -> dict[str, Any]:
    """The values of each input, row after row."""
    if type(rows) is not list or not rows:
        raise MalformedMessage("instances is a list of one row or more")
    if type(rows[0]) is not dict or is_bytes(rows[0]):
        return {"": rows}
    names = _names(rows[0])
    for at, row in enumerate(rows):
        if type(row) is not dict or row.keys() != rows[0].keys():
            raise InvalidRequest(f"instances[{at}] is no object with the inputs of instances[0]: send each row alike")
    return {name: [row[name] for row in rows] for name in names}


def _of_columns(value: object, signature: Signature) -> dict[str, Any]:
    """The value of each input."""
    if type(value) is dict and not is_bytes(value):
        return {name: value[name] for name in _names(value)}
    if not signature.variadic and len(signature.input_names) != 1:
        raise InvalidRequest(
            f"inputs is one value, and the model has {len(signature.input_names)} inputs: send an object with a value for "
            "each"
        )
    return {"": value}


def _names(item: dict[str, Any]) -> Iterable[str]:
    if len(item) > ENTRIES_MAX:
        raise TooLarge(f"{len(item)} inputs came, and at most {ENTRIES_MAX} are taken")
    for name in item:
        if not name:
            raise MalformedMessage("an input has an empty name")
        if len(name) > NAME_BYTES_MAX:
            raise TooLarge(f"the name of an input has {len(name):,} characters")
    return item


class _Reading:
    """The inputs of one request."""

    def __init__(self, signature: Signature, strings_max: int, room: Room) -> None:
        self._specs = {spec.name: spec for spec in signature.inputs if not spec.repeated}
        self._first = signature.input_names[0] if signature.input_names else ""
        self._room = room
        self._strings_left = self._strings_max = strings_max

    def array(self, name: str, value: Any, in_rows: bool) -> Array:
        """The array that an input's value is."""
        try:
            return self._array(name, value, f"input {quoted(name)}" if name else "the input")
        except InvalidRequest as error:
            odd = _first_odd(value, name, in_rows)
            if not odd:
                raise
            raise InvalidRequest(f"{error.message}; the first that is unlike the others is {odd}") from None

    def _array(self, name: str, value: Any, what: str) -> Array:
        is_list = type(value) is list
        elements, shape = flattened(value if is_list else [value], what)
        spec = self._spec(name)
        dtype = _dtype_of(elements) if spec is None or spec.dtype is None else spec.dtype
        if dtype.kind in "OSU":
            self._strings_left -= len(elements)
            if self._strings_left < 0:
                raise TooLarge(f"more than {self._strings_max:,} strings came (--strings-max)")
            array = self._room.strings(len(elements))
            texts = _texts(elements, what)
            self._room.hold(array, 0, sum(map(len, texts)))
            array[:] = texts
        else:
            array = array_of(elements, dtype, what, self._room)
        return array.reshape(shape if is_list else ())

    def _spec(self, name: str) -> TensorSpec | None:
        name = name or self._first
        return self._specs.get(name) or self._specs.get(name[:-2] if name.endswith(":0") else f"{name}:0")


def _texts(elements: Sequence[Any], what: str) -> list[bytes]:
    """Strings, and what stands for bytes."""
    if set(map(type, elements)) - {str, dict}:
        array_of([each for each in elements if type(each) is not dict], _OBJECT, what)  # says what has no place here
    texts = []
    for element in elements:
        if type(element) is str:
            texts.append(element.encode())
        elif is_bytes(element):
            texts.append(octets_of(element[_B64], what))
        else:
            raise InvalidRequest(f'{what} has an object that is no {{"b64": "..."}} among its strings')
    return texts


def _dtype_of(elements: Sequence[Any]) -> np.dtype[Any]:
    """The type of values whose type the model does not say."""
    kinds = set(map(type, elements))
    if str in kinds or kinds == {dict}:
        return _OBJECT
    if kinds == {bool}:
        return _BOOL
    if kinds != {int}:
        return _FLOAT
    low, high = min(elements), max(elements)
    if low >= -(2**31) and high < 2**31:
        return _INT32
    return _UINT64 if high >= 2**63 and low >= 0 else _INT64


def _first_odd(value: Any, name: str, in_rows: bool) -> str:
    """Where the first list is that is not as long as the first of its level, or the first value beside a list; empty if
    there is none.
    """
    lengths: list[int] = []
    first = value
    while type(first) is list:
        if len(lengths) == NDIM_MAX:
            return ""
        lengths.append(len(first))
        first = first[0] if first else None
    path = _odd_in(value, lengths, ())
    return "" if path is None else _place(path, name, in_rows)


def _odd_in(value: Any, lengths: Sequence[int], path: tuple[int, ...]) -> tuple[int, ...] | None:
    depth = len(path)
    if type(value) is not list or depth == len(lengths) or len(value) != lengths[depth]:
        return None if type(value) is not list and depth == len(lengths) else path
    if depth + 1 == len(lengths):  # of values, which are many
        return next(((*path, at) for at, item in enumerate(value) if type(item) is list), None)
    for at, item in enumerate(value):
        found = _odd_in(item, lengths, (*path, at))
        if found is not None:
            return found
    return None


def _place(path: tuple[int, ...], name: str, in_rows: bool) -> str:
    if in_rows:
        row, rest = f"instances[{path[0]}]" if path else "instances", path[1:]
        return f"{row}{f'[{quoted(name)}]' if name else ''}" + "".join(f"[{at}]" for at in rest)
    return f"inputs{f'[{quoted(name)}]' if name else ''}" + "".join(f"[{at}]" for at in path)
