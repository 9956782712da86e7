"""Bring .venv to the state that a target needs, and nothing more.

    python scripts/set_up.py EXTRA

The first call creates .venv; a call that finds the extra installed costs a hash and returns. Extras add up: after
``make test`` has installed everything, ``make serve`` installs nothing. Two calls at once take turns.

Reads and writes nothing outside the clone but the package index; pip's cache is used only if PIP_CACHE_DIR names one. A
failure is one line on stderr, which names the log.
"""

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / ".build"
LOG = BUILD / "set-up.log"
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
INSTALLED = VENV / "installed"  # a folder of stamps: one file per extra, holding the state it was installed from

# What pip prints when it never reached an index, in its versions so far.
NO_NETWORK = re.compile(
    r"NewConnectionError|NameResolutionError|ConnectTimeout|ProxyError|Failed to establish|Temporary failure in name"
)
NO_SPACE = re.compile(r"No space left on device|Disk quota exceeded")


class SetUpFailed(Exception):
    """The one line that the caller gets to read."""


def main(extra: str) -> None:
    """Install one extra into .venv, unless it is there."""
    extras = with_implied(extra)
    BUILD.mkdir(exist_ok=True)
    with locked(BUILD / "set-up.lock"):
        state = wanted_state()
        if all(stamp(name) == state for name in extras):
            return
        say(f"setting up .venv for {extra!r}: a minute or several, log in {LOG.relative_to(ROOT)}")
        LOG.unlink(missing_ok=True)
        create_venv()
        install(extra)
        INSTALLED.mkdir(exist_ok=True)
        for name in extras:
            (INSTALLED / name).write_text(state)


def with_implied(extra: str) -> set[str]:
    """The extra and those that it brings along, as pyproject.toml has them."""
    optional = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    if extra not in optional:
        raise SetUpFailed(f"there is no extra {extra!r}; pyproject.toml has {', '.join(sorted(optional))}")
    found, todo = set(), {extra}
    while todo:
        found.add(name := todo.pop())
        for requirement in optional[name]:
            if match := re.fullmatch(r"graphpipe-rpc\[(.*)\]", requirement):
                todo |= {part.strip() for part in match[1].split(",")} - found
    return found


def wanted_state() -> str:
    """A digest of all that decides what .venv has to hold: a change of any makes the stamps stale."""
    digest = hashlib.sha256()
    for name in ("pyproject.toml", "constraints.txt"):
        digest.update((ROOT / name).read_bytes())
    digest.update(str(ROOT).encode())  # .venv knows its own place: a moved clone needs a new one
    return digest.hexdigest()


def stamp(extra: str) -> str | None:
    try:
        return (INSTALLED / extra).read_text() if PYTHON.exists() else None
    except FileNotFoundError:
        return None


def create_venv() -> None:
    """Make .venv, unless a usable one of this place exists: one whose set-up was cut short is usable."""
    place = VENV / "place"
    if PYTHON.exists() and place.exists() and place.read_text() == str(ROOT):
        return
    shutil.rmtree(VENV, ignore_errors=True)
    try:
        import ensurepip  # noqa: F401 -- Debian packs venv without it
        import venv  # noqa: F401
    except ImportError:
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        raise SetUpFailed(
            f"{sys.executable} has no venv module; on Debian and Ubuntu the package python{version}-venv brings it"
        ) from None
    if logged([sys.executable, "-m", "venv", str(VENV)]) != 0:
        raise SetUpFailed(f"could not create .venv with {sys.executable}: see {LOG}")
    place.write_text(str(ROOT))


def install(extra: str) -> None:
    pip = [str(PYTHON), "-m", "pip", "--disable-pip-version-check", "--no-input", "--retries=2"]
    cache = [] if "PIP_CACHE_DIR" in os.environ else ["--no-cache-dir"]
    # Compiled when first imported: of the frameworks' modules hardly any are, and all of them take minutes.
    if logged([*pip, "install", "--no-compile", *cache, "-c", "constraints.txt", "-e", f".[{extra}]"]) != 0:
        raise SetUpFailed(why_pip_failed(LOG.read_text(errors="replace")) + f": see {LOG}")


def why_pip_failed(log: str) -> str:
    if NO_SPACE.search(log):
        return "the disk is full"
    if NO_NETWORK.search(log):
        return "no package index can be reached"
    errors = re.findall(r"^\s*(?:ERROR|[A-Za-z]*Error): (.*)", log, re.MULTILINE)
    return f"pip could not install ({errors[0]})" if errors else "pip failed"


def logged(command: list[str]) -> int:
    """Run a command that writes to the log and below .build only, and return its status."""
    scratch = BUILD / "tmp"  # /tmp may be small, or memory
    scratch.mkdir(exist_ok=True)
    # pip asks rustc for its version, and rustup's rustc would make itself a home outside the clone to answer.
    environment = {"RUSTUP_HOME": str(scratch), **os.environ, "TMPDIR": str(scratch)}
    # The pip that builds the package is started by pip, without our flags; its check leaves a note in the home folder.
    environment["PIP_DISABLE_PIP_VERSION_CHECK"] = "1"
    with LOG.open("ab") as log:
        status = subprocess.run(
            command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=False
        ).returncode
    shutil.rmtree(scratch, ignore_errors=True)
    return status


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock until the block ends; the kernel frees it if this process dies."""
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another make is setting up .venv: waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    try:
        main(sys.argv[1])
    except SetUpFailed as problem:
        sys.exit(str(problem))
    except OSError as problem:
        sys.exit(f"could not set up .venv: {problem}")
    except KeyboardInterrupt:
        sys.exit(130)
