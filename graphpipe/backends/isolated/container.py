"""A container that a process of a model runs in: which engine runs it, and what of this machine is in there.

podman hands an open socket on to a container, which docker cannot; what goes over that socket, shared memory among it, is
all that a model there has of us. Of our files it sees those that are named here, at their own paths and not to be written.
"""

from __future__ import annotations

import os
import re
import resource
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from graphpipe.backends.isolated.interpreter import OURS_ALONE, PROGRAM, path_for
from graphpipe.backends.isolated.limits import thread_variables
from graphpipe.backends.options import LoadOptions
from graphpipe.errors import LoadError
from graphpipe.venvs.program import run_program
from graphpipe.words import visible

__all__ = ["Container"]

_OURS = str(Path(__file__).parents[2])
_IMAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@-]{0,511}")
_FILE = re.compile(r"(.+\.py)(:[\w.]+)")
_MODULE = re.compile(r"[\w.]+:[\w.]+")
_PLACEHOLDER = "placeholder:"
_ASKED_S_MAX = 60.0

# podman hands on descriptors from 3 on, without a gap.
_SOCKET = 3
_ONTO_3 = """\
import os, sys
fd = int(sys.argv[1])
os.dup2(fd, 3)
if fd != 3:
    os.close(fd)
os.execv(sys.argv[2], sys.argv[2:])
"""
# What systemd has said to this process would be handed on too.
_SYSTEMDS = ("LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PID", "NOTIFY_SOCKET")
# Of descriptors, and of processes: more than a model needs, and what an engine may give that is itself limited.
_COUNT_MAX = 16384
# Libraries are unpacked there by some frameworks, and run from there.
_TMP = "/tmp:rw,exec,nosuid,nodev,size=1g"


@dataclass(frozen=True, slots=True)
class Container:
    """``shown`` are the files and folders of this machine that are in it. ``source`` and ``options`` are what is loaded
    there, with their paths as they are there, and ``path`` is where the model's modules lie.
    """

    engine: str
    image: str
    python: str
    source: str
    options: LoadOptions
    shown: Sequence[str]
    path: Sequence[str]

    @classmethod
    def of(cls, source: str, options: LoadOptions) -> Container:
        """The one that a model is to run in. Raises LoadError where there is no engine or no such image, or where more would
        be shown than the model.
        """
        if "://" in source or source.startswith(("remote:", "unix:")):
            raise LoadError(
                f"{source}: a model that is another server is not reached from a container: it has no network"
            )
        if not sys.executable:
            raise LoadError(
                f"{source}: this program does not know its interpreter, which starts the engine of containers"
            )
        engine = _engine(source, options.isolate_container)
        placed, own, path = _placed(source)
        options, files = _with_files(options)
        shown = _without_what_is_in_others([_OURS, *own, *files])
        for each in shown:
            if re.search(r'[,"\n]', each):
                raise LoadError(
                    f"{source}: {visible(each)} cannot be shown in a container: podman takes no comma in a path"
                )
        return cls(engine, options.isolate_container, options.python or "python3", placed, options, shown, path)

    def command(self, fd: int) -> list[str]:
        """The command line of one whose socket has this number here."""
        # fmt: off
        words = [
            sys.executable, "-I", "-S", "-c", _ONTO_3, str(fd),
            self.engine, "run", "--rm", "--pull", "never", "--preserve-fds", "1", "--sdnotify", "ignore",
            "--log-driver", "none", "--no-healthcheck", "--no-hosts",
            "--network", "none", "--cap-drop", "all", "--security-opt", "no-new-privileges",
            # Else SELinux refuses what is of this machine, the socket too.
            "--security-opt", "label=disable",
            "--user", "0:0", "--read-only", "--tmpfs", _TMP, "--workdir", "/", *_ulimits(),
        ]
        # fmt: on
        if self.options.isolate_memory_bytes:
            most = str(self.options.isolate_memory_bytes)
            words += ["--memory", most, "--memory-swap", most]
        if self.options.isolate_cpus:
            words += ["--cpus", str(self.options.isolate_cpus)]
        inside = {"HOME": "/tmp", "PYTHONDONTWRITEBYTECODE": "1", **thread_variables(self.options.isolate_cpus)}
        for name, value in inside.items():
            words += ["--env", f"{name}={value}"]
        for each in self.shown:
            words += ["--mount", f"type=bind,src={each},dst={each},ro"]
        return [*words, "--entrypoint", self.python, self.image, "-u", PROGRAM, str(_SOCKET), "0"]

    @staticmethod
    def variables() -> Mapping[str, str]:
        """The variables of the engine itself. What runs in the container gets none of them."""
        return {name: value for name, value in os.environ.items() if name not in (*OURS_ALONE, *_SYSTEMDS)}


