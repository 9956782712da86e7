"""What a test gets from the template is a process of its own, and one that is started afresh where a fork would show."""

from __future__ import annotations

import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.processes import Forked, start
from tests.serving import environment, serving

Start = Callable[..., Any]


@pytest.fixture
def run() -> Iterator[Start]:
    """Starts a program in the tests' environment: run(code, *arguments)."""
    with tempfile.TemporaryFile() as log:

        def started(code: str, *args: str, **settings: Any) -> Any:
            env = environment(**settings.pop("env", {}))
            processes.append(start(code, args, env=env, stderr=log, **settings))
            return processes[-1]

        processes: list[Any] = []
        yield started
        for process in processes:
            process.kill()
            process.wait()
            process.stdout.close()


def test_it_is_forked_and_has_its_own_arguments_environment_folder_and_streams(run, tmp_path):
    code = "import os, sys; print(sys.argv, os.environ['TEST_WORD'], os.getcwd(), __name__, len(sys.stdin.read()))"
    process = run(code, "a", "b", env={"TEST_WORD": "w"}, cwd=tmp_path)
    assert isinstance(process, Forked)
    assert process.stdout.read().decode() == f"['-c', 'a', 'b'] w {tmp_path} __main__ 0\n"
    assert process.wait(30) == 0


def test_it_holds_no_descriptor_but_its_standard_ones(run):
    code = "import os; print(*[number for number in os.listdir('/proc/self/fd') if int(number) > 2])"
    # The one is that of the folder that is being listed.
    assert run(code).stdout.read() == b"3\n"


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("", 0),
        ("raise SystemExit(7)", 7),
        ("1 / 0", 1),
        ("import os; os._exit(9)", 9),
        ("import os; os.kill(os.getpid(), 9)", -signal.SIGKILL),
    ],
)
def test_its_end_is_told_as_that_of_any_process(run, code, status):
    process = run(code)
    assert process.wait(30) == status == process.poll() == process.returncode


def test_signals_do_to_it_what_they_do_to_any_python(run):
    code = "import signal\ntry: print('here'); signal.pause()\nexcept KeyboardInterrupt: print('interrupted')"
    interrupted, ended = run(code), run(code)
    for process in (interrupted, ended):
        assert process.stdout.readline() == b"here\n"
        assert process.poll() is None
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0)
    interrupted.send_signal(signal.SIGINT)
    ended.terminate()
    assert (interrupted.wait(30), ended.wait(30)) == (0, -signal.SIGTERM)
    assert interrupted.stdout.read() == b"interrupted\n"


def test_what_a_fork_cannot_inherit_is_started_afresh(run):
    assert isinstance(run("", env={"PYTHONHASHSEED": "1"}), subprocess.Popen)
    assert isinstance(run("", afresh=True), subprocess.Popen)
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert isinstance(run(""), subprocess.Popen)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_server_imports_nothing_more_of_ours_once_it_is_forked():
    """Or each start in a test takes several times as long."""
    code = (
        "import atexit, sys; before = set(sys.modules); from graphpipe.server.cli import main\n"
        "atexit.register(lambda: print(*sorted(set(sys.modules) - before), file=sys.stderr))\n"
        "main(prog_name='graphpipe-serve')"
    )
    with serving("--model", "echo", "--listen", "127.0.0.1:0", "--drain-grace-s", "0", code=code) as server:
        assert isinstance(server.process, Forked)
        server.stop()
        imported = server.log.splitlines()[-1].split()
    assert "stringprep" in imported  # others do
    assert not [name for name in imported if name.startswith(("graphpipe", "aiohttp", "uvloop", "ngh2"))]
