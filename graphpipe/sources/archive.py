"""Models that come as an archive, as SavedModels do: ``https://host/saved_model.tar.gz``, unpacked beside the archive.

An archive is a stranger's word. All of it is looked at before anything is written, within limits on what it holds and on
what reading it costs; then plain files and folders are written, here and by name, and nothing else. Links, devices and
holes are refused: no model needs them, and where they lead has been got wrong by every unpacker in its time.
"""

from __future__ import annotations

import gzip
import io
import shutil
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast

from graphpipe.errors import LoadError
from graphpipe.words import first_line

__all__ = ["is_archive", "one_file", "unpack", "unpacked"]

# More files than any model has: each costs memory to list, and an inode to unpack.
_MEMBERS_MAX = 100_000
_DEPTH_MAX = 64
# What a library may ask for at once while it reads an archive: headers of a tar, which it reads whole before anybody sees
# them, and pieces of files; and, of a zip, the table of all its files.
_HEADER_BYTES_MAX = 64 << 10
_TABLE_BYTES_MAX = 8 << 20
# What holds more, and is beyond that many times as large as its archive, holds nothing: numbers do not compress so well.
_RATIO_FREE_BYTES = 64 << 20
_RATIO_MAX = 100

_SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz")


def is_archive(path: Path) -> bool:
    """Whether a file is called like an archive."""
    return path.name.lower().endswith(_SUFFIXES)


def unpacked(path: Path, bytes_max: int) -> Path:
    """What an archive holds: its folder, or the one file or folder in it.

    The caller has ``path`` for itself. Raises LoadError for what is no archive, is damaged or encrypted, leads out of its
    folder, holds what is neither file nor folder, or more than ``bytes_max``; then nothing of it stays.
    """
    folder = path.with_name(f"{path.name}.d")
    if not folder.is_dir() or folder.stat().st_mtime < path.stat().st_mtime:
        beside = path.with_name(f"{path.name}.new")
        unpack(path, beside, bytes_max)
        shutil.rmtree(folder, ignore_errors=True)
        beside.rename(folder)
        folder.touch()
    inside = [item for item in folder.iterdir() if not item.name.startswith(".")]
    return inside[0] if len(inside) == 1 else folder


def unpack(path: Path, folder: Path, bytes_max: int) -> None:
    """Put all that an archive holds into a new folder, in the place of whatever is there. Raises LoadError, as ``unpacked``
    does; then there is no folder.
    """
    shutil.rmtree(folder, ignore_errors=True)
    try:
        folder.mkdir()
        _unpack(path, folder, bytes_max)
    except LoadError:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    except Exception as error:
        # Of damaged bytes the libraries below raise whatever they stumble over.
        shutil.rmtree(folder, ignore_errors=True)
        raise _unusable(path, first_line(error)) from None


def one_file(path: Path, name: str, bytes_max: int) -> tuple[PurePosixPath, bytes] | None:
    """One small file of a zip archive, and its place there: at the top, or in a folder that is. None if there is none.

    Raises LoadError for what is no zip archive, is damaged or encrypted, or holds such a file twice, or a larger one.
    """
    try:
        with _of_zip(path, bytes_max) as members:
            found = [each for each in members if each.place.name == name and len(each.place.parts) <= 2]
            found = [each for each in found if len(each.place.parts) == 1] or found
            if not found:
                return None
            if len(found) > 1:
                raise _unusable(path, f"it holds {name} {len(found)} times")
            if found[0].kind:
                raise _unusable(path, f"{name} is {found[0].kind}")
            content = bytearray()
            with found[0].opened() as file:
                while piece := file.read(_HEADER_BYTES_MAX):
                    content += piece
                    if len(content) > bytes_max:
                        raise _unusable(path, f"{name} has more than {bytes_max} bytes")
            return found[0].place, bytes(content)
    except LoadError:
        raise
    except Exception as error:
        raise _unusable(path, first_line(error)) from None


@dataclass(frozen=True, slots=True)
class _Member:
    """One entry: ``kind`` is what it is in words, empty for a plain file or a folder."""

    name: str
    size: int
    is_folder: bool
    kind: str
    opened: Callable[[], IO[bytes]]

    @property
    def place(self) -> PurePosixPath:
        return PurePosixPath(self.name.replace("\\", "/"))


def _unpack(path: Path, folder: Path, bytes_max: int) -> None:
    members = _of_zip if path.name.lower().endswith(".zip") else _of_tar
    # Twice over a compressed archive costs time; but nothing is written of one that does not hold what it may.
    with members(path, bytes_max) as found:
        _check(path, found, bytes_max)
    with members(path, bytes_max) as found:
        for member in found:
            target = folder / member.place
            if member.is_folder:
                target.mkdir(parents=True, exist_ok=True)
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            with member.opened() as content, target.open("xb") as file:
                left = member.size
                while piece := content.read(min(left, _HEADER_BYTES_MAX)):
                    file.write(piece)
                    left -= len(piece)
                if left:
                    raise _unusable(path, f"{_shown(member.name)} ends {left} bytes early")


