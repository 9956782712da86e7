"""A container that serves: started, called from outside, asked, stopped."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from scripts.images.engines import Engine, EngineFailed
from scripts.images.models import ROOT, Model

__all__ = ["Container", "serving"]

SOCKETS = "/run/graphpipe"
MODELS = "/models"
_STOP_S = 30


@dataclass
class Container:
    """One that runs. ``sockets`` is the folder of this machine that it has as /run/graphpipe."""

    engine: Engine
    name: str
    sockets: Path

    def answer(self, model: Model, url: str, path: str = "", *, times: int = 1) -> bool:
        """Whether a call from outside brings the right numbers. Raises EngineFailed if it brings none."""
        return model.is_answered_by(self.call(model, url, path, times=times))

    def call(self, model: Model, url: str, path: str = "", *, times: int = 1) -> dict[str, Any]:
        """The last answer of a client outside. Raises EngineFailed.

        A URL of http is one in the container's own network, which root can enter.
        """
        with tempfile.TemporaryDirectory() as folder:
            got = Path(folder) / "got.npz"
            call = [sys.executable, "-m", "scripts.images.call", url + path, str(model.given), str(got), str(times)]
            if url.startswith("http:"):
                call = ["nsenter", f"--net=/proc/{self.state()['Pid']}/ns/net", *call]
            done = subprocess.run(call, cwd=ROOT, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                log = "\n".join(self.log().splitlines()[-5:]) if self.name else ""
                raise EngineFailed(f"no answer from {url}: {done.stderr.strip().splitlines()[-1:]}\n{log}")
            return dict(np.load(got))

    def state(self) -> dict[str, Any]:
        """What the engine knows of it now: Pid, Status, ExitCode."""
        (found,) = json.loads(self.engine("container", "inspect", self.name).stdout)
        return dict(found["State"])

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Another program in the container."""
        return self.engine("exec", self.name, *command, check=False)

    def log(self) -> str:
        """What it has printed so far."""
        done = self.engine("logs", self.name, check=False)
        return done.stdout + done.stderr

    def stop(self) -> tuple[int, float]:
        """Send SIGTERM, wait for the end: the status, and the seconds that it took."""
        began = time.monotonic()
        self.engine("stop", "--time", str(_STOP_S), self.name)
        return int(self.state()["ExitCode"]), time.monotonic() - began


@contextlib.contextmanager
def serving(
    engine: Engine,
    image: str,
    arguments: Sequence[str],
    models: Path,
    *,
    limits: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    writable: bool = True,
) -> Iterator[Container]:
    """A container of the image without a network to the outside; it is gone when the block ends.

    Unless it is to have nothing ``writable``, there is a folder for its socket.
    """
    name = f"graphpipe-{secrets.token_hex(4)}"
    # A path that is short enough for a socket.
    with tempfile.TemporaryDirectory(prefix="graphpipe-", ignore_cleanup_errors=True) as sockets:
        os.chmod(sockets, 0o777)  # whoever the server runs as
        variables = [word for key, value in (environment or {}).items() for word in ("--env", f"{key}={value}")]
        mounts = ["--volume", f"{models}:{MODELS}:ro", *(["--volume", f"{sockets}:{SOCKETS}"] if writable else [])]
        container = Container(engine, name, Path(sockets))
        engine(
            "run", "--detach", "--name", name, "--network", "none", *engine.run_arguments(), *mounts, *variables,
            *limits, image, *arguments,
        )  # fmt: skip
        try:
            yield container
        finally:
            engine("rm", "--force", name, check=False)


@contextlib.contextmanager
def serving_without_a_boundary(engine: Engine, image: str, arguments: Sequence[str], models: Path) -> Iterator[Path]:
    """What buildah can do: the image's files and its command, and the folder with the socket."""
    name = engine("from", image).stdout.strip()
    with tempfile.TemporaryDirectory(prefix="graphpipe-", ignore_cleanup_errors=True) as sockets:
        os.chmod(sockets, 0o777)
        mounts = ["--volume", f"{models}:{MODELS}:ro", "--volume", f"{sockets}:{SOCKETS}"]
        command = [shutil.which("buildah") or "buildah", "run", "--isolation", "chroot", *mounts, name, "--"]
        process = subprocess.Popen(
            [*command, "graphpipe-serve", *arguments],
            env=engine.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        try:
            yield Path(sockets)
        finally:
            # It passes no signal on, so all of them are told.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, 15)
            process.wait()
            engine("rm", name, check=False)
