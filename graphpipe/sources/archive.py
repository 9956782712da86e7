"""Models that come as an archive, as SavedModels do: ``https://host/saved_model.tar.gz``, unpacked beside the archive."""

from __future__ import annotations

import shutil
import tarfile
import zipfile
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import IO, cast

from graphpipe.errors import LoadError
from graphpipe.words import first_line

__all__ = ["is_archive", "unpacked"]

# More files than any model has: each costs memory to list, and an inode to unpack.
_MEMBERS_MAX = 100_000
_PIECE_BYTES = 1 << 20

_SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz")


def is_archive(path: Path) -> bool:
    """Whether a file is called like an archive."""
    return path.name.lower().endswith(_SUFFIXES)


def unpacked(path: Path, bytes_max: int) -> Path:
    """What an archive holds: its folder, or the one file or folder in it.

    The caller has ``path`` for itself. Raises LoadError for what is no archive, is damaged or encrypted, leads out of its
    folder, or holds more than ``bytes_max``; then nothing of it stays.
    """
    folder = path.with_name(f"{path.name}.d")
    if not folder.is_dir() or folder.stat().st_mtime < path.stat().st_mtime:
        beside = path.with_name(f"{path.name}.new")
        shutil.rmtree(beside, ignore_errors=True)
        try:
            beside.mkdir()
            _unpack(path, beside, bytes_max)
        except LoadError:
            shutil.rmtree(beside, ignore_errors=True)
            raise
        except Exception as error:
            # Of damaged bytes the libraries below raise whatever they stumble over.
            shutil.rmtree(beside, ignore_errors=True)
            raise LoadError(f"{path.name}: cannot be unpacked: {first_line(error)}") from None
        shutil.rmtree(folder, ignore_errors=True)
        beside.rename(folder)
        folder.touch()
    inside = [item for item in folder.iterdir() if not item.name.startswith(".")]
    return inside[0] if len(inside) == 1 else folder


def _unpack(path: Path, folder: Path, bytes_max: int) -> None:
    if path.name.lower().endswith(".zip"):
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            _check(path, ((m.filename, m.file_size, m.is_dir()) for m in members), bytes_max)
            if any(member.flag_bits & 1 for member in members):
                raise LoadError(f"{path.name}: cannot be unpacked: it is encrypted; store the model without a password")
            archive.extractall(folder)
    else:
        with tarfile.open(path) as archive:
            # While it is read: a compressed archive may be a thousand times as long as its file.
            _check(path, ((m.name, m.size, m.isdir()) for m in archive), bytes_max)
            archive.extractall(folder, filter="data")
            # gzip's checksum stands behind everything.
            rest = cast(IO[bytes], archive.fileobj)
            while rest.read(_PIECE_BYTES):
                pass


def _check(path: Path, members: Iterable[tuple[str, int, bool]], bytes_max: int) -> None:
    """Look at names and sizes before anything is written. Raises LoadError."""
    names: set[str] = set()
    count = size = 0
    for name, file_size, is_folder in members:
        count, size = count + 1, size + file_size
        if size > bytes_max:
            raise LoadError(
                f"{path.name}: holds {size} bytes or more; at most {bytes_max} are unpacked (--download-bytes-max)"
            )
        if count > _MEMBERS_MAX:
            raise LoadError(f"{path.name}: cannot be unpacked: it holds more than {_MEMBERS_MAX} files")
        place = PurePosixPath(name.replace("\\", "/"))
        if place.is_absolute() or ".." in place.parts:
            raise LoadError(f"{path.name}: cannot be unpacked: {_shown(name)} leads out of its folder")
        if not is_folder:
            if str(place) in names:
                raise LoadError(f"{path.name}: cannot be unpacked: it holds {_shown(name)} twice")
            names.add(str(place))
    if not names:
        raise LoadError(f"{path.name}: cannot be unpacked: it holds no file")


def _shown(name: str) -> str:
    return repr(name[:200])
