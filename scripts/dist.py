"""Build a release of this commit into dist/, and prove that it is one: wheel, sdist, SBOM and their digests.

    python scripts/dist.py [--build-only]

What is built is the commit, not the working tree. It is built twice, in other folders, and has to be the same to the byte.
The wheel must hold what the package has and nothing else, and its page on the index must have no link that leads nowhere.
Then it is installed into clean environments, for each Python that pyproject.toml names and this machine has, and once with
every lower bound of pyproject.toml at a time, and serves in each. The last lines are a table; the status is 0 if all is
well. --build-only ends after the checks of the files.
"""

import argparse
import hashlib
import json
import shutil
import sys
import time
from pathlib import Path

from scripts.one_version import current, differing
from scripts.releases import build, contents, environments, sbom

ROOT = Path(__file__).resolve().parent.parent
DIST = ROOT / "dist"
SCRATCH = ROOT / ".build" / "dist"


def main() -> int:
    parser = argparse.ArgumentParser(description="Build a release of this commit, and prove that it is one.")
    parser.add_argument("--build-only", action="store_true", help="install it nowhere")
    options = parser.parse_args()
    began = time.monotonic()
    shutil.rmtree(SCRATCH, ignore_errors=True)
    shutil.rmtree(DIST, ignore_errors=True)
    SCRATCH.mkdir(parents=True)
    DIST.mkdir()
    try:
        release(options.build_only)
    except build.NotARelease as problem:
        print(f"no release: {problem}", file=sys.stderr)
        return 1
    for line in (DIST / "SHA256SUMS").read_text().splitlines():
        digest, name = line.split()
        print(f"{(DIST / name).stat().st_size:>10,}  {digest}  dist/{name}")
    print(f"a release, in {time.monotonic() - began:.0f} s")
    return 0


def release(build_only: bool) -> None:
    """Fill dist/, or raise NotARelease."""
    if wrong := differing(current()):
        raise build.NotARelease("; ".join(wrong))
    commit = build.Commit.head()
    for line in commit.notes():
        say(line)
    say(f"building {current()} of {commit.sha[:12]}, twice")
    wheel, sdist = build.reproducibly(commit, SCRATCH, DIST)
    say(f"the same to the byte: {wheel.name}, {sdist.name}")
    for line in contents.checked(wheel, sdist, commit):
        say(line)
    if not build_only:
        for python in environments.pythons():
            folder = SCRATCH / f"python{python.version}"
            environments.try_out(python, folder, wheel, pinned=ROOT / "constraints.txt")
            say(f"serves on Python {python.version}, with constraints.txt")
            if python.is_ours:
                bill = sbom.document(folder)
                (DIST / f"{wheel.name.removesuffix('.whl')}.cdx.json").write_text(json.dumps(bill, indent=1) + "\n")
                say(f"SBOM of graphpipe-rpc[onnx]: {len(bill['components'])} components")
        oldest = environments.pythons()[0]
        bounds = SCRATCH / "lower-bounds.txt"
        bounds.write_text("".join(f"{line}\n" for line in environments.lower_bounds()))
        environments.try_out(oldest, SCRATCH / "lower-bounds", wheel, pinned=bounds)
        say(f"serves on Python {oldest.version}, with {', '.join(environments.lower_bounds())}")
    files = sorted(path for path in DIST.iterdir() if path.is_file())
    sums = "".join(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in files)
    (DIST / "SHA256SUMS").write_text(sums)


def say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
