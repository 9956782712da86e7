"""A package on this machine: its folder, which holds what the manifest says and nothing else.

A folder is looked at where it lies. A zip is unpacked into the user's cache, under the digest of its manifest, and looked
at there each time: what lies in the cache is as little trusted as what came.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from graphpipe.backends.foreign import no_such_file
from graphpipe.errors import LoadError, PackageError
from graphpipe.package.manifest import MANIFEST_BYTES_MAX, File, Manifest
from graphpipe.package.names import MANIFEST
from graphpipe.sources.archive import one_file, unpack
from graphpipe.sources.web import cache_folder
from graphpipe.words import counted, listed, quoted

__all__ = ["Package", "file_of", "is_package", "manifest_at"]

_ZIP = ".zip"
_LISTED_MAX = 100_000


@dataclass(frozen=True, slots=True)
class Package:
    """What was found to be whole: every file is there as its manifest has it, and no other."""

    folder: Path
    manifest: Manifest

    @classmethod
    def at(cls, source: str, bytes_max: int = 1 << 62) -> Package:
        """The package in a folder or a zip, looked through. Raises PackageError, or LoadError for a zip that cannot be
        unpacked, for one that is not what it says or has more than ``bytes_max`` bytes.
        """
        path = _place(source)
        if path.is_dir():
            return cls._in_folder(path, source, bytes_max)
        _check_is_zip(path)
        return cls._in_zip(path, source, bytes_max)

    @classmethod
    def _in_folder(cls, folder: Path, source: str, bytes_max: int) -> Package:
        manifest = Manifest.read(_manifest_in(folder), source)
        try:
            _verify(folder, manifest, source, bytes_max)
        except OSError as error:
            raise PackageError(f"{source}: {error.filename or folder}: {error.strerror}") from None
        return cls(folder, manifest)

    @classmethod
    def _in_zip(cls, path: Path, source: str, bytes_max: int) -> Package:
        content = _manifest_in_zip(path)
        # Read before anything is unpacked: of a package of a later form nothing is.
        Manifest.read(content, source)
        slot = _slot(hashlib.sha256(content).hexdigest())
        with _locked(slot):
            if slot.is_dir():
                try:
                    return cls._in_folder(slot, source, bytes_max)
                except PackageError:
                    shutil.rmtree(slot)  # it was damaged here
            beside = slot.with_name(f"{slot.name}.new")
            try:
                unpack(path, beside, bytes_max)
                root = _root(beside, source)
                found = cls._in_folder(root, source, bytes_max)
                root.rename(slot)
            finally:
                shutil.rmtree(beside, ignore_errors=True)
            return cls(slot, found.manifest)

    def path(self, name: str) -> Path:
        """Where one of its files is."""
        return self.folder / name


def is_package(source: str) -> bool:
    """Whether a source is a package, by its name and a look: nothing is checked yet."""
    path = Path(source)
    if path.name == MANIFEST or path.is_dir():
        return os.path.isfile(_place(source) / MANIFEST)
    if path.suffix.lower() != _ZIP or not os.path.isfile(path):
        return False
    try:
        return one_file(path, MANIFEST, MANIFEST_BYTES_MAX) is not None
    except LoadError:
        return False  # of what is no zip at all others have better words


def manifest_at(source: str) -> Manifest:
    """The manifest alone, whatever the files beside it are. Raises LoadError."""
    path = _place(source)
    if path.is_dir():
        return Manifest.read(_manifest_in(path), source)
    _check_is_zip(path)
    return Manifest.read(_manifest_in_zip(path), source)


def file_of(path: Path) -> File:
    """What the manifest says of a file."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return File(os.fstat(file.fileno()).st_size, digest)


def _check_is_zip(path: Path) -> None:
    if not path.is_file():
        raise PackageError(f"{path}: {no_such_file(path)}")
    if path.suffix.lower() != _ZIP:
        raise PackageError(f"{path} is no package, which is a folder with a {MANIFEST} or a zip of one")


def _place(source: str) -> Path:
    path = Path(source)
    return path.parent if path.name == MANIFEST and not path.is_dir() else path


