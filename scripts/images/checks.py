"""What is asked of every image, each by running it; a check returns what was seen, and raises Failed for anything else."""

from __future__ import annotations

import json
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np

from scripts.images.containers import MODELS, SOCKETS, Container, serving, serving_without_a_boundary
from scripts.images.models import ROOT
from scripts.images.subjects import Failed, Subject
from scripts.images.systemd import under_systemd

__all__ = ["checked"]

OWNER: Final = 65532
STRANGER: Final = 4711
# Of what a user chose: his package, the one that was compiled with his flags, and no compiler.
_CHOSEN: Final = """
import h11, shutil
from multidict import _multidict
assert b'-fno-gcse' in open(_multidict.__file__, 'rb').read(), 'other CFLAGS'
assert shutil.which('gcc') is None, 'a compiler'
"""
# The kernel's own files, and POSIX queues of messages, are no places for a file.
_WRITABLE: Final = """
import os
if os.path.exists('/dev/shm'): print('/dev/shm')
for folder, folders, _ in os.walk('/'):
    if folder in ('/', '/dev'): folders[:] = [name for name in folders if name not in ('proc', 'mqueue')]
    if os.access(folder, os.W_OK): print(folder)
"""
MEMORY_BYTES: Final = 3 << 30
CALLS: Final = 60
SOCKET: Final = f"unix:{SOCKETS}/s.sock"


def checked(subject: Subject) -> Iterator[tuple[str, str]]:
    """Each check's name, and what was seen. Raises Failed, EngineFailed."""
    for check in _CHECKS if subject.engine.runs else _WITHOUT_CONTAINERS:
        found = check(subject)
        if found:
            yield re.sub(r"\b(one|original)s\b", r"\1's", check.__name__.replace("_", " ")), found


def labels(subject: Subject) -> str:
    config = subject.engine.described(subject.tag)
    found = config["Labels"]
    for name, wanted in (("version", subject.version), ("title", f"graphpipe-{subject.image.name}")):
        if found.get(f"org.opencontainers.image.{name}") != wanted:
            raise Failed(f"label {name} is {found.get(f'org.opencontainers.image.{name}')!r}, not {wanted!r}")
    if config["User"] != "65532:65532" or config["Entrypoint"][0] != "tini":
        raise Failed(f"user {config['User']}, entrypoint {config['Entrypoint']}")
    return f"version {subject.version}, user 65532"


def no_secret_inside(subject: Subject) -> str:
    """The files of all layers, the config with its environment, and the history."""
    seen, overlap = 0, b""
    longest = max(map(len, subject.tokens))
    for piece in subject.engine.saved(subject.tag):
        window = overlap + piece
        for token in subject.tokens:
            if token in window:
                raise Failed("a secret of the build is in the image")
        seen += len(piece)
        overlap = window[-longest:]
    return f"none in {seen / 1e6:.0f} MB"


def the_originals_command_line(subject: Subject) -> str:
    """Nothing restricted, nothing mounted but models; health; what is left behind by others; SIGTERM."""
    container: Container
    arguments = [*subject.served, "--listen=0.0.0.0:9000"]
    with serving(subject.engine, subject.tag, arguments, subject.folder) as container:
        subject.must_answer(container, "http://127.0.0.1:9000")
        _healthy(subject, container)
        _no_orphans(container)
        _bill(subject, container)
        owners = container.run("stat", "--format=%u:%g", "/", "/cache").stdout.split()
        if owners != ["0:0", "65532:65532"]:
            raise Failed(f"/ and /cache belong to {owners}")
        status, seconds = container.stop()
        if status != 0:
            raise Failed(f"status {status} after SIGTERM: {container.log()[-500:]}")
    return f"answered, healthy, orphans reaped, SIGTERM: status 0 in {seconds:.1f} s"


def the_originals_environment(subject: Subject) -> str:
    """GP_MODEL, and no argument but where to listen."""
    (name, model), *_ = subject.models.items()
    environment = {"GP_MODEL": f"{MODELS}/{model.file}", "GRAPHPIPE_LISTEN": SOCKET}
    flags = list(subject.image.flags)
    with serving(subject.engine, subject.tag, flags, subject.folder, environment=environment) as container:
        if not container.answer(model, f"unix:{container.sockets}/s.sock"):
            raise Failed(f"other numbers than wanted from {name}")
    return "GP_MODEL answered"


