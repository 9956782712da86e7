"""Models that come as an archive, as SavedModels do: ``https://host/saved_model.tar.gz``, unpacked beside the archive."""

from __future__ import annotations

import shutil
import tarfile
import zipfile
from pathlib import Path

from graphpipe.errors import LoadError

__all__ = ["is_archive", "unpacked"]

_SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz")


def is_archive(path: Path) -> bool:
    """Whether a file is called like an archive."""
    return path.name.lower().endswith(_SUFFIXES)


def unpacked(path: Path, bytes_max: int) -> Path:
    """What an archive holds: its folder, or the one file or folder in it.

    The caller has ``path`` for itself. Raises LoadError for what is no archive, or holds more than ``bytes_max``.
    """
    folder = path.with_name(f"{path.name}.d")
    if not folder.is_dir() or folder.stat().st_mtime < path.stat().st_mtime:
        beside = path.with_name(f"{path.name}.new")
        shutil.rmtree(beside, ignore_errors=True)
        try:
            _unpack(path, beside, bytes_max)
        except (tarfile.TarError, zipfile.BadZipFile, EOFError, OSError) as error:
            shutil.rmtree(beside, ignore_errors=True)
            raise LoadError(f"{path.name}: cannot be unpacked: {error}") from None
        shutil.rmtree(folder, ignore_errors=True)
        beside.rename(folder)
        folder.touch()
    inside = [item for item in folder.iterdir() if not item.name.startswith(".")]
    return inside[0] if len(inside) == 1 else folder


def _unpack(path: Path, folder: Path, bytes_max: int) -> None:
    if path.name.lower().endswith(".zip"):
        with zipfile.ZipFile(path) as archive:
            _check_size(path, sum(item.file_size for item in archive.infolist()), bytes_max)
            archive.extractall(folder)  # which leaves out what would lead out of the folder
    else:
        with tarfile.open(path) as archive:
            _check_size(path, sum(item.size for item in archive.getmembers()), bytes_max)
            archive.extractall(folder, filter="data")


def _check_size(path: Path, size: int, bytes_max: int) -> None:
    if size > bytes_max:
        raise LoadError(f"{path.name}: holds {size} bytes; at most {bytes_max} are unpacked (--download-bytes-max)")
