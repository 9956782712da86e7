"""`make serve` and `make demo` as a newcomer meets them: the answer, the signals, and one clear line for a failure."""

import contextlib
import os
import pty
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from graphpipe import remote

ROOT = Path(__file__).resolve().parent.parent
WAIT_S = 60

# Elsewhere `make` would first spend minutes on a .venv of its own, behind the back of whoever runs one test.
in_venv = pytest.mark.skipif(Path(sys.prefix) != ROOT / ".venv", reason="runs in the .venv that make sets up")


STARTED = []


@pytest.fixture(autouse=True)
def leave_nothing_running():
    """After a test that failed half-way, too."""
    yield
    for process in STARTED:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
    STARTED.clear()


def make(*arguments, **options):
    """A make in a process group of its own, its output in a pipe."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    options = {"cwd": ROOT, "env": plain_environment(), "process_group": 0, **pipes, **options}
    process = subprocess.Popen(["make", "--no-print-directory", *arguments], text=True, **options)
    STARTED.append(process)
    return process


def plain_environment(**more):
    """What a shell has, without what an outer make or a CI adds."""
    not_mine = ("MAKEFLAGS", "MAKELEVEL", "MFLAGS", "PORT", "ORT_DISABLE_TELEMETRY")
    return {k: v for k, v in os.environ.items() if k not in not_mine} | more


def read_until_serving(process):
    """The output up to the line that says so, and the URL in it."""
    lines = []
    for line in process.stdout:
        lines.append(line)
        if match := re.search(r"Serving on (http://\S+) until", line):
            return "".join(lines), match[1]
    pytest.fail(f"make serve ended with status {process.wait()}:\n{''.join(lines)}")


def is_free(url):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", int(url.rsplit(":", 1)[1]))) != 0


def until(condition, what):
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {WAIT_S} s"
        time.sleep(0.05)


def children(pid):
    tasks = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in tasks.read_text().split()]


@in_venv
def test_make_demo_prints_the_answer_and_the_next_commands_exits_0_and_leaves_an_empty_home_empty(tmp_path):
    process = make("demo", "PORT=0", env=plain_environment(HOME=str(tmp_path)))
    output, _ = process.communicate(timeout=WAIT_S)
    assert process.returncode == 0, output
    assert "says: 7   (whoever wrote it says: 7)" in output
    assert "curl http://127.0.0.1:" in output
    assert list(tmp_path.iterdir()) == []


@in_venv
def test_the_commands_that_make_serve_prints_work_when_pasted():
    process = make("serve", "PORT=0")
    output, url = read_until_serving(process)
    pasted = re.findall(r"^  (\S+ .*)$", output, re.MULTILINE)
    assert len(pasted) == 2
    answers = [subprocess.check_output(["sh", "-c", command], cwd=ROOT, text=True) for command in pasted]
    assert answers[0] == "[7]\n"
    assert '"Name": "digits"' in answers[1]
    os.killpg(process.pid, signal.SIGTERM)
    process.communicate(timeout=WAIT_S)
    assert is_free(url)


@in_venv
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_serving_process_ends_make_serve_with_0(number):
    process = make("serve", "PORT=0")
    _, url = read_until_serving(process)
    (recipe,) = children(process.pid)
    os.kill(recipe, number)
    output, _ = process.communicate(timeout=WAIT_S)
    # The access log's line for the digit may come after the answer to it.
    lines = [line for line in output.splitlines() if "graphpipe.access" not in line]
    assert process.returncode == 0
    assert re.fullmatch(r"\S+ stopping; SIG\w+ again to stop now\n\S+ stopped", "\n".join(lines))
    assert is_free(url)


@in_venv
@pytest.mark.parametrize(
    ("whom", "number"),
    [
        ("make alone", signal.SIGTERM),
        ("its process group", signal.SIGINT),
        pytest.param("make alone", signal.SIGINT, marks=pytest.mark.slow),
        pytest.param("its process group", signal.SIGTERM, marks=pytest.mark.slow),
    ],
)
def test_a_signal_to_make_itself_stops_everything(number, whom):
    process = make("serve", "PORT=0")
    _, url = read_until_serving(process)
    recipe = children(process.pid)
    everyone = [*recipe, *children(recipe[0])]
    (os.kill if whom == "make alone" else os.killpg)(process.pid, number)
    output, _ = process.communicate(timeout=WAIT_S)
    assert "Traceback" not in output
    assert "status" not in output  # the server's own, which was 0
    assert process.returncode == -number  # GNU make kills itself with what it got, whatever its recipe made of it
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in everyone), "the end of all processes")
    assert is_free(url)


@in_venv
def test_the_server_ends_with_a_make_that_is_killed():
    process = make("serve", "PORT=0")
    _, url = read_until_serving(process)
    process.kill()
    until(lambda: is_free(url), "the end of the server")
    process.communicate(timeout=WAIT_S)


@in_venv
def test_ctrl_c_in_a_terminal_ends_make_serve_with_0():
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(ROOT)
        os.execvpe("make", ["make", "serve", "PORT=0"], plain_environment())
    output = read_terminal_until(terminal, b"until Ctrl-C")
    url = re.search(rb"Serving on (http://\S+)", output)[1].decode()
    os.write(terminal, b"\x03")
    output += read_terminal_until(terminal, b"\0 never comes")
    _, status = os.waitpid(pid, 0)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(status) == 0, output
    assert b"Error" not in output
    assert is_free(url)


def read_terminal_until(terminal, mark):
    output, deadline = b"", time.monotonic() + WAIT_S
    while mark not in output:
        ready, _, _ = select.select([terminal], [], [], max(0, deadline - time.monotonic()))
        assert ready, f"{mark!r} did not come within {WAIT_S} s, only {output!r}"
        try:
            output += os.read(terminal, 1 << 16)
        except OSError:  # all who had the other end are gone
            break
    return output


@in_venv
@pytest.mark.parametrize("port", ["x", "-1", "65536", "90 00"])
def test_a_port_that_is_none_is_one_clear_line(port):
    process = make("demo", f"PORT={port}")
    output, _ = process.communicate(timeout=WAIT_S)
    assert process.returncode != 0
    assert meaning(output) == [f"PORT is a number from 0 to 65535, not {port!r}"]


@in_venv
def test_a_port_in_use_is_one_clear_line():
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        process = make("serve", f"PORT={port}")
        output, _ = process.communicate(timeout=WAIT_S)
    assert process.returncode != 0
    (line,) = meaning(output)
    assert f"127.0.0.1:{port} is already in use" in line


@in_venv
def test_two_servers_run_side_by_side_and_both_answer():
    processes = [make("serve", "PORT=0") for _ in range(2)]
    urls = [read_until_serving(process)[1] for process in processes]
    assert len(set(urls)) == 2
    for url in urls:
        assert remote.get_input_names(url) == ["pixels"]
    for process in processes:
        os.killpg(process.pid, signal.SIGTERM)
        process.communicate(timeout=WAIT_S)


def meaning(output):
    """The lines of a failed make, without make's own and the notice that a set-up begins."""
    return [line for line in output.splitlines() if not line.startswith(("make: ***", "setting up .venv"))]


