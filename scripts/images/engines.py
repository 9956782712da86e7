"""What builds and runs images here: docker, podman or buildah, said in the same few words.

As root, podman and buildah keep all they make in a storage of ours, below .build, which goes when the block ends: nothing of
anybody else's is seen or touched. buildah alone builds, and runs without a boundary (`buildah run`), so that fewer things
can be looked at.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["Engine", "EngineFailed", "engine"]

_LIMIT = 20_000


class EngineFailed(Exception):
    """A command of the engine ended with another status than 0; its last lines are the message."""


@dataclass
class Engine:
    """``program`` is docker, podman or buildah; ``environment`` names its storage."""

    program: str
    environment: Mapping[str, str]
    log: Path
    made: list[str] = field(default_factory=list)

    @property
    def runs(self) -> bool:
        """Whether it runs containers that can be limited, asked and stopped."""
        return self.program != "buildah"

    def __call__(self, *arguments: str, check: bool = True, **options: Any) -> subprocess.CompletedProcess[str]:
        """One command of the engine, its output in text. Raises EngineFailed."""
        done = subprocess.run(
            [*self._command(), *arguments],
            env=self.environment, text=True, stdin=subprocess.DEVNULL, capture_output=True, check=False, **options,
        )  # fmt: skip
        if check and done.returncode != 0:
            last = "\n".join((done.stderr or done.stdout).strip().splitlines()[-5:])
            raise EngineFailed(f"{self.program} {arguments[0]}: status {done.returncode}\n{last}")
        return done

    def build(self, dockerfile: Path, tag: str, arguments: Mapping[str, str], secrets: Mapping[str, Path]) -> None:
        """Build an image; what is said on the way goes to the log. Raises EngineFailed."""
        command = [*self._command(), "build", "--tag", tag, "--file", str(dockerfile)]
        if self.program != "docker":
            # Only docker's format holds a HEALTHCHECK; layers would leave a copy of every step behind.
            command += ["--isolation", "chroot", "--format", "docker", "--layers=false"]
        for name, value in arguments.items():
            command += ["--build-arg", f"{name}={value}"]
        for name, path in secrets.items():
            command += ["--secret", f"id={name},src={path}"]
        with self.log.open("ab") as log:
            environment = {**self.environment, "DOCKER_BUILDKIT": "1"}
            status = subprocess.run(
                [*command, "."], env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=False
            ).returncode
        if status != 0:
            raise EngineFailed(f"{dockerfile} cannot be built: see {self.log}")
        self.made.append(tag)

    def can_pull(self, image: str) -> bool:
        """Whether an image is here, or comes from a registry."""
        return self("pull", image, check=False, timeout=600).returncode == 0

    def take_in(self, archive: Path, tag: str) -> None:
        """Make an image of an archive of files."""
        if self.program == "buildah":
            name = self("from", "scratch").stdout.strip()
            self("add", name, str(archive), "/")
            self("commit", name, tag)
            self("rm", name)
        else:
            self("import", str(archive), tag)
        self.made.append(tag)

    def described(self, image: str) -> dict[str, Any]:
        """What the engine knows of an image: its config, among others."""
        if self.program == "buildah":
            found: dict[str, Any] = json.loads(self("inspect", "--type", "image", image).stdout)
            config = found["Docker"]["config"]
        else:
            (found,) = json.loads(self("image", "inspect", image).stdout)
            config = {**found["Config"]}
            if found.get("HealthCheck") or found.get("Healthcheck"):
                config["Healthcheck"] = found.get("HealthCheck") or found.get("Healthcheck")
        return dict(config)

    def saved(self, image: str) -> Iterator[bytes]:
        """The image as an archive, piece by piece: every file of every layer, the config, the history. Not packed."""
        with tempfile.TemporaryDirectory(dir=self.log.parent) as folder:
            archive = Path(folder) / "image.tar"
            if self.program == "buildah":
                self("push", image, f"docker-archive:{archive}")
            else:
                self("save", "--output", str(archive), image)
            with archive.open("rb") as file:
                while piece := file.read(16 << 20):
                    yield piece

    def unpacked_bytes(self, image: str) -> int:
        """What the image takes on a disk: the sum of its layers, as they are."""
        if self.program == "buildah":
            sizes = json.loads(self("images", "--json", image).stdout)
            return _bytes(sizes[0]["size"])
        (found,) = json.loads(self("image", "inspect", image).stdout)
        return int(found["Size"])

    def run_arguments(self) -> list[str]:
        """What `run` needs here, whatever the image."""
        if self.program != "podman":
            return []
        # Without systemd nothing would call its health checks, and podman says so on every start.
        words = ["--no-healthcheck"]
        for name, number in (("nofile", resource.RLIMIT_NOFILE), ("nproc", resource.RLIMIT_NPROC)):
            hard = resource.getrlimit(number)[1]
            limit = _LIMIT if hard == resource.RLIM_INFINITY else min(hard, _LIMIT)
            words += ["--ulimit", f"{name}={limit}:{limit}"]
        return words

    def forget(self) -> None:
        """Remove the images that were made."""
        for tag in reversed(self.made):
            self("rmi", "--force", tag, check=False)
        self.made.clear()

    def _command(self) -> list[str]:
        # crun wants another form of cgroups than some machines have.
        runtime = ["--runtime", "runc"] if self.program == "podman" and shutil.which("runc") else []
        return [self.program, *runtime]


def _bytes(text: str) -> int:
    number, unit = text.split()
    return int(float(number) * {"B": 1, "KB": 1e3, "kB": 1e3, "MB": 1e6, "GB": 1e9}[unit])


@contextlib.contextmanager
def engine(build: Path, wanted: str = "") -> Iterator[Engine | None]:
    """The engine that is here, or the one that is ``wanted``; None if there is none. What it made goes with the block."""
    program = wanted or _found()
    if not program:
        yield None
        return
    build.mkdir(parents=True, exist_ok=True)
    log = build / "build.log"
    log.write_bytes(b"")
    own = program != "docker" and os.getuid() == 0 and "CONTAINERS_STORAGE_CONF" not in os.environ
    with contextlib.ExitStack() as stack:
        environment = dict(os.environ)
        if own:
            graph = build / "storage"
            # Sockets are made in here, and their paths may be 108 bytes long.
            run = stack.enter_context(tempfile.TemporaryDirectory(prefix="graphpipe-", ignore_cleanup_errors=True))
            conf = build / "storage.conf"
            conf.write_text(f'[storage]\ndriver = "overlay"\nrunroot = "{run}"\ngraphroot = "{graph}"\n')
            environment["CONTAINERS_STORAGE_CONF"] = str(conf)
            stack.callback(shutil.rmtree, graph, ignore_errors=True)
        found = Engine(program, environment, log)
        stack.callback(found.forget)
        yield found


def _found() -> str:
    for program in ("docker", "podman", "buildah"):
        if shutil.which(program):
            # The client of docker may be here without a daemon to talk to.
            command = [program, "info" if program != "buildah" else "version"]
            if subprocess.run(command, capture_output=True, check=False).returncode == 0:
                return program
    return ""
