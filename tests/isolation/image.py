"""An image to test with, made of this machine's own files: its Python, its numpy, and the libraries that these need."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

IMAGE = "localhost/graphpipe-isolated"
_LEFT_OUT = {"test", "tests", "idlelib", "site-packages", "dist-packages", "ensurepip", "tkinter", "turtledemo"}


class NoEngine(Exception):
    """No container runs here; the message says why."""


@contextlib.contextmanager
def storage(folder: Path) -> Iterator[dict[str, str]]:
    """The variables by which podman keeps all it has in a folder of ours. It has the image. Raises NoEngine."""
    if shutil.which("podman") is None:
        raise NoEngine("podman is not installed")
    (folder / "storage.conf").write_text(
        f'[storage]\ndriver = "overlay"\nrunroot = "{folder}/run"\ngraphroot = "{folder}/graph"\n'
    )
    # crun wants another form of cgroups than some machines have.
    (folder / "containers.conf").write_text('[engine]\nruntime = "runc"\n' if shutil.which("runc") else "")
    said = {
        "CONTAINERS_STORAGE_CONF": str(folder / "storage.conf"),
        "CONTAINERS_CONF": str(folder / "containers.conf"),
    }
    archive = folder / "image.tar"
    _pack(archive)
    try:
        _podman(said, "import", str(archive), IMAGE)
        archive.unlink()
        _podman(said, "run", "--rm", "--network", "none", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024",
                IMAGE, "python3", "-c", "import numpy")  # fmt: skip
        yield said
    finally:
        with contextlib.suppress(NoEngine):
            _podman(said, "rmi", "--all", "--force")
        shutil.rmtree(folder / "graph", ignore_errors=True)


def containers(said: dict[str, str]) -> list[str]:
    """Those that there are, running or not."""
    return _podman(said, "ps", "--all", "--quiet").split()


def _podman(said: dict[str, str], *words: str) -> str:
    try:
        done = subprocess.run(
            ["podman", *words], env={**os.environ, **said}, capture_output=True, text=True, check=False, timeout=100
        )
    except subprocess.TimeoutExpired:
        raise NoEngine(f"podman {words[0]} takes more than 100 s") from None
    if done.returncode:
        raise NoEngine(f"podman {words[0]} does not work here: {done.stderr.strip()[-300:]}")
    return done.stdout


def _pack(archive: Path) -> None:
    program = Path(sys.executable).resolve()
    library = Path(sysconfig.get_path("stdlib"))
    package = Path(np.__file__).parent
    with tarfile.open(archive, "w", dereference=True) as tar:

        def add(path: Path, name: Path) -> None:
            tar.add(path, str(name).lstrip("/"), filter=_wanted)

        add(program, program)
        add(library, library)
        for each in (package, package.with_name("numpy.libs")):
            if each.is_dir():
                add(each, library / each.name)  # where every Python looks
        for each in _libraries([program, *library.glob("lib-dynload/*.so"), *package.rglob("*.so")]):
            add(each, each)
        link = tarfile.TarInfo("usr/bin/python3")
        link.type, link.linkname = tarfile.SYMTYPE, str(program)
        if str(program) != "/usr/bin/python3":
            tar.addfile(link)


def _wanted(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    name = Path(member.name)
    return None if name.name in _LEFT_OUT or name.parent.name == "__pycache__" else member


def _libraries(programs: list[Path]) -> list[Path]:
    """What is loaded with these, from outside of numpy."""
    said = subprocess.run(["ldd", *map(str, programs)], capture_output=True, text=True, check=False).stdout
    found = {Path(each) for each in re.findall(r"(?:=>\s+|^\s+)(/\S+) \(0x", said, re.MULTILINE)}
    return sorted(each for each in found if "numpy" not in str(each))
