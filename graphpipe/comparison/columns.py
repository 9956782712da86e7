"""Arrays by name that are read from their beginning to their end, some rows at a time, wherever they lie: in memory, in
an .npy file, or in an .npz, which may be larger than memory.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from graphpipe.words import first_line, quoted

__all__ = ["Column", "Held", "of_npy", "of_npz"]

Array = NDArray[Any]
Reader = Callable[[int], Array]


class Column(Protocol):
    """An array of ``dtype`` and ``shape`` that is read in pieces, as often as somebody likes."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    @contextmanager
    def reading(self) -> Iterator[Reader]:
        """A function that gives the next so many rows, from the first on: all that are left, where these are fewer."""
        ...

    def whole(self) -> Array:
        """All of it."""
        ...


class Held:
    """An array that is here, or mapped from a file."""

    def __init__(self, array: Array) -> None:
        self._array = array
        self.dtype, self.shape = array.dtype, array.shape

    @contextmanager
    def reading(self) -> Iterator[Reader]:
        at = 0

        def read(rows: int) -> Array:
            nonlocal at
            at += rows
            return self._array[at - rows : at]

        yield read

    def whole(self) -> Array:
        return self._array


class _Packed:
    """An array in an .npz file: unpacked from its beginning on, no further than it is asked for."""

    def __init__(self, file: Path, member: str, dtype: np.dtype[Any], shape: tuple[int, ...], begin: int) -> None:
        self._file, self._member, self._begin = file, member, begin
        self.dtype, self.shape = dtype, shape
        self._row_bytes = dtype.itemsize * math.prod(shape[1:])

    @contextmanager
    def reading(self) -> Iterator[Reader]:
        with zipfile.ZipFile(self._file) as file, file.open(self._member) as stream:
            stream.read(self._begin)
            left = self.shape[0]

            def read(rows: int) -> Array:
                nonlocal left
                rows = min(rows, left)
                left -= rows
                return self._array(stream.read(rows * self._row_bytes), (rows, *self.shape[1:]))

            yield read

    def whole(self) -> Array:
        with zipfile.ZipFile(self._file) as file, file.open(self._member) as stream:
            stream.read(self._begin)
            return self._array(stream.read(math.prod(self.shape) * self.dtype.itemsize), self.shape)

    def _array(self, data: bytes, shape: tuple[int, ...]) -> Array:
        if len(data) != math.prod(shape) * self.dtype.itemsize:
            raise ValueError(f"{self._file}: {self._member} ends before its last row: the file is damaged")
        return np.frombuffer(data, self.dtype).reshape(shape)


def of_npy(file: Path) -> Column:
    """The array in an .npy file, mapped. Raises ValueError for what is none."""
    try:
        return Held(np.load(file, mmap_mode="r", allow_pickle=False))
    except OSError:
        raise
    except Exception as error:  # a damaged file is met by tokenize and struct, each of which has errors of its own
        raise ValueError(f"{file}: no array in .npy format: {first_line(error)}") from None


def of_npz(file: Path) -> dict[str, Column]:
    """The arrays of an .npz file by name; of each no more is read than its head. Raises ValueError for what is none."""
    columns: dict[str, Column] = {}
    try:
        with zipfile.ZipFile(file) as members:
            for member in members.infolist():
                name = member.filename.removesuffix(".npy")
                if name in columns:
                    raise ValueError(f"{quoted(name)} is in it twice")
                with members.open(member) as stream:
                    dtype, shape, in_columns = _head(stream)
                    begin = stream.tell()
                if dtype.hasobject:
                    raise ValueError(
                        f"{quoted(name)} is pickled objects, which may run anything; write text as numpy.str_"
                    )
                if member.file_size - begin != math.prod(shape) * dtype.itemsize:
                    raise ValueError(f"{quoted(name)} has not as many bytes as its shape {list(shape)} says")
                if in_columns or not shape:
                    with np.load(file, allow_pickle=False) as arrays:
                        columns[name] = Held(arrays[name])
                else:
                    columns[name] = _Packed(file, member.filename, dtype, shape, begin)
    except OSError:
        raise
    except Exception as error:  # zipfile, zlib, struct, tokenize
        raise ValueError(f"{file}: no .npz file that can be read: {first_line(error)}") from None
    if not columns:
        raise ValueError(f"{file}: no array is in it")
    return columns


def _head(stream: Any) -> tuple[np.dtype[Any], tuple[int, ...], bool]:
    """The element type and shape of an array in .npy format, and whether its columns lie one behind the other."""
    version = npy.read_magic(stream)
    if version == (1, 0):
        shape, in_columns, dtype = npy.read_array_header_1_0(stream)
    elif version == (2, 0):
        shape, in_columns, dtype = npy.read_array_header_2_0(stream)
    else:
        raise ValueError(f".npy format {version[0]}.{version[1]} is not known")
    return dtype, shape, bool(in_columns) and len(shape) > 1