def a_port_from_outside(subject: Subject) -> str:
    """PORT, as platforms that run containers give it; without it, all addresses at 9000."""
    for environment, port in (({}, 9000), ({"PORT": "8080"}, 8080)):
        with serving(subject.engine, subject.tag, subject.served, subject.folder, environment=environment) as container:
            subject.must_answer(container, f"http://127.0.0.1:{port}")
            # The kernel's list of sockets, in hexadecimal; 0A is one that listens.
            if not re.search(rf" 00000000:{port:04X} 00000000:0000 0A ", container.run("cat", "/proc/net/tcp").stdout):
                raise Failed(f"it does not listen on 0.0.0.0:{port}")
    return "0.0.0.0:9000, and PORT"


def locked_down(subject: Subject) -> str:
    """Nothing to write to, no rights, somebody else's uid, little memory."""
    limits = ["--read-only", "--cap-drop", "all", "--security-opt", "no-new-privileges"]
    limits += ["--user", f"{STRANGER}:{STRANGER}", "--memory", str(MEMORY_BYTES)]
    if subject.engine.program == "podman":
        limits += ["--read-only-tmpfs=false"]
    if subject.image.tmpfs:
        limits += ["--tmpfs", "/tmp"]
    arguments = [*subject.served, f"--listen={SOCKET}"]
    with serving(subject.engine, subject.tag, arguments, subject.folder, limits=limits) as container:
        subject.must_answer(container, f"unix:{container.sockets}/s.sock")
        _healthy(subject, container)
        if container.run("id", "-u").stdout.strip() != str(STRANGER):
            raise Failed("it runs as somebody else than it was told")
        if container.run("sh", "-c", "echo x > /opt/graphpipe/x").returncode == 0:
            raise Failed("its root can be written to")
        told = container.run("graphpipe-serve", "--print-config", *arguments).stdout
        found = re.search(r"in-flight-bytes-max = \"?(\w+)", told)
        # A quarter of what the container may have, and not of the machine's.
        if found is None or _bytes(found[1]) != MEMORY_BYTES // 4:
            raise Failed(f"it does not see its memory limit: {found and found[0]}")
    return f"read-only{' with a /tmp' if subject.image.tmpfs else ''}, uid {STRANGER}, no capabilities, 3 GiB"


def another_command(subject: Subject) -> str:
    """A batcher of the same image in front of its server, as docs/images.md and the compose file have it, with a cache."""
    (name, model), *_ = subject.models.items()
    source = [f"--model={MODELS}/{model.file}", f"--listen={SOCKET}", *subject.image.flags]
    behind = "unix:/run/behind/s.sock"
    with (
        serving(subject.engine, subject.tag, source, subject.folder) as server,
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as cache,
    ):
        url = f"unix:{server.sockets}/s.sock"
        if not server.answer(model, url):
            raise Failed(f"other numbers than wanted from {name}")
        os.chown(cache, OWNER, OWNER)
        limits = ["--volume", f"{server.sockets}:/run/behind", "--volume", f"{cache}:/cache"]
        for before, arguments in (
            (["--entrypoint", "tini"], ["--", "graphpipe-batcher", f"--target-url={behind}"]),
            (["--read-only"], [f"--model=model={behind}", "--batch-rows-max=32", "--cache", "--cache-dir=/cache"]),
        ):
            words = [*arguments, f"--listen={SOCKET}"]
            with serving(subject.engine, subject.tag, words, subject.folder, limits=[*before, *limits]) as batcher:
                if not batcher.answer(model, f"unix:{batcher.sockets}/s.sock"):
                    raise Failed(f"other numbers than wanted from {name} by way of a batcher")
                if "without its row cache" in batcher.log():
                    raise Failed(f"no row cache: {batcher.log()[-500:]}")
    return "graphpipe-batcher in front of it answered, and one with a row cache"


def nowhere_to_write(subject: Subject) -> str:
    """Not one folder that the server may write to, and no shared memory: with workers too, who count together."""
    if subject.image.tmpfs:
        return ""
    limits = ["--read-only", "--cap-drop", "all", "--user", f"{STRANGER}:{STRANGER}", "--ipc", "none"]
    if subject.engine.program == "podman":
        limits += ["--read-only-tmpfs=false"]
    for workers in (1, 2):
        arguments = [*subject.served, f"--workers={workers}"]
        with serving(
            subject.engine, subject.tag, arguments, subject.folder, limits=limits, writable=False
        ) as container:
            subject.must_answer(container, "http://127.0.0.1:9000")
            done = container.run("python3", "-S", "-c", _WRITABLE)
            if done.returncode != 0 or done.stdout.strip():
                raise Failed(f"there is a place to write to: {done.stdout}{done.stderr}")
            status, _ = container.stop()
            if status != 0:
                raise Failed(f"--workers {workers}: status {status} after SIGTERM: {container.log()[-500:]}")
    return "no folder that it may write to, no /dev/shm, with 1 worker and with 2"


