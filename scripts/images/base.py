"""The image that ours are built on: python:3.13-slim, or where no registry can be reached a Debian made here.

mmdebstrap makes that from the package sources of this machine, so no address is written down here.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

from scripts.images.engines import Engine, EngineFailed

__all__ = ["base"]

PULLED = "python:3.13-slim"
MADE = "localhost/graphpipe-base"
SUITE = "trixie"  # Debian 13, with Python 3.13
SOURCES = Path("/etc/apt/sources.list.d/debian.sources")
_LEFT_OUT = ("doc", "man", "locale", "info")


def base(engine: Engine, build: Path, wanted: str = "") -> tuple[str, str]:
    """The image to build on, and what it is. Raises EngineFailed."""
    if wanted or engine.can_pull(PULLED):
        return wanted or PULLED, wanted or PULLED
    if not shutil.which("mmdebstrap") or os.getuid() != 0 or not SOURCES.exists():
        raise EngineFailed(
            f"no registry gives {PULLED}, and a base of our own takes mmdebstrap, root and {SOURCES}; "
            "--base IMAGE names another"
        )
    archive = build / f"base-{SUITE}.tar"
    if not archive.exists():
        _make(archive)
    engine.take_in(archive, MADE)
    return MADE, f"Debian 13 ({SUITE}) with Python 3.13, made by mmdebstrap"


def _make(archive: Path) -> None:
    sources = re.sub(r"\b(?:bookworm|trixie)\b", SUITE, SOURCES.read_text())
    unfinished = archive.with_suffix(".part.tar")
    command = ["mmdebstrap", "--mode=root", "--variant=apt", "--include=python3-venv,ca-certificates"]
    command += ['--aptopt=APT::Install-Recommends "false"', '--aptopt=Acquire::Languages "none"']
    command += [f"--dpkgopt=path-exclude=/usr/share/{folder}/*" for folder in _LEFT_OUT]
    done = subprocess.run(
        [*command, SUITE, str(unfinished), "-"], input=sources, text=True, capture_output=True, check=False
    )
    if done.returncode != 0:
        raise EngineFailed(f"mmdebstrap: {done.stderr.strip().splitlines()[-1]}")
    unfinished.rename(archive)
