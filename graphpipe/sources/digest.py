"""The digest of the files that a model was made from: equal digests, equal answers."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

__all__ = ["digest_of"]


def digest_of(*paths: Path) -> str:
    """sha256 over files, and over all files in folders, with their places in them."""
    digest = hashlib.sha256()
    for path in paths:
        for file in [path] if path.is_file() else _files(path):
            place = file.relative_to(path).as_posix() if file != path else ""
            digest.update(f"{len(place)} {place} {file.stat().st_size}\n".encode())
            with file.open("rb") as opened:
                digest.update(hashlib.file_digest(opened, "sha256").digest())
    return digest.hexdigest()


def _files(folder: Path) -> Iterable[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())