def kernels(subject: Subject) -> str:
    """Which of oneDNN's kernels ran, by its own log."""
    if not subject.image.kernels:
        return ""
    environment = {"ONEDNN_VERBOSE": "1", "DNNL_VERBOSE": "1"}
    arguments = [*subject.served, f"--listen={SOCKET}"]
    with serving(subject.engine, subject.tag, arguments, subject.folder, environment=environment) as container:
        subject.must_answer(container, f"unix:{container.sockets}/s.sock")
        found = re.findall(subject.image.kernels, container.log())
        if not found:
            raise Failed(f"no line of oneDNN's log has {subject.image.kernels!r}")
        return f"oneDNN: {found[-1].rstrip(',')}"


def threads(subject: Subject) -> str:
    """--intra-threads is how many threads compute: those that the kernel counts time for."""
    if not subject.image.obeys_threads:
        return ""
    name, model = list(subject.models.items())[-1]
    seen = []
    for wanted in (1, 2):
        flags = [
            f"--model={MODELS}/{model.file}",
            "--threads=1",  # one call at a time
            f"--intra-threads={wanted}",
            f"--listen={SOCKET}",
            *subject.image.flags,
        ]
        with serving(subject.engine, subject.tag, flags, subject.folder) as container:
            url = f"unix:{container.sockets}/s.sock"
            container.answer(model, url)
            before = _ticks(container)
            container.answer(model, url, times=CALLS)
            spent = {thread: ticks - before.get(thread, 0) for thread, ticks in _ticks(container).items()}
        # A thread that does not compute has none at all, and on a busy machine one that does may have little.
        busy = sum(ticks >= 3 for ticks in spent.values())
        if busy != wanted:
            raise Failed(f"--intra-threads {wanted}: {busy} threads computed {name}: {spent}")
        seen.append(f"{wanted}: {busy} busy")
    return f"--intra-threads {', '.join(seen)}"


def bfloat16(subject: Subject) -> str:
    """--bfloat16 gives other numbers, and nearly the same ones."""
    if not subject.image.computes_in_bfloat16:
        return ""
    _, model = list(subject.models.items())[-1]
    flags = [f"--model={MODELS}/{model.file}", "--bfloat16", f"--listen={SOCKET}", *subject.image.flags]
    with serving(subject.engine, subject.tag, flags, subject.folder) as container:
        answer = container.call(model, f"unix:{container.sockets}/s.sock")
    off = max(
        float(np.abs(answer[name] - wanted).max() / np.abs(wanted).max()) for name, wanted in model.wanted.items()
    )
    if not 1e-4 < off < 0.05:
        raise Failed(f"--bfloat16 is off by {off:.1e} of the largest number")
    return f"off by {off:.1e} of the largest number"


def choices_of_ones_own(subject: Subject) -> str:
    """The same image with what a user may say otherwise: it answers, and what was chosen is inside."""
    choices = subject.image.choices
    if not choices:
        return ""
    tag = f"{subject.tag}-of-my-own"
    arguments = {"BASE_IMAGE": subject.base, "VERSION": subject.version, **choices}
    subject.engine.build(ROOT / "docker" / f"Dockerfile.{subject.image.name}", tag, arguments, subject.secrets)
    try:
        own = replace(subject, tag=tag)
        no_secret_inside(own)
        if not subject.engine.runs:
            return f"built with {', '.join(choices)}"
        with serving(subject.engine, tag, [*subject.served, f"--listen={SOCKET}"], subject.folder) as container:
            subject.must_answer(container, f"unix:{container.sockets}/s.sock")
            _bill(own, container)
            done = container.run("python3", "-c", _CHOSEN)
            if done.returncode != 0:
                raise Failed(f"what was chosen is not inside: {done.stderr}")
    finally:
        subject.engine("rmi", "--force", tag, check=False)
    return f"answered with {', '.join(choices)}"