def _manifest_in(folder: Path) -> bytes:
    path = folder / MANIFEST
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            raise PackageError(f"{path} is not a plain file")
        with path.open("rb") as file:
            return file.read(MANIFEST_BYTES_MAX + 1)
    except OSError as error:
        raise PackageError(f"{path}: {error.strerror}; a package has its manifest there") from None


def _manifest_in_zip(path: Path) -> bytes:
    found = one_file(path, MANIFEST, MANIFEST_BYTES_MAX)
    if found is None:
        raise PackageError(f"{path} has no {MANIFEST}, which says what a package holds")
    return found[1]


def _root(folder: Path, source: str) -> Path:
    """What was unpacked, or the one folder that it was packed in."""
    if (folder / MANIFEST).is_file():
        return folder
    inside = list(folder.iterdir())
    if len(inside) != 1:
        others = sorted(each.name for each in inside if not (each / MANIFEST).is_file())
        raise PackageError(f"{source} holds {listed(others)} beside the folder that has its {MANIFEST}")
    return inside[0]


def _verify(folder: Path, manifest: Manifest, source: str, bytes_max: int) -> None:
    """Raise PackageError unless the folder has the files of the manifest, and none besides."""
    size = sum(file.size for file in manifest.files.values())
    if size > bytes_max:
        raise PackageError(f"{source} has {size} bytes; at most {bytes_max} are taken (--download-bytes-max)")
    there = set(_files_in(folder, source)) - {MANIFEST}
    if missing := sorted(manifest.files.keys() - there):
        raise PackageError(f"{source} lacks {_some(missing)}: was it copied whole?")
    # Python keeps what it compiled beside what it compiled, and reads it again; a loader of ours does neither.
    more = sorted(name for name in there - manifest.files.keys() if not _is_compiled(name))
    if more:
        raise PackageError(
            f"{source} has {_some(more)}, of which its manifest knows nothing: remove what is not its own"
        )
    for name, said in manifest.files.items():
        path = folder / name
        if (found := path.lstat().st_size) != said.size:
            raise PackageError(f"{source}: {name} has {counted(found, 'byte')}; its manifest says {said.size:,}")
        if file_of(path).sha256 != said.sha256:
            raise PackageError(f"{source}: {name} is another file than its manifest says: its sha256 is not the same")


def _is_compiled(name: str) -> bool:
    return name.startswith("code/") and name.endswith(".pyc") and "__pycache__" in name.split("/")


def _some(names: list[str]) -> str:
    return quoted(names[0]) if len(names) == 1 else f"{counted(len(names), 'file')} ({listed(names[:3])})"


def _files_in(folder: Path, source: str) -> Iterator[str]:
    """The names of all files in a folder. Raises PackageError for a link, and for what is no file."""
    waiting, count = [""], 0
    while waiting:
        inner = waiting.pop()
        with os.scandir(folder / inner) as entries:
            for entry in entries:
                name = f"{inner}/{entry.name}" if inner else entry.name
                count += 1
                if count > _LISTED_MAX:
                    raise PackageError(f"{source} holds more than {_LISTED_MAX} files")
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(name)
                elif entry.is_file(follow_symlinks=False):
                    yield name
                else:
                    what = "a link" if entry.is_symlink() else "neither a file nor a folder"
                    raise PackageError(f"{source}: {quoted(name)} is {what}; a package holds plain files alone")


def _slot(digest: str) -> Path:
    """The place of an unpacked package, in a folder that nobody else can write to. Raises PackageError."""
    folder = cache_folder().with_name("packages")
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.lstat()
    except OSError as error:
        hint = "XDG_CACHE_HOME chooses another place"
        raise PackageError(f"{folder}: {error.strerror}; packages are unpacked there; {hint}") from None
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
        raise PackageError(f"{folder} is not this user's alone, and packages are unpacked there: chmod 700 {folder}")
    return folder / digest


@contextmanager
def _locked(slot: Path) -> Iterator[None]:
    """One process at a time unpacks the same package; in case it cannot, it says so."""
    try:
        with slot.with_name(f"{slot.name}.lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
    except OSError as error:
        raise PackageError(
            f"{error.filename or slot}: {error.strerror or error}; packages are unpacked there"
        ) from None
