"""An ONNX file looked at without a framework: whether it is one, which files beside it hold its large tensors, and whether
some of it was compiled for a device.

The protobuf is walked field by field where it lies, and only along the way to nodes and tensors, so that no text that
happens to look like a location is taken for one.
"""

from __future__ import annotations

import contextlib
import hashlib
import mmap
from collections.abc import Iterator
from pathlib import Path

from graphpipe.errors import LoadError
from graphpipe.words import counted

__all__ = ["check", "digest", "fields", "files_beside", "varint", "walking"]

_NOT_ONNX = (
    (b"version https://git-lfs", "is a Git LFS pointer, not the model itself: git lfs pull"),
    (b"<", "is a web page, not a model: download the file itself"),
    (b"PK\x03\x04", "is a zip archive, not an ONNX file: unpack it"),
    (b"\x1f\x8b", "is compressed: gunzip it"),
)

# By kind of message: the fields on the way to tensors, and the kind of what is there (onnx.proto).
_WAYS: dict[str, dict[int, str]] = {
    "model": {7: "graph", 25: "function"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
}
_EXTERNAL_DATA, _DATA_LOCATION, _EXTERNAL = 13, 14, 1
_OPERATOR = 4
_DEPTH_MAX = 100

# The node that holds what a device's own compiler made, or the name of a file that has it: its runtime reads whatever it
# names, and runs what is in it.
_COMPILED = b"EPContext"
_COMPILED_IN_ORT = b"\x09\0\0\0EPContext\0"


def check(path: Path, *, trusted: bool = False) -> None:
    """Raises LoadError, with a line that says how to mend it, for a file that is no whole ONNX file, that wants other files
    than plain ones in its own folder, or, unless it is ``trusted``, that holds what was compiled.
    """
    with path.open("rb") as file:
        start = file.read(64).lstrip()
    if not start:
        raise LoadError(f"{path}: is empty: was it downloaded to its end?")
    for beginning, words in _NOT_ONNX:
        if start.startswith(beginning):
            raise LoadError(f"{path}: {words}")
    for name, is_used in _beside(path):
        _check_beside(path, name, is_used)
    if not trusted and _is_compiled(path):
        raise LoadError(
            f"{path}: holds what was compiled for a device (EPContext), or the name of a file that does; it is not loaded: "
            "it could read any file and run any code; serve what it was compiled from; if it is yours: --trust-model"
        )


def digest(path: Path) -> str:
    """sha256 of the model's file, and of the files beside it that hold its large tensors."""
    total = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            total.update(block)
    for name, is_used in _beside(path):
        _check_beside(path, name, is_used)
        if not is_used:
            continue
        with (path.parent / name).open("rb") as file:
            total.update(hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()


def files_beside(path: Path) -> list[str]:
    """The names of the files that hold tensors of this one, below its folder. Raises LoadError, as ``check`` does."""
    return [name for name, is_used in _beside(path) if is_used]


def _check_beside(path: Path, name: str, is_used: bool) -> None:
    if "\0" in name:  # where C ends a name, and Python does not
        raise LoadError(f"{path}: its tensors are to come from {name!r}, which is no name of a file")
    beside = path.parent / name
    # Folders of links to one folder of contents, as Hugging Face keeps its models, are as good as a folder.
    folders = {path.parent.resolve(), path.resolve().parent}
    if Path(name).is_absolute() or ".." in Path(name).parts or not any(map(beside.resolve().is_relative_to, folders)):
        raise LoadError(f"{path}: its tensors are to come from {name!r}, which is outside its folder")
    if not is_used:
        return
    if not beside.exists():
        raise LoadError(f"{path}: the file beside it that holds its tensors is missing: {name}")
    if not beside.is_file():
        raise LoadError(f"{path}: its tensors are to come from {name!r}, which is not a plain file")


def _beside(path: Path) -> list[tuple[str, bool]]:
    """The names of the files that hold tensors of this one, and whether they are surely read: a tensor may be written in
    parts, and only one of them say that it lies elsewhere.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        names: dict[str, bool] = {}
        # Nearly always it stops here. ONNX Runtime's own format holds all its tensors.
        if data.find(b"location") >= 0 and not _is_ort(path, data):
            with walking(path, data):
                for start, stop in _messages(data, 0, len(data), "model", "tensor", 0):
                    for name, is_used in _location(data, start, stop):
                        names[name] = names.get(name, False) or is_used
    return sorted(names.items())


def _is_compiled(path: Path) -> bool:
    """Whether a node of it is one that holds what a device's compiler made."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        if data.find(_COMPILED) < 0:
            return False
        if _is_ort(path, data):
            return data.find(_COMPILED_IN_ORT) >= 0
        with walking(path, data):
            return any(
                number == _OPERATOR and data[first:last] == _COMPILED
                for start, stop in _messages(data, 0, len(data), "model", "node", 0)
                for number, first, last in fields(data, start, stop)
            )


def _is_ort(path: Path, data: mmap.mmap) -> bool:
    # A FlatBuffer. Not by its name alone: ONNX Runtime reads the name otherwise than we would.
    return path.suffix.lower() == ".ort" and data[4:8] == b"ORTM"


@contextlib.contextmanager
def walking(path: Path, data: mmap.mmap) -> Iterator[None]:
    """Says of what cannot be walked to its end that it is no whole file."""
    try:
        yield
    except (ValueError, IndexError, RecursionError):
        raise LoadError(
            f"{path}: is no whole ONNX file ({counted(len(data), 'byte')}): was its download cut off?"
        ) from None


def _messages(data: mmap.mmap, at: int, end: int, kind: str, wanted: str, depth: int) -> Iterator[tuple[int, int]]:
    """Where the messages of the ``wanted`` kind begin and end."""
    if depth > _DEPTH_MAX:
        raise ValueError("too deep")
    if kind == wanted:
        yield at, end
    ways = _WAYS.get(kind, {})
    for field, start, stop in fields(data, at, end) if ways else ():
        if field in ways and stop > start:
            yield from _messages(data, start, stop, ways[field], wanted, depth + 1)


def _location(data: mmap.mmap, at: int, end: int) -> Iterator[tuple[str, bool]]:
    """Where a tensor lies, or would if it lay in another file; and whether it does, as far as this part of it says."""
    external, found = False, []
    for field, start, stop in fields(data, at, end):
        if field == _DATA_LOCATION:
            external = varint(data, start)[0] & 0xFFFFFFFF == _EXTERNAL
        elif field == _EXTERNAL_DATA:
            entry = {number: data[first:last] for number, first, last in fields(data, start, stop)}
            if entry.get(1) == b"location":
                found.append(entry.get(2, b"").decode("utf-8", "surrogateescape"))
    for place, name in enumerate(found):
        # What starts with * is a place in the memory of ONNX Runtime, which it refuses in files.
        if name and not name.startswith("*/"):
            yield name, external and place == len(found) - 1


def fields(data: mmap.mmap, at: int, end: int) -> Iterator[tuple[int, int, int]]:
    """The fields of a message: number, and where the content begins and ends. Raises ValueError or IndexError."""
    while at < end:
        key, at = varint(data, at)
        if key > 0xFFFFFFFF:  # of which others would look at the last 32 bits
            raise ValueError("no such field")
        kind = key & 7
        start = at
        if kind == 0:
            _, at = varint(data, at)
        elif kind == 2:
            length, start = varint(data, at)
            at = start + length
        elif kind in (1, 5):
            at += 8 if kind == 1 else 4
        else:
            raise ValueError("no such kind of field")
        if at > end:
            raise ValueError("a field is longer than what holds it")
        yield key >> 3, start, at


def varint(data: mmap.mmap, at: int) -> tuple[int, int]:
    """The number that begins here, and where it ends. Raises ValueError or IndexError."""
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("no number is that long")