def no_gpu_here(subject: Subject) -> str:
    """What asks for a GPU ends with one line where there is none."""
    if not subject.image.refuses_gpu:
        return ""
    arguments = [*subject.served, "--device=cuda:0"]
    with serving(subject.engine, subject.tag, arguments, subject.folder) as container:
        deadline = time.monotonic() + 120
        while (state := container.state())["Status"] == "running" and time.monotonic() < deadline:
            time.sleep(0.2)
        lines = container.log().strip().splitlines()
        if state["ExitCode"] != 1 or len(lines) != 1:
            raise Failed(f"status {state['ExitCode']} and {len(lines)} lines: {lines[:5]}")
    return lines[0]


def answers(subject: Subject) -> str:
    """All that can be asked without containers."""
    arguments = [*subject.served, f"--listen={SOCKET}"]
    with serving_without_a_boundary(subject.engine, subject.tag, arguments, subject.folder) as sockets:
        subject.must_answer(Container(subject.engine, "", sockets), f"unix:{sockets}/s.sock")
    return "answered (buildah run: no limits, no health, no signals)"


_CHECKS: Final[Sequence[Callable[[Subject], str]]] = (
    labels,
    no_secret_inside,
    the_originals_command_line,
    the_originals_environment,
    a_port_from_outside,
    another_command,
    locked_down,
    nowhere_to_write,
    kernels,
    threads,
    bfloat16,
    no_gpu_here,
    choices_of_ones_own,
    under_systemd,
)
_WITHOUT_CONTAINERS: Final = (labels, no_secret_inside, answers, choices_of_ones_own, under_systemd)


def _healthy(subject: Subject, container: Container) -> None:
    """The image's own HEALTHCHECK, run as the engine would."""
    (kind, *command) = subject.engine.described(subject.tag)["Healthcheck"]["Test"]
    done = container.run(*command)
    if kind != "CMD" or done.returncode != 0:
        raise Failed(f"its health check says {done.stdout}{done.stderr}")


def _no_orphans(container: Container) -> None:
    """A process that its parent left is waited for by PID 1."""
    container.run("sh", "-c", "(sleep 0.2 &) ; (sleep 0.2 &)")
    time.sleep(1)
    code = (
        "import glob\nfor path in glob.glob('/proc/[0-9]*/stat'):\n"
        " state = open(path).read().rpartition(')')[2].split()[0]\n if state == 'Z': print(path)"
    )
    done = container.run("python3", "-S", "-c", code)
    if done.returncode != 0 or done.stdout.strip():
        raise Failed(f"zombies: {done.stdout}{done.stderr}")


def _bill(subject: Subject, container: Container) -> None:
    """The bill of materials names what Python finds in the image, no more and no less."""
    bill: dict[str, Any] = json.loads(container.run("cat", "/opt/graphpipe/sbom.cdx.json").stdout)
    written = {part["purl"] for part in [*bill["components"], bill["metadata"]["component"]]}
    code = (
        "import re\nfrom importlib import metadata\nfor each in metadata.distributions():\n"
        " print(re.sub('[-_.]+', '-', each.metadata['Name']).lower(), each.version)"
    )
    found = {tuple(line.split()) for line in container.run("python3", "-c", code).stdout.splitlines()}
    named = {purl.removeprefix("pkg:pypi/") for purl in written if purl.startswith("pkg:pypi/")}
    if named != {f"{name}@{version.replace('+', '%2B')}" for name, version in found}:
        raise Failed(f"the bill of materials and the image differ: {named ^ {'@'.join(each) for each in found}}")
    if not any(purl.startswith("pkg:deb/debian/tini@") for purl in written):
        raise Failed("the bill of materials lacks tini")


def _ticks(container: Container) -> dict[str, int]:
    """The time that each thread has had, in hundredths of a second, but for the main ones: a server's reads and writes."""
    code = (
        "import glob\nfor path in glob.glob('/proc/[0-9]*/task/*/stat'):\n"
        " words = open(path).read().rpartition(')')[2].split()\n print(path, int(words[11]) + int(words[12]))"
    )
    lines = container.run("python3", "-S", "-c", code).stdout.splitlines()
    found = {path: int(ticks) for path, ticks in map(str.split, lines)}
    return {path: ticks for path, ticks in found.items() if path.split("/")[2] != path.split("/")[4]}


def _bytes(text: str) -> int:
    number, unit = re.fullmatch(r"(\d+)(\w*)", text).groups()  # type: ignore[union-attr]
    return int(number) * {"": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}[unit]
