"""What a release's files must hold, and that they hold nothing else."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from email.parser import Parser
from pathlib import Path

from scripts.one_version import current
from scripts.releases.build import Commit, NotARelease

__all__ = ["checked", "in_sdist", "in_wheel", "page"]

IN_SDIST = ("CHANGELOG.md", "LICENSE", "README.md", "pyproject.toml")
MADE_FOR_SDIST = {"PKG-INFO", ".gitignore"}
FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
# On the index there is no repository around README.
RELATIVE_LINK = re.compile(r"\[[^\]]*\]\((?!https?:|mailto:|#)([^)\s]+)\)")
NEEDED = {"graphpipe/py.typed", "graphpipe/version.py"}


def checked(wheel: Path, sdist: Path, commit: Commit) -> Iterator[str]:
    """A line for each check that passed; NotARelease for the first that did not."""
    package = commit.files("graphpipe")
    in_wheel(wheel, package)
    yield f"the wheel holds the package's {len(package)} files, and nothing else"
    in_sdist(sdist, package | commit.files("schema"))
    yield "the sdist holds what builds the wheel, the schema and the changelog, and nothing else"
    page(wheel)
    yield "the index's page leads nowhere that is not there"
    for command in (["twine", "check", "--strict", str(wheel), str(sdist)], ["check_wheel_contents", str(wheel)]):
        done = subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise NotARelease(f"{command[0]} says:\n{done.stdout}{done.stderr}")
        yield f"{' '.join(command[:-1] if len(command) < 3 else command[:3])}: no complaint"


def in_wheel(wheel: Path, package: set[str]) -> None:
    """Exactly the files of the package, and what every wheel has."""
    info = f"graphpipe_rpc-{current()}.dist-info"
    wanted = package | {
        f"{info}/{name}" for name in ("METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE")
    }
    with zipfile.ZipFile(wheel) as archive:
        same(wheel, set(archive.namelist()), wanted)


def in_sdist(sdist: Path, wanted: set[str]) -> None:
    top = f"graphpipe_rpc-{current()}"
    with tarfile.open(sdist) as archive:
        found = {member.name.removeprefix(f"{top}/") for member in archive.getmembers() if member.isfile()}
    same(sdist, found, wanted | {*IN_SDIST, *MADE_FOR_SDIST})


def same(archive: Path, found: set[str], wanted: set[str]) -> None:
    for name in sorted(NEEDED - found | wanted - found):
        raise NotARelease(f"{archive.name} lacks {name}")
    for name in sorted(found - wanted):
        raise NotARelease(f"{archive.name} holds {name}, which is nobody's")


def page(wheel: Path) -> None:
    """What the index shows of it: the version, and a README without relative links."""
    (name,) = (name for name in zipfile.Path(wheel).root.namelist() if name.endswith(".dist-info/METADATA"))
    message = Parser().parsestr(zipfile.Path(wheel, name).read_text(encoding="utf-8"))
    if message["Version"] != current():
        raise NotARelease(f"its metadata says {message['Version']}, not {current()}")
    if not {"Source", "Changelog"} <= {value.partition(",")[0] for value in message.get_all("Project-URL", [])}:
        raise NotARelease("its metadata does not say where its source and its changelog are")
    prose = FENCE.sub("", str(message.get_payload()))
    if relative := RELATIVE_LINK.search(prose):
        raise NotARelease(f"README links to {relative[1]}, which the index does not have")
    if not re.search(r"^# GraphPipe", prose, re.MULTILINE):
        raise NotARelease("README does not begin with its name")
