"""Pack the vectors for those who have no clone: one archive, whose bytes are the same wherever it is made.

    python conformance/make_archive.py [FOLDER]

It holds the vectors, their schema, the page that says what to do with them, the wire, the schema of the messages and
the runner, which needs Python's standard library alone. VERSION counts up when a vector changes what it asks for; one
more vector is no new version. RELEASE in it is the number of the release that it came with.
"""

from __future__ import annotations

import gzip
import io
import sys
import tarfile
from pathlib import Path

from graphpipe.version import __version__

__all__ = ["NAME", "VERSION", "archive", "contents"]

VERSION = 1
NAME = f"graphpipe-vectors-{VERSION}"
_HERE = Path(__file__).resolve().parent
_ROOT = _HERE.parent


def contents() -> dict[str, bytes]:
    """The files of the archive, by their path in it."""
    files = {
        "runner.py": _HERE / "runner.py",
        "schema.json": _HERE / "schema.json",
        "graphpipe.fbs": _ROOT / "schema" / "graphpipe.fbs",
        "NEW-CLIENT.md": _ROOT / "docs" / "new-client.md",
        "WIRE.md": _ROOT / "docs" / "wire.md",
        "LICENSE": _ROOT / "LICENSE",
        **{f"vectors/{path.name}": path for path in (_HERE / "vectors").glob("*.json")},
    }
    texts = {"RELEASE": f"{__version__}\n".encode(), **{name: path.read_bytes() for name, path in files.items()}}
    return dict(sorted(texts.items()))


def archive() -> bytes:
    """The archive: no dates, no owners, the files in their order."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, raw in contents().items():
            entry = tarfile.TarInfo(f"{NAME}/{name}")
            entry.size, entry.mode = len(raw), 0o755 if name == "runner.py" else 0o644
            tar.addfile(entry, io.BytesIO(raw))
    squeezed = io.BytesIO()
    # Not gzip.compress: the header would say on which system it was made.
    with gzip.GzipFile(filename="", mode="wb", compresslevel=9, fileobj=squeezed, mtime=0) as stream:
        stream.write(packed.getvalue())
    return squeezed.getvalue()


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else _HERE / "dist"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{NAME}.tar.gz"
    path.write_bytes(archive())
    print(f"{path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
