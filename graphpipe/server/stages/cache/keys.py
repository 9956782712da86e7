"""A row as bytes: the key that it is found by, and the form in which an output's row is kept.

A key is a BLAKE3 hash over everything that determines the answer, each field framed by its length, so that no two different
requests feed the hash the same bytes. What the rows of a request have in common is hashed once, and the rows under that
hash as their key. Equal rows of two requests have equal keys however many other rows come along.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

from graphpipe.server.stages.rows import TEXT_REMEMBERED_MAX, Layout, layout_of

__all__ = ["RowKeys", "output_key", "pack", "pack_all", "unpack", "unpack_alike", "unpack_all"]

Array = NDArray[Any]

# 0.16 ms for 600 KB, where SHA-256 takes 0.40 even in hardware; 2.3 us for 4 KB (3.3), 0.8 for 100 bytes (0.4).
_FORMAT = b"graphpipe row 3"
_PREFIXES_MAX = 256

_u64 = struct.Struct("<Q").pack


class RowKeys:
    """Keys for the rows of requests to one model.

    ``in_order``: the model may tell its inputs by their place, so the order in which they come is part of the key.
    """

    def __init__(self, *, in_order: bool) -> None:
        self._in_order = in_order
        self._prefixes: dict[tuple[tuple[str, ...], str, Layout], bytes] = {}

    def of(self, identity: tuple[str, ...], config: str, inputs: Mapping[str, Array], rows: int) -> list[bytes] | None:
        """A key for each row; None if an input holds what is neither numbers nor text.

        ``identity`` says what model it is, and in what manner it is asked. ``inputs`` are
        C-contiguous and little-endian, as checked requests are.
        """
        names = inputs if self._in_order else sorted(inputs)
        arrays = {name: inputs[name] for name in names}
        sources: list[Sequence[memoryview | bytes]] = []
        for array in arrays.values():
            if array.dtype.kind == "O":
                texts = _text_rows(array, rows)
                if texts is None:
                    return None
                sources += [[_u64(len(text)) for text in texts], texts]
            else:
                data_of_rows = _byte_rows(array, rows)
                if data_of_rows is None:
                    return None
                sources.append(data_of_rows)
        prefix = self._prefix(identity, config, layout_of(arrays))
        keys = []
        key = blake3(key=prefix)
        for row in zip(*sources, strict=True):
            for data in row:
                key.update(data)
            keys.append(key.digest())
            key.reset()  # to where it began, under the same prefix
        return keys

    def _prefix(self, identity: tuple[str, ...], config: str, layout: Layout) -> bytes:
        # A long text is not kept: it is hashed each time, as it has to be read each time.
        text = len(config) + sum([len(name) for name, _, _ in layout])
        remembered = (identity, config, layout) if text <= TEXT_REMEMBERED_MAX else None
        prefix = None if remembered is None else self._prefixes.get(remembered)
        if prefix is None:
            # With the counts in front no request's rows can be taken for another's names.
            counts = [_u64(len(identity)), _u64(len(layout))]
            fields = [_FORMAT, *counts, *(part.encode() for part in identity), config.encode()]
            for name, dtype, shape in layout:
                fields += [name.encode(), dtype.encode(), *(_u64(dim or 0) for dim in shape), b""]
            prefix = blake3(b"".join(_u64(len(field)) + field for field in fields)).digest()
            if remembered is not None:
                if len(self._prefixes) >= _PREFIXES_MAX:
                    self._prefixes.clear()
                self._prefixes[remembered] = prefix
        return prefix


def output_key(output: str | None) -> bytes:
    """What an output's name adds to a row's key; None stands for all outputs together."""
    return blake3(b"\xff" if output is None else output.encode()).digest()  # no name has that byte


def _byte_rows(array: Array, rows: int) -> list[memoryview] | list[bytes] | None:
    if array.dtype.kind not in "biufSU":
        return None
    if not array.size:
        return [b""] * rows
    view = np.ascontiguousarray(array).view(np.uint8).reshape(-1).data
    step = len(view) // rows
    return [view[at : at + step] for at in range(0, len(view), step)]


def _text_rows(array: Array, rows: int) -> list[bytes] | None:
    framed = []
    for row in array.reshape(rows, -1).tolist() if array.size else [()] * rows:
        packed = _pack_text(row)
        if packed is None:
            return None
        framed.append(packed)
    return framed


# --- rows of outputs --------------------------------------------------------------------------------------------------


def pack(array: Array) -> list[bytes] | None:
    """Each row of an output with its type and shape, as bytes; None if it holds what is neither numbers nor text."""
    if array.dtype.byteorder == ">":
        array = array.astype(array.dtype.newbyteorder("<"))
    data = _text_rows(array, len(array)) if array.dtype.kind == "O" else _byte_rows(array, len(array))
    if data is None or array.ndim > 32:
        return None
    dtype = array.dtype.str.encode()
    head = struct.pack(f"<BB{len(dtype)}s{array.ndim - 1}q", len(dtype), array.ndim - 1, dtype, *array.shape[1:])
    return [head + row for row in data]


def unpack(rows: Sequence[memoryview]) -> Array | None:
    """The rows below each other; None if their types or shapes differ. Nothing of ``rows`` is looked at afterwards."""
    start, dtype, shape = _head(rows[0])
    if len({bytes(row[:start]) for row in rows}) > 1:
        return None
    if dtype.kind == "O":
        items = np.empty((len(rows), prod(shape)), object)
        for i, row in enumerate(rows):
            items[i] = _unpack_text(row[start:], prod(shape))
        return items.reshape((len(rows), *shape))
    return np.frombuffer(b"".join([row[start:] for row in rows]), dtype).reshape((len(rows), *shape))


def pack_all(outputs: Mapping[str, Array]) -> list[bytes] | None:
    """Each row of all outputs, with their names."""
    columns = []
    for name, array in outputs.items():
        packed = pack(array)
        if packed is None:
            return None
        title = name.encode()
        columns.append([struct.pack("<II", len(title), len(row)) + title + row for row in packed])
    return list(map(b"".join, zip(*columns, strict=True)))


def unpack_all(rows: Sequence[memoryview]) -> dict[str, Array] | None:
    """The outputs by name; None if they are not the same ones in all rows."""
    columns: dict[str, list[memoryview]] = {}
    for row in rows:
        at = 0
        while at < len(row):
            title_length, length = struct.unpack_from("<II", row, at)
            at += 8
            name = bytes(row[at : at + title_length]).decode()
            at += title_length
            columns.setdefault(name, []).append(row[at : at + length])
            at += length
    arrays = {name: unpack(column) for name, column in columns.items() if len(column) == len(rows)}
    if len(arrays) < len(columns):
        return None
    found = {name: array for name, array in arrays.items() if array is not None}
    return found if len(found) == len(arrays) else None


def unpack_alike(block: NDArray[np.uint8]) -> Array | None:
    """The same for rows that lie in lines; None for text too."""
    start, dtype, shape = _head(block[0].data)
    if dtype.kind == "O" or (block[:, :start] != block[0, :start]).any():
        return None
    return np.ascontiguousarray(block[:, start:]).reshape(-1).view(dtype).reshape((len(block), *shape))


def _head(row: memoryview) -> tuple[int, np.dtype[Any], tuple[int, ...]]:
    """How long the head of a row is, and the type and shape that it tells."""
    dtype_length, ndim = row[0], row[1]
    start = 2 + dtype_length + 8 * ndim
    head = bytes(row[:start])
    shape = struct.unpack_from(f"<{ndim}q", head, 2 + dtype_length)
    return start, np.dtype(head[2 : 2 + dtype_length].decode()), shape


_IS_STR = 1 << 31


def _pack_text(items: Sequence[object]) -> bytes | None:
    """Lengths, then contents; the top bit of a length says that the item is a str."""
    lengths, parts = [], []
    for item in items:
        if isinstance(item, str):
            part, kind = item.encode("utf-8", "surrogateescape"), _IS_STR
        elif isinstance(item, bytes):
            part, kind = item, 0
        else:
            return None
        if len(part) >= _IS_STR:
            return None
        lengths.append(len(part) | kind)
        parts.append(part)
    return struct.pack(f"<{len(lengths)}I", *lengths) + b"".join(parts)


def _unpack_text(data: memoryview, count: int) -> list[bytes | str]:
    lengths = struct.unpack_from(f"<{count}I", data)
    content = bytes(data[4 * count :])
    items: list[bytes | str] = []
    at = 0
    for length in lengths:
        part = content[at : at + (length & ~_IS_STR)]
        at += len(part)
        items.append(part.decode("utf-8", "surrogateescape") if length & _IS_STR else bytes(part))
    return items
