"""A server in surroundings that leave something out: standard descriptors, a reader, room on the disk, a home."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import graphpipe
from tests.operation.conftest import samples, until
from tests.serving import ROOT, environment, run_to_end

pytestmark = pytest.mark.slow

X = np.arange(3, dtype=np.float32)
SERVE = [sys.executable, "-c", "from graphpipe.server.start import serve_main; serve_main()"]


@contextlib.contextmanager
def started(*command: str, listen: Path, shell: str = "", **settings: object) -> Iterator[subprocess.Popen[bytes]]:
    """A server on a Unix socket, whose file says that it listens: nothing that it prints may be needed."""
    whole = [*SERVE, "-l", f"unix:{listen}", *command]
    if shell:
        whole = ["sh", "-c", f'exec "$@" {shell}', "sh", *whole]
    settings = {"cwd": ROOT, "env": environment(), "stdin": subprocess.DEVNULL, **settings}
    process = subprocess.Popen(whole, **settings)  # type: ignore[call-overload]
    try:
        until(lambda: process.poll() is not None or listens(listen))
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait(30)


def listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0


def descriptors(pid: int) -> list[str]:
    return [os.readlink(f"/proc/{pid}/fd/{number}") for number in range(3)]


CLOSED = [numbers for count in (1, 2, 3) for numbers in itertools.combinations((0, 1, 2), count)]


@pytest.mark.parametrize("closed", CLOSED, ids=str)
def test_standard_descriptors_that_are_closed_change_nothing_and_become_no_sockets(
    closed: tuple[int, ...], tmp_path: Path
) -> None:
    shell = " ".join(f"{number}{'<' if number == 0 else '>'}&-" for number in closed)
    with started("-m", "echo", listen=tmp_path / "s", shell=shell) as process:
        assert graphpipe.remote.execute(f"unix:{tmp_path}/s", X).tolist() == X.tolist()
        assert [descriptors(process.pid)[number] for number in closed] == ["/dev/null"] * len(closed)
        process.terminate()
        assert process.wait(30) == 0


def test_with_workers_too(tmp_path: Path) -> None:
    with started("-m", "echo", "--workers", "2", listen=tmp_path / "s", shell="0<&- 1>&- 2>&-") as process:
        assert graphpipe.remote.execute(f"unix:{tmp_path}/s", X).tolist() == X.tolist()
        assert descriptors(process.pid) == ["/dev/null"] * 3
        process.terminate()
        assert process.wait(30) == 0


def test_a_program_that_serves_gives_no_standard_descriptor_to_a_caller(tmp_path: Path) -> None:
    code = "import os, graphpipe; [os.close(n) for n in range(3)]; "
    code += f"graphpipe.serve('echo', 'unix:{tmp_path}/s', on_ready=lambda url: None)"
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, env=environment())
    try:
        until(lambda: process.poll() is not None or listens(tmp_path / "s"))
        assert descriptors(process.pid) == ["/dev/null"] * 3
    finally:
        process.terminate()
    assert process.wait(30) == 0


PRINTS = ("-m", "double=tests.operation.models:double", "--access-lines-per-s", "100")


@pytest.mark.parametrize("workers", ["1", "2"])
def test_nobody_who_reads_what_it_prints_is_nobodys_failure(tmp_path: Path, workers: str) -> None:
    reader, writer = os.pipe()
    with started(*PRINTS, "--workers", workers, listen=tmp_path / "s", stdout=writer, stderr=writer) as process:
        os.close(writer)
        said = b""
        while b"listening on" not in said:
            said += os.read(reader, 1000)
        os.close(reader)  # as `head -1` does
        for _ in range(3):
            answer = graphpipe.remote.execute(f"unix:{tmp_path}/s", X, config="print something")
            assert answer.tolist() == (2 * X).tolist()
        process.terminate()
        assert process.wait(30) == 0


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_full_disk_under_what_it_prints_is_nobodys_failure(tmp_path: Path, workers: str) -> None:
    with open("/dev/full", "wb") as full:
        streams = {"stdout": full, "stderr": full}
        with started(*PRINTS, "--workers", workers, listen=tmp_path / "s", **streams) as process:
            answer = graphpipe.remote.execute(f"unix:{tmp_path}/s", X, config="print something")
            assert answer.tolist() == (2 * X).tolist()
            process.terminate()
            assert process.wait(30) == 0


NOBODY = ("setpriv", "--reuid=12345", "--regid=12345", "--clear-groups")
# The interpreter of these tests may be where only their user may read.
NOBODY += ("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search")
as_root = pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("setpriv"), reason="needs root and setpriv")


@as_root
@pytest.mark.parametrize("home", [None, "/nonexistent"])
@pytest.mark.parametrize("workers", ["1", "2"])
def test_without_a_home_and_a_name_it_serves_and_says_where_the_cache_could_be(
    tmp_path: Path, home: str | None, workers: str
) -> None:
    env = environment()
    env.pop("HOME", None)
    if home is not None:
        env["HOME"] = home
    command = [*NOBODY, *SERVE, "-l", "127.0.0.1:0", "-m", "double=tests.operation.models:double"]
    command += ["--cache", "--cache-version", "1", "--workers", workers]
    process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    line = process.stdout.readline()
    try:
        assert graphpipe.remote.execute(line.split()[-1], X).tolist() == (2 * X).tolist()
    finally:
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=30)
    assert (process.returncode, log.count("served without its row cache"), "Traceback" in log) == (
        0,
        int(workers),
        False,
    )
    assert "--cache-dir" in log


# All that is mounted becomes read-only, for whoever this starts and nobody else, and /dev/shm goes.
NO_PLACE = """
mount --make-rprivate / && umount --lazy /dev/shm || exit 99
cut -d ' ' -f 2 /proc/mounts | grep -v '^/proc' | while read -r place; do mount -o remount,bind,ro "$place"; done 2>&-
exec "$@"
"""


def may_mount() -> bool:
    command = ["unshare", "--mount", "sh", "-c", NO_PLACE, "sh", "true"]
    return shutil.which("unshare") is not None and subprocess.run(command, check=False).returncode == 0


@pytest.mark.parametrize("workers", ["1", "2"])
def test_with_no_place_to_write_to_and_no_shared_memory_it_serves_and_counts_for_all_workers(workers: str) -> None:
    if not may_mount():
        pytest.skip("needs root and unshare")
    code = "import os, tempfile\ntry: print(tempfile.gettempdir())\nexcept FileNotFoundError: pass\n"
    code += f"assert os.listdir('/dev/shm') == []\n{SERVE[2]}"
    command = [sys.executable, "-c", code, "-l", "127.0.0.1:0", "-m", "examples/digits/digits.onnx"]
    process = subprocess.Popen(
        ["unshare", "--mount", "sh", "-c", NO_PLACE, "sh", *command, "--workers", workers],
        cwd=ROOT, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    line = process.stdout.readline()
    try:
        assert line.startswith("listening on ")  # and no place for temporary files was found
        url = line.split()[-1]
        digit = np.load(ROOT / "examples/digits/digit.npy")
        for _ in range(3):
            graphpipe.remote.execute(url, digit, output_name="label")
        series = 'graphpipe_request_duration_seconds_count{model="digits"}'
        until(lambda: samples(url).get(series, 0) >= 3)  # a worker tells the others twice a second
    finally:
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=30)
    assert (process.returncode, "Traceback" in log) == (0, False)


# --- whose cache folder is trusted -----------------------------------------------------------------------------------


def cached(folder: Path, *before: str, umask: int | None = None) -> subprocess.CompletedProcess[str]:
    """A server with its row cache in a folder, from its start to its end."""
    code = "import sys, graphpipe; f = lambda x: x; f.__module__ = 'm'; graphpipe.serve(f, '127.0.0.1:0', name='m', "
    code += "cache=True, cache_version='1', cache_dir=sys.argv[1], on_ready=lambda url: sys.exit(0))"
    if not before:
        return run_to_end(folder, code=code if umask is None else f"import os; os.umask({umask}); {code}", cwd=ROOT)
    return subprocess.run(
        [*before, sys.executable, "-c", code, str(folder)],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize("inner", [False, True])
def test_a_cache_folder_that_anybody_may_write_to_is_refused_with_what_to_do(tmp_path: Path, inner: bool) -> None:
    folder = tmp_path / "cache"
    rows = folder / "m.rows"
    rows.mkdir(parents=True, mode=0o700)
    (rows if inner else folder).chmod(0o707)
    flags = ("--cache", "--cache-version", "1", "--cache-dir", folder)
    done = run_to_end("-l", "127.0.0.1:0", "-m", "m=echo", *flags)
    assert (done.returncode, done.stdout) == (1, "")
    assert len(done.stderr.splitlines()) == 1
    assert "anybody may write" in done.stderr
    assert "chmod o-w" in done.stderr
    assert "--cache-dir" in done.stderr


@as_root
def test_a_cache_folder_of_somebody_else_is_refused_and_roots_is_not(tmp_path: Path) -> None:
    for path in (tmp_path, *tmp_path.parents[:2]):
        path.chmod(0o755)
    folder = tmp_path / "cache"
    folder.mkdir(mode=0o700)
    os.chown(folder, 54321, 54321)
    done = cached(folder)
    assert "belongs to user 54321" in done.stderr
    assert "chown" in done.stderr
    os.chown(folder, 0, 0)
    rows = folder / "m.rows"
    rows.mkdir()
    os.chown(rows, 12345, 12345)
    folder.chmod(0o755)
    done = cached(folder, *NOBODY)
    assert (done.returncode, done.stderr) == (0, "")
    assert (rows / "data.mdb").exists()


def test_a_cache_folder_that_a_group_may_write_to_is_a_warning(tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    folder.mkdir(mode=0o700)
    folder.chmod(0o770)
    done = cached(folder)
    assert done.returncode == 0, done.stderr
    assert f"may write to the cache folder {folder}" in done.stderr


def test_a_cache_folder_of_our_own_making_is_ours_alone_whatever_the_umask(tmp_path: Path) -> None:
    assert cached(tmp_path / "a" / "cache", umask=0).returncode == 0
    assert [path.stat().st_mode & 0o777 for path in (tmp_path / "a" / "cache", tmp_path / "a/cache/m.rows")] == [
        0o700
    ] * 2
