"""A folder as a zip: equal folders are equal zips, byte for byte.

The files are in the order of their names, none of them compressed (numbers hardly are, and what a library makes of them
differs from one version of it to the next), all with the date that zips begin at.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterable
from pathlib import Path

__all__ = ["pack"]

_DATE = (1980, 1, 1, 0, 0, 0)
_UNIX = 3
_PLAIN_FILE = 0o100644
_PIECE_BYTES = 1 << 20
# From here on a file needs the longer form of its entry.
_LONG_BYTES = 1 << 31


def pack(folder: Path, names: Iterable[str], path: Path) -> None:
    """Write these files of a folder into a new zip."""
    with zipfile.ZipFile(path, "x", zipfile.ZIP_STORED) as archive:
        for name in sorted(names):
            file = folder / name
            entry = zipfile.ZipInfo(name, _DATE)
            entry.create_system = _UNIX
            entry.external_attr = _PLAIN_FILE << 16
            size = file.stat().st_size
            entry.file_size = size
            with file.open("rb") as content, archive.open(entry, "w", force_zip64=size >= _LONG_BYTES) as packed:
                while piece := content.read(_PIECE_BYTES):
                    packed.write(piece)