def _check(path: Path, members: Iterator[_Member], bytes_max: int) -> None:
    """Look at names, kinds and sizes before anything is written. Raises LoadError."""
    names: set[str] = set()
    packed = path.stat().st_size
    count = size = 0
    for member in members:
        count, size = count + 1, size + member.size
        if size > bytes_max:
            raise _too_large(path, size, bytes_max)
        if size > _RATIO_FREE_BYTES and size > packed * _RATIO_MAX:
            raise _unusable(path, f"it holds more than {_RATIO_MAX} times its own {packed} bytes, as no model does")
        if count > _MEMBERS_MAX:
            raise _unusable(path, f"it holds more than {_MEMBERS_MAX} files")
        place = member.place
        if place.is_absolute() or ".." in place.parts:
            raise _unusable(path, f"{_shown(member.name)} leads out of its folder")
        if len(place.parts) > _DEPTH_MAX or "\0" in member.name:
            raise _unusable(path, f"{_shown(member.name)} is no name of a file")
        if member.kind:
            raise _unusable(path, f"{_shown(member.name)} is {member.kind}; pack plain files and folders alone")
        if not member.is_folder:
            if str(place) in names:
                raise _unusable(path, f"it holds {_shown(member.name)} twice")
            names.add(str(place))
    if not names:
        raise _unusable(path, "it holds no file")


@contextmanager
def _of_zip(path: Path, bytes_max: int) -> Iterator[Iterator[_Member]]:
    with _Sparing(path.open("rb"), _TABLE_BYTES_MAX, 1 << 62) as file, zipfile.ZipFile(file) as archive:
        if any(member.flag_bits & 1 for member in archive.infolist()):
            raise _unusable(path, "it is encrypted; store the model without a password")
        file.at_once = _HEADER_BYTES_MAX

        def members() -> Iterator[_Member]:
            for info in archive.infolist():
                # Unix's kinds of files, where the program that packed it knows them: a link's content is where it leads.
                kind = "a link" if info.external_attr >> 28 == 0o12 else ""
                if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    # LZMA takes as much memory as the file says.
                    kind = "compressed in another way than deflate"
                yield _Member(info.filename, info.file_size, info.is_dir(), kind, partial(archive.open, info))

        yield members()


@contextmanager
def _of_tar(path: Path, bytes_max: int) -> Iterator[Iterator[_Member]]:
    with path.open("rb") as packed:
        compressed = packed.read(2) == b"\x1f\x8b"
    # Headers and padding come on top of what the files are counted with.
    most = bytes_max + _MEMBERS_MAX * 4096
    with (
        gzip.open(path) if compressed else path.open("rb") as plain,
        _Sparing(cast(IO[bytes], plain), _HEADER_BYTES_MAX, most) as file,
        closing(tarfile.open(fileobj=file, mode="r:")) as archive,
    ):

        def members() -> Iterator[_Member]:
            for info in archive:
                if file.done > most:
                    raise _too_large(path, file.done, bytes_max)
                opened = cast(Callable[[], IO[bytes]], partial(archive.extractfile, info))
                yield _Member(info.name, info.size, info.isdir(), _kind(info), opened)
                cast(Any, archive).members.clear()  # it keeps each, and a member keeps its headers
            # gzip's checksum stands behind everything.
            while file.read(_HEADER_BYTES_MAX):
                pass

        yield members()


def _kind(info: tarfile.TarInfo) -> str:
    if info.issym() or info.islnk():
        return "a link"
    if info.issparse():
        return "a file with holes"
    return "" if info.isreg() or info.isdir() else "neither a file nor a folder"


class _Sparing(io.RawIOBase):
    """A file that gives no more than so many bytes ``at_once``, and no more than ``most`` altogether, skipped ones
    included: what is asked for beyond is refused before there is memory for it.
    """

    def __init__(self, file: IO[bytes], at_once: int, most: int) -> None:
        self._file, self.at_once, self._most = file, at_once, most
        self.done = 0

    def read(self, size: int | None = -1) -> bytes:
        whole = size is None or size < 0
        piece = self._file.read(self.at_once + 1) if whole else b""
        if size is not None and not whole and size <= self.at_once:
            piece = self._file.read(size)
        elif not whole or len(piece) > self.at_once:
            raise ValueError(f"it has a header of more than {self.at_once} bytes")
        self.done += len(piece)
        if self.done > self._most:
            raise ValueError(f"it holds more than {self._most} bytes")
        return piece

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._file.tell()

    def seek(self, offset: int, whence: int = 0) -> int:
        before = self._file.tell()
        if whence == 0 and offset > before:
            self.done += offset - before
            if self.done > self._most:
                raise ValueError(f"it holds more than {self._most} bytes")
        return self._file.seek(offset, whence)

    def close(self) -> None:
        self._file.close()
        super().close()


def _unusable(path: Path, why: str) -> LoadError:
    return LoadError(f"{path.name}: cannot be unpacked: {why}")


def _too_large(path: Path, size: int, bytes_max: int) -> LoadError:
    return LoadError(
        f"{path.name}: holds {size} bytes or more; at most {bytes_max} are unpacked (--download-bytes-max)"
    )


def _shown(name: str) -> str:
    return repr(name[:200])