def _engine(source: str, image: str) -> str:
    """The path of podman. Raises LoadError if it is not here or does not have the image."""
    what = f"{source}: --isolate-container {visible(image)}"
    if not _IMAGE.fullmatch(image):
        raise LoadError(f"{what}: that is no name of an image; expected one like registry.example/models:1.2")
    engine = shutil.which("podman")
    if engine is None:
        raise LoadError(
            f"{what}: it takes podman, and there is none on the PATH; docker cannot hand a socket on to a container, but a "
            "server in one of its containers can be a model: docs/isolation.md"
        )
    asked = run_program([engine, "image", "exists", image], _ASKED_S_MAX, 1 << 20)
    if asked.is_late:
        raise LoadError(f"{what}: podman said in {_ASKED_S_MAX:g} s not whether it has that image")
    if asked.status == 1:
        raise LoadError(f"{what}: podman has no such image, and none is fetched here; podman pull {image}")
    if asked.status:
        last = asked.last[-1] if asked.last else f"status {asked.status}"
        raise LoadError(f"{what}: podman does not run here: {last}")
    return engine


def _placed(source: str) -> tuple[str, list[str], list[str]]:
    """A source as it is in the container, what of this machine it takes, and where its modules are. Raises LoadError."""
    before, name, after = "", source, ""
    if source.startswith(_PLACEHOLDER):
        before, name = _PLACEHOLDER, source.removeprefix(_PLACEHOLDER)
    elif match := _FILE.fullmatch(source):
        name, after = match[1], match[2]
    if not os.path.exists(name):
        folders = [*path_for("")[0], os.getcwd()] if _MODULE.fullmatch(source) else []
        folders = [each for each in dict.fromkeys(folders) if _is_small(each)]
        return source, folders, folders
    path = os.path.abspath(name)
    folder = path if os.path.isdir(path) else os.path.dirname(path)
    while after and os.path.isfile(os.path.join(folder, "__init__.py")):
        folder = os.path.dirname(folder)  # the file is a module of that package
    if not _is_small(folder):
        raise LoadError(
            f"{source}: its container would be shown all of {folder}, since a model may need what lies beside it; put it in "
            "a folder of its own"
        )
    return before + path + after, [folder], []


def _is_small(folder: str) -> bool:
    """Whether there is less in a folder than all that somebody has."""
    large = (Path.home(), Path(tempfile.gettempdir()).absolute())
    return os.path.isdir(folder) and not any(each.is_relative_to(folder) for each in large)


def _with_files(options: LoadOptions) -> tuple[LoadOptions, Iterable[str]]:
    """Options whose files are named by their whole paths, and these files."""
    value_inputs = (
        os.path.abspath(options.value_inputs) if os.path.isfile(options.value_inputs) else options.value_inputs
    )
    libraries = tuple(os.path.abspath(each) if os.path.isfile(each) else each for each in options.custom_ops)
    problem = options.problem
    if isinstance(problem, str) and os.path.isfile(problem):
        problem = os.path.abspath(problem)
    files = [each for each in (value_inputs, problem, *libraries) if isinstance(each, str) and os.path.isfile(each)]
    arguments = options.arguments
    if arguments is not None:
        placed = {name: os.path.abspath(path) for name, path in arguments.files.items()}
        arguments = replace(arguments, files=placed)
        files += placed.values()
    return replace(
        options, value_inputs=value_inputs, problem=problem, custom_ops=libraries, arguments=arguments
    ), files


def _without_what_is_in_others(paths: Iterable[str]) -> list[str]:
    """Each once, and none that is in a folder that is among them."""
    once = list(dict.fromkeys(map(Path, paths)))
    return [str(each) for each in once if not any(each != other and each.is_relative_to(other) for other in once)]


def _ulimits() -> Iterator[str]:
    """No more than this process may have: the engine asks for more by itself, and fails where that is not given."""
    for name, number in (("nofile", resource.RLIMIT_NOFILE), ("nproc", resource.RLIMIT_NPROC)):
        hard = resource.getrlimit(number)[1]
        most = _COUNT_MAX if hard == resource.RLIM_INFINITY else min(hard, _COUNT_MAX)
        yield from ("--ulimit", f"{name}={most}:{most}")
