"""Wheel and sdist of a commit, the same to the byte wherever and whenever they are built."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from scripts.one_version import current

__all__ = ["Commit", "NotARelease", "once", "reproducibly"]

ROOT = Path(__file__).resolve().parents[2]
# Two places that differ in what usually gets into archives.
PLACES = [{"TZ": "UTC", "umask": "022"}, {"TZ": "Pacific/Auckland", "umask": "077"}]


class NotARelease(Exception):
    """The one line that says why."""


@dataclass(frozen=True)
class Commit:
    """What is released: a commit of this repository."""

    sha: str
    epoch: int  # seconds, of its author's clock
    tags: tuple[str, ...]

    @classmethod
    def head(cls) -> Commit:
        sha, epoch = git("log", "-1", "--format=%H %ct").split()
        return cls(sha, int(epoch), tuple(git("tag", "--points-at", "HEAD").split()))

    def notes(self) -> Iterator[str]:
        """What whoever releases should know; NotARelease where a tag says something else than the files."""
        if changed := git("status", "--porcelain").splitlines():
            yield f"{len(changed)} changes of the working tree are not in it"
        version = current()
        first = re.search(r"^## (.*)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
        begins = first[1] if first else "nothing"
        for tag in self.tags:
            match = re.fullmatch(r"(?:clients/go/)?v(\d.*)", tag)
            if match and match[1] != version:
                raise NotARelease(f"the commit has the tag {tag}, but its version is {version}")
            if match and not begins.startswith(f"{version} - "):
                raise NotARelease(f"the commit has the tag {tag}, but CHANGELOG.md begins with {begins!r}")
        if not self.tags:
            yield f"the commit has no tag: a release of it would have v{version} and clients/go/v{version}"

    def files(self, folder: str) -> set[str]:
        return set(git("ls-tree", "-r", "--name-only", self.sha, folder).splitlines())

    def lay_out(self, folder: Path) -> None:
        """Its files in a folder."""
        folder.mkdir(parents=True)
        with subprocess.Popen(["git", "archive", self.sha], cwd=ROOT, stdout=subprocess.PIPE) as archive:
            subprocess.run(["tar", "-x", "-C", str(folder)], stdin=archive.stdout, check=True)


def reproducibly(commit: Commit, scratch: Path, dist: Path) -> tuple[Path, Path]:
    """Build twice, compare, and leave wheel and sdist in ``dist``."""
    built = []
    for number, place in enumerate(PLACES):
        source = scratch / f"source{number}" / ("x" * number or "y")
        commit.lay_out(source)
        built.append(once(source, scratch / f"built{number}", commit.epoch, place))
    for one, other in zip(*built, strict=True):
        if one.name != other.name or one.read_bytes() != other.read_bytes():
            raise NotARelease(f"{one.name} is not the same when it is built again: compare {one} and {other}")
    wheel, sdist = (Path(path.rename(dist / path.name)) for path in built[0])
    return wheel, sdist


def once(source: Path, out: Path, epoch: int, place: dict[str, str]) -> tuple[Path, Path]:
    """The sdist of a folder, and the wheel of that sdist."""
    # The backend of this environment, whose version constraints.txt has: its name is in the wheel.
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(source)]
    environment = {
        **os.environ,
        "SOURCE_DATE_EPOCH": str(epoch),
        "TZ": place["TZ"],
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }
    done = subprocess.run(
        command, env=environment, umask=int(place["umask"], 8), capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise NotARelease(f"it does not build:\n{done.stdout}{done.stderr}")
    (wheel,), (sdist,) = out.glob("*.whl"), out.glob("*.tar.gz")
    return wheel, sdist


def git(*arguments: str) -> str:
    try:
        return subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    except (OSError, subprocess.CalledProcessError):
        raise NotARelease(f"it takes a clone and git: git {' '.join(arguments)} failed") from None
