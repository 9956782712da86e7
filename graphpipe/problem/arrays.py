"""Arrays of a problem's tests in .npy and .npz files beside it: read within limits, and without running anything.

``numpy.load`` takes the memory that a header asks for, before it looks whether the file has as much, and unpacks a bomb.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from graphpipe.arguments import came
from graphpipe.errors import ProblemError
from graphpipe.words import first_line, listed, nearest, quoted, visible

__all__ = ["BYTES_MAX", "Room", "all_in", "one_in"]

Array = NDArray[Any]

# All arrays of one problem's files together.
BYTES_MAX = 1 << 30
_ARRAYS_MAX = 4096
_HEADER_BYTES_MAX = 10_000


class Room:
    """How much more may be read for one problem."""

    def __init__(self, left: int = BYTES_MAX) -> None:
        self.left = left

    def take(self, size: int, where: str) -> None:
        """Raises ProblemError where there is no room for so many bytes."""
        if size > self.left:
            raise ProblemError(f"{where}: the arrays of a problem's tests have at most {BYTES_MAX:,} bytes together")
        self.left -= size


def all_in(file: str, where: str, folder: Path | None, room: Room) -> Iterator[tuple[str, Array]]:
    """All arrays of an .npz file, by their names in it. Raises ProblemError."""
    path = _beside(file, where, folder)
    if path.suffix.lower() != ".npz":
        raise ProblemError(f"{where}: values by name come from an .npz file; {quoted(file)} came")
    with _archive(path, where) as archive:
        for key in _keys(archive, where):
            yield key, _member(archive, key, f"{where}: {path.name}", room)


def one_in(file: object, key: object, where: str, folder: Path | None, room: Room) -> Array:
    """The array of an .npy file, or the one called ``key`` of an .npz file. Raises ProblemError."""
    if not isinstance(file, str) or not isinstance(key, str):
        raise ProblemError(f"{where}: file and key are text; {came(key if isinstance(file, str) else file)}")
    path = _beside(file, where, folder)
    if path.suffix.lower() == ".npy" and not key:
        try:
            with path.open("rb") as stream:
                return _npy(stream, path.stat().st_size, f"{where}: {path.name}", room)
        except OSError as error:
            raise ProblemError(f"{where}: {quoted(file)}: {error.strerror}") from None
    if path.suffix.lower() != ".npz":
        raise ProblemError(f"{where}: expected an .npy file, or an .npz file and a key; {quoted(file)} came")
    with _archive(path, where) as archive:
        keys = _keys(archive, where)
        if not key and len(keys) == 1:
            key = keys[0]
        if key not in keys:
            near = nearest(key, keys) or f"; it has {listed(keys) or 'none'}"
            raise ProblemError(f"{where}: {path.name} has no array {quoted(key)}{near}")
        return _member(archive, key, f"{where}: {path.name}", room)


def _beside(file: str, where: str, folder: Path | None) -> Path:
    """A file in the problem's folder or below: a definition that came from elsewhere reads nothing else of this machine."""
    if folder is None:
        raise ProblemError(f"{where}: a file can be named in a problem's file only; {quoted(file)} came")
    try:
        path, root = (folder / file).resolve(), folder.resolve()
        is_inside = path.is_relative_to(root)
        is_file = is_inside and path.is_file()
    except (OSError, ValueError, RuntimeError) as error:  # a NUL, a ring of links
        raise ProblemError(f"{where}: {visible(file)}: {first_line(error)}") from None
    if not is_inside:
        raise ProblemError(f"{where}: files lie beside the problem or in a folder there; {quoted(file)} does not")
    if not is_file:
        raise ProblemError(f"{where}: there is no file {quoted(file)} beside the problem")
    return path


def _archive(path: Path, where: str) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except OSError as error:
        raise ProblemError(f"{where}: {path.name}: {error.strerror}") from None
    except Exception as error:  # a damaged file is met by zipfile and struct alike
        raise ProblemError(f"{where}: {path.name} is no .npz file: {first_line(error)}") from None


def _keys(archive: zipfile.ZipFile, where: str) -> list[str]:
    names = archive.namelist()
    if len(names) > _ARRAYS_MAX or len(set(names)) < len(names):
        raise ProblemError(f"{where}: an .npz file has at most {_ARRAYS_MAX:,} arrays, each once")
    return [name.removesuffix(".npy") for name in names]


def _member(archive: zipfile.ZipFile, key: str, where: str, room: Room) -> Array:
    name = f"{key}.npy" if f"{key}.npy" in archive.namelist() else key
    size = archive.getinfo(name).file_size
    try:
        with archive.open(name) as stream:
            return _npy(stream, size, f"{where}: {quoted(key)}", room)
    except ProblemError:
        raise
    except (OSError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise ProblemError(f"{where}: {quoted(key)}: {first_line(error)}") from None


def _npy(stream: IO[bytes], size: int, where: str, room: Room) -> Array:
    room.take(size, where)
    content = stream.read(size)  # zipfile ends a member at the size that it declares
    head = io.BytesIO(content[: _HEADER_BYTES_MAX + 16])
    try:
        version = np.lib.format.read_magic(head)
        if version > (2, 0):
            raise ValueError(f"format {version[0]}.{version[1]} is for tables, which are no tensors")
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, by_columns, dtype = read(head, max_header_size=_HEADER_BYTES_MAX)
    except Exception as error:  # numpy parses it as Python, and lets out what that raises
        raise ProblemError(f"{where} is no array in .npy format: {first_line(error)}") from None
    if dtype.hasobject:
        raise ProblemError(f"{where} holds Python objects, which are not read; text is stored as dtype U or S")
    count = 1
    for each in shape:
        count *= each
    body = memoryview(content)[head.tell() :]
    if count < 0 or count * dtype.itemsize != len(body):
        raise ProblemError(f"{where} has {len(body):,} bytes of data, and its header says {count * dtype.itemsize:,}")
    flat = np.frombuffer(body, dtype) if len(body) else np.empty(count, dtype)
    return flat.reshape(shape, order="F" if by_columns else "C")
