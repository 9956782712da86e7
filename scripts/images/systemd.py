"""The units of deploy/systemd in a systemd that is PID 1 of a container, with one of our images around it.

Everything is as in deploy/systemd: the address, the hardening, the half minute after which a server that hangs is ended.
"""

from __future__ import annotations

import re
import shutil
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from scripts.images.containers import MODELS, Container, serving
from scripts.images.models import ROOT
from scripts.images.subjects import Failed, Subject

__all__ = ["under_systemd"]

URL: Final = "http://127.0.0.1:9000"  # as in graphpipe.socket
SERVICE: Final = "graphpipe.service"
WAIT_S: Final = 120
# What a systemd takes to give its services namespaces of their own. --privileged would let it set the machine's sysctls.
RIGHTS: Final = (
    "--systemd=always",
    "--cap-add=SYS_ADMIN,MKNOD,NET_ADMIN,SYS_PTRACE",
    "--security-opt=seccomp=unconfined",
    "--security-opt=apparmor=unconfined",
)
STOP_S_MAX: Final = 10  # drain-grace-s and what an idle server takes to end
# A model that is loaded when its folder has a file ``go``.
GATE: Final = f"""
import os, time

print("the gate waits", flush=True)
while not os.path.exists("{MODELS}/go"):
    time.sleep(0.05)


def same(x):
    return x
"""


def under_systemd(subject: Subject) -> str:
    """Started by its first call, active only when its models are there, restarted when it is killed or hangs, stopped."""
    if not subject.image.systemd:
        return ""
    if subject.engine.program != "podman":
        return f"NOT RUN: it takes podman, which boots a systemd; {subject.engine.program} was used"
    tag = f"{subject.tag}-systemd"
    subject.engine.build(ROOT / "scripts/images/Dockerfile.systemd", tag, {"IMAGE": subject.tag}, {})
    try:
        with tempfile.TemporaryDirectory(prefix="graphpipe-") as folder:
            models = Path(folder) / "models"
            shutil.copytree(subject.folder, models)
            models.chmod(0o755)
            (models / "gate.py").write_text(GATE)
            settings = Path(folder) / "serve.toml"
            sources = {name: model.file for name, model in subject.models.items()} | {"gate": "gate.py:same"}
            settings.write_text("".join(f'[models.{n}]\nsource = "{MODELS}/{f}"\n' for n, f in sources.items()))
            settings.chmod(0o644)
            limits = [*RIGHTS, "--volume", f"{settings}:/etc/graphpipe/serve.toml:ro"]
            with serving(subject.engine, tag, [], models, limits=limits) as container:
                return _tried(Unit(container), subject, models / "go")
    finally:
        subject.engine("rmi", "--force", tag, check=False)


class Unit:
    """The service, as `systemctl` and the journal show it."""

    def __init__(self, container: Container) -> None:
        self.container = container

    def __getitem__(self, name: str) -> str:
        """A property of the service, as `systemctl show` prints it."""
        return self.container.run("systemctl", "show", "--value", "--property", name, SERVICE).stdout.strip()

    def told(self, *command: str) -> None:
        """A command of systemctl. Raises Failed."""
        done = self.container.run("systemctl", *command)
        if done.returncode != 0:
            raise Failed(f"systemctl {' '.join(command)}: {done.stderr.strip()}\n{self.journal()[-2000:]}")

    def journal(self) -> str:
        return self.container.run("journalctl", "--no-pager", "--output=cat", f"--unit={SERVICE}").stdout

    def until(self, what: str, holds: Callable[[], bool]) -> float:
        """Wait until something holds: the seconds that it took. Raises Failed."""
        began = time.monotonic()
        while not holds():
            if time.monotonic() > began + WAIT_S:
                raise Failed(f"under systemd it is never {what}: {self['ActiveState']}\n{self.journal()[-2000:]}")
            time.sleep(0.1)
        return time.monotonic() - began


def _tried(unit: Unit, subject: Subject, go: Path) -> str:
    container = unit.container
    unit.until("up", lambda: container.run("systemctl", "is-system-running").stdout.strip() == "running")
    version = re.findall(r"systemd (\d+)", container.run("systemctl", "--version").stdout)[0]
    unit.told("enable", "graphpipe.socket", SERVICE)
    unit.told("start", "graphpipe.socket")
    if unit["ActiveState"] != "inactive":
        raise Failed(f"the service is {unit['ActiveState']} before anybody called")
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(subject.must_answer, container, URL)
        unit.until("started by a call", lambda: "the gate waits" in unit.journal())
        state = unit["ActiveState"]
        go.touch()
        if state != "activating" or first.done():
            raise Failed(f"the service is {state} while its models are being loaded")
        first.result()
    unit.until("active", lambda: unit["ActiveState"] == "active")
    _reload(unit, subject)
    mended = _mended(unit, subject) if subject.image.name == "onnx" else []  # once is enough: it is slow
    began = time.monotonic()
    unit.told("stop", SERVICE)
    seconds = time.monotonic() - began
    ended = (unit["ActiveState"], unit["Result"], unit["ExecMainCode"], unit["ExecMainStatus"])
    if ended != ("inactive", "success", "1", "0") or seconds > STOP_S_MAX:
        raise Failed(f"stopped in {seconds:.1f} s, and was {ended}: {unit.journal()[-2000:]}")
    subject.must_answer(container, URL)  # started by a call once more
    unit.told("restart", SERVICE)
    subject.must_answer(container, URL)
    unit.told("stop", "graphpipe.socket", SERVICE)
    unit.told("start", SERVICE)  # which takes its socket along
    subject.must_answer(container, URL)
    seen = [
        f"systemd {version}, hardened: the first call starts it and is answered",
        "active once its models are loaded",
        "reloaded without an end",
    ]
    return "; ".join([*seen, *mended, f"stopped in {seconds:.1f} s, status 0"])


def _reload(unit: Unit, subject: Subject) -> None:
    """Have it read its certificates again, of which it has none here: it hears of that, and goes on."""
    before = unit["MainPID"]
    unit.told("reload", SERVICE)
    unit.until("told of a reload", lambda: "SIGHUP" in unit.journal())
    if (unit["MainPID"], unit["ActiveState"]) != (before, "active"):
        raise Failed(f"reloaded, it is {unit['ActiveState']}: {unit.journal()[-2000:]}")
    subject.must_answer(unit.container, URL)


def _mended(unit: Unit, subject: Subject) -> list[str]:
    """Kill the server, then have it hang: what was seen, each time until there was another that answered."""
    seen: list[str] = []
    for signal, why, what in (("KILL", "signal", "killed"), ("STOP", "watchdog", "hung")):
        old, restarts = unit["MainPID"], str(len(seen) + 1)

        def again(restarts: str = restarts) -> bool:
            return unit["NRestarts"] == restarts and unit["ActiveState"] == "active"

        unit.container.run("sh", "-c", f"kill -{signal} {old}")
        seconds = unit.until(f"restarted after SIG{signal}", again)
        if unit["MainPID"] == old or f"Failed with result '{why}'" not in unit.journal():
            raise Failed(f"after SIG{signal} it was not restarted for that: {unit.journal()[-2000:]}")
        subject.must_answer(unit.container, URL)
        seen.append(f"{what}: restarted, active after {seconds:.0f} s")
    return seen