# ---- Set-up that cannot succeed, in a copy of the tree that has no .venv


@pytest.fixture
def copy(tmp_path):
    """What a clone of the working tree would hold."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout.decode().split("\0")
    folder = tmp_path / "a clone"  # with a space: people have such folders
    for name in filter(None, names):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    return folder


def script(path, text):
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def test_no_network_is_one_clear_line(copy, tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    # The pip that builds the package would try five times, each time after a longer wait.
    offline = {"PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_CONFIG_FILE": os.devnull, "PIP_RETRIES": "1"}
    offline["HOME"] = str(home)
    process = make("demo", cwd=copy, env=plain_environment(**offline))
    output, _ = process.communicate(timeout=WAIT_S * 2)
    assert process.returncode != 0
    assert meaning(output) == [f"no package index can be reached: see {copy}/.build/set-up.log"]
    assert list(home.iterdir()) == []


def test_a_python_too_old_is_one_clear_line(copy, tmp_path):
    old = script(tmp_path / "old-python", 'case $1 in -V) echo "Python 3.8.1";; *) exit 1;; esac')
    process = make("demo", f"PYTHON={old}", cwd=copy)
    output, _ = process.communicate(timeout=WAIT_S)
    assert process.returncode != 0
    (line,) = meaning(output)
    assert line.startswith("Python 3.11 or newer is needed; found Python 3.8.1.")


def test_no_python_at_all_is_one_clear_line(copy, tmp_path):
    process = make("demo", f"PYTHON={tmp_path}/none", cwd=copy)
    output, _ = process.communicate(timeout=WAIT_S)
    assert process.returncode != 0
    (line,) = meaning(output)
    assert line.startswith("Python 3.11 or newer is needed; found no ")


def test_a_python_without_venv_is_one_clear_line(copy, tmp_path):
    lacking = tmp_path / "lacking"
    lacking.mkdir()
    (lacking / "ensurepip.py").write_text("raise ImportError('as on Debian without python3-venv')\n")
    # with_venv.sh clears PYTHONPATH, so the interpreter itself brings it along.
    python = script(tmp_path / "python", f'PYTHONPATH="{lacking}" exec "{sys.executable}" "$@"')
    process = make("demo", f"PYTHON={python}", cwd=copy)
    output, _ = process.communicate(timeout=WAIT_S)
    assert process.returncode != 0
    (line,) = meaning(output)
    assert "has no venv module" in line


def test_a_read_only_clone_is_one_clear_line(copy):
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    copy.chmod(0o555)
    try:
        process = make("demo", cwd=copy)
        output, _ = process.communicate(timeout=WAIT_S)
    finally:
        copy.chmod(0o755)
    assert process.returncode != 0
    assert len(meaning(output)) == 1
