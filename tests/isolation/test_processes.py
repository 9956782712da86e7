"""The processes themselves: what they leave behind, what they may use, and that they run side by side."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import random
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import graphpipe
from graphpipe.errors import ModelFailed
from tests.isolation.conftest import children, eventually, is_alive, source, word
from tests.serving import environment

X = np.ones(3, np.float32)
LARGE = 50_000


def test_nothing_is_left_of_a_model_that_was_closed(nothing_left):
    with graphpipe.load(source("double"), isolate=2) as model:
        for _ in range(3):
            model.execute(np.ones(LARGE, np.float32))
        assert len(children()) >= 2
    with pytest.raises(graphpipe.GraphPipeError, match="closed"):
        model.execute(X)
    with new_descriptors_that_nobody_writes_to():
        model.close()


@contextlib.contextmanager
def new_descriptors_that_nobody_writes_to() -> Iterator[None]:
    pairs = [socket.socketpair() for _ in range(20)]
    try:
        yield
        for end in (end for pair in pairs for end in pair):
            end.setblocking(False)
            with pytest.raises(BlockingIOError):
                end.recv(100)
    finally:
        for end in (end for pair in pairs for end in pair):
            end.close()


def test_nothing_is_left_of_a_model_that_was_let_go_of(nothing_left):
    model = graphpipe.load(source("double"), isolate=1)
    model.execute(np.ones(LARGE, np.float32))
    del model


def test_nothing_is_left_of_a_model_that_could_not_be_loaded(nothing_left):
    with pytest.raises(graphpipe.LoadError) as raised:
        graphpipe.load(source("no_such_function"), isolate=2)
    with new_descriptors_that_nobody_writes_to():
        del raised  # and the half made model with it
        gc.collect()


def test_calls_that_fail_let_go_of_their_memory(nothing_left):
    with graphpipe.load(source("act"), isolate=1) as model:
        large = np.ones(LARGE, np.float32)
        for deed in ("error", "refuse", "exit", "leave", ""):
            try:
                model.infer({"what": word(deed), "x": large})
            except graphpipe.GraphPipeError:
                assert deed
            assert model.model._sharing.pool.leased_bytes == 0, deed
        with pytest.raises(graphpipe.TimedOut):
            model.infer({"what": word("sleep"), "x": large * 0.2}, timeout=0.01)
        eventually(lambda: model.model._sharing.pool.leased_bytes == 0, "what is owed is held for ever")


def test_a_model_that_hangs_does_not_hold_up_its_end(nothing_left):
    model = graphpipe.load(source("act"), isolate=1)
    thread = threading.Thread(
        target=lambda: pytest.raises(ModelFailed, model.infer, {"what": word("sleep"), "x": X * 999})
    )
    thread.start()
    time.sleep(0.2)
    model.close()
    thread.join(20)
    assert not thread.is_alive()


@pytest.mark.slow
def test_a_call_that_is_under_way_is_finished_at_the_end(nothing_left):
    got = []
    model = graphpipe.load(source("act"), isolate=1)
    thread = threading.Thread(target=lambda: got.append(model.infer({"what": word("sleep"), "x": X * 0.5})))
    thread.start()
    time.sleep(0.2)
    model.close()
    thread.join()
    assert got


_PARENT = """
import os, sys, time
import numpy as np
import graphpipe
model = graphpipe.load(sys.argv[1], isolate=2)
what = np.array(b"fork", object)
pids = {int(model.infer({"what": what, "x": np.ones(100_000)})["pid"]) for _ in range(1)}
print(*[each for task in os.listdir("/proc/self/task") for each in open(f"/proc/self/task/{task}/children").read().split()])
sys.stdout.flush()
time.sleep(1000)
"""


def test_nothing_is_left_of_a_program_that_was_killed(nothing_left):
    parent = subprocess.Popen([sys.executable, "-c", _PARENT, source("act")], stdout=subprocess.PIPE, env=environment())
    assert parent.stdout is not None
    pids = [int(pid) for pid in parent.stdout.readline().split()]
    assert len(pids) == 2
    assert all(map(is_alive, pids))
    parent.kill()
    parent.wait()
    parent.stdout.close()
    eventually(lambda: not any(map(is_alive, pids)), "a process of the model is left")


def test_what_a_model_starts_ends_with_its_process(actor):
    pid = int(actor.infer({"what": word("fork"), "x": X})["pid"])
    started = _children_of(pid)
    assert len(started) == 2
    with pytest.raises(ModelFailed):
        actor.infer({"what": word("leave"), "x": X})
    actor.infer({"what": word(""), "x": X})
    eventually(lambda: not any(map(is_alive, started)), "what the model has started is left")


def _children_of(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return [int(child) for task in tasks for child in (task / "children").read_text().split()]


def test_a_model_that_prints_without_end_is_answered_and_its_lines_are_counted(actor, caplog):
    with caplog.at_level(logging.WARNING, "graphpipe.model"):
        actor.infer({"what": word("flood"), "x": X})
        eventually(lambda: "more lines" in caplog.text, "nobody says how many lines there were")
    lines = [record for record in caplog.records if "xxxx" in record.getMessage()]
    assert 10 <= len(lines) <= 500


@pytest.mark.slow
def test_a_process_cannot_have_more_memory_than_it_may(caplog):
    with graphpipe.load(source("act"), isolate=1, isolate_memory_bytes="300MiB") as model:
        before = int(model.infer({"what": word(""), "x": X})["pid"])
        with pytest.raises(ModelFailed) as raised:
            model.infer({"what": word("bomb"), "x": X})
        assert "Memory" in type(raised.value.__cause__).__name__
        assert int(model.infer({"what": word(""), "x": X})["pid"]) == before
        with pytest.raises(ModelFailed, match=r"isolate-memory-bytes|Memory|failed on this input"):
            model.infer({"what": word("grow"), "x": X})
        # What was shared does not count: it is the caller's.
        assert (model.infer({"what": word(""), "x": np.ones(60_000_000)})["x"] == 1).all()


def test_a_process_keeps_to_its_cpus():
    with graphpipe.load("tests.isolation.machine:cpus", isolate=2, isolate_cpus=1) as model:
        cpus, threads = model.infer({"x": X}).values()
        assert (int(cpus), int(threads)) == (1, 1)


@pytest.mark.slow
def test_a_program_that_buries_no_children_has_hung_processes_ended_too():
    handler = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        with graphpipe.load(source("act"), isolate=1, isolate_timeout_s=0.3) as model:
            before = model.model.process_ids()
            with pytest.raises(graphpipe.TimedOut):
                model.infer({"what": word("sleep"), "x": X * 1000}, timeout=0.2)
            os.kill(before[0], 9)
            eventually(lambda: _has_another(model, before), "no other process is started")
    finally:
        signal.signal(signal.SIGCHLD, handler)


def _has_another(model: graphpipe.LoadedModel, before: list[int]) -> bool:
    return bool(model.model.process_ids()) and model.model.process_ids() != before


@pytest.mark.slow
def test_a_program_with_hardly_a_descriptor_left_leaks_none(nothing_left):
    before, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(512, before), most))
    try:
        with graphpipe.load(source("double"), isolate=1) as model:
            for room in range(10):
                others = []
                with contextlib.suppress(OSError):
                    while True:
                        others.append(os.open(os.devnull, os.O_RDONLY))
                for _ in range(room):
                    os.close(others.pop())
                for pid in model.model.process_ids():
                    os.kill(pid, 9)
                with contextlib.suppress(graphpipe.GraphPipeError):
                    model.execute(np.ones(LARGE, np.float32), timeout=0.5)
                for each in others:
                    os.close(each)
                eventually(lambda: _is_answered(model), "nobody is answered any more")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (before, most))


def test_two_processes_run_a_python_function_at_the_same_time(tmp_path):
    with graphpipe.load(source("together"), isolate=2) as model:
        assert model.model.threads == 2
        got: list[int] = []
        calls = [threading.Thread(target=lambda: got.append(int(model.execute(word(str(tmp_path)))))) for _ in range(2)]
        for call in calls:
            call.start()
        for call in calls:
            call.join()
        assert got == [2, 2]


def test_a_process_that_was_forked_from_the_programs_says_that_it_cannot_ask(doubles):
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            doubles.infer({"x": X})
        except graphpipe.GraphPipeError as error:
            os.write(writing, str(error).encode())
        os._exit(0)
    os.close(writing)
    os.waitpid(pid, 0)
    with os.fdopen(reading) as said:
        assert "another process" in said.read()
    assert (doubles.execute(X) == 2).all()


@pytest.mark.parametrize("kills", [4, pytest.param(500, marks=[pytest.mark.slow, pytest.mark.timeout(900)])])
def test_random_kills_under_load_harm_nobody_but_the_calls_under_way(nothing_left, kills):
    chance = random.Random(kills)
    wrong: list[object] = []
    answered = 0
    failed: list[str] = []
    over = threading.Event()

    def call(number: int) -> None:
        nonlocal answered
        count = 0
        while not over.wait(0.002):
            count += 1
            x = np.full(LARGE if count % 3 else 100, number + count, np.float32)
            try:
                y = model.execute(x)
            except ModelFailed as error:
                failed.append(error.message)
                continue
            except Exception as error:
                wrong.append(error)
                continue
            answered += 1
            if not np.array_equal(y, x * 2):
                wrong.append((number, count))

    with graphpipe.load(source("double"), isolate=2) as model:
        assert len(model.model.process_ids()) == 2
        threads = [threading.Thread(target=call, args=(number,)) for number in range(3)]
        for thread in threads:
            thread.start()
        for _ in range(kills):
            before = answered
            time.sleep(chance.random() * 0.02)
            up = model.model.process_ids()
            if up:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(chance.choice(up), 9)
            until = time.monotonic() + 20
            while answered == before and time.monotonic() < until:
                time.sleep(0.001)
            assert answered > before, "nobody is answered any more"
        over.set()
        for thread in threads:
            thread.join()
        eventually(lambda: _is_answered(model), "nobody is answered any more")
        assert model.model.numbers()["graphpipe_isolated_restarts"] > kills / 3
    assert wrong == []
    assert all("ended by signal 9" in message for message in failed), set(failed)


def _is_answered(model: graphpipe.LoadedModel) -> bool:
    try:
        return bool((model.execute(X) == 2).all())
    except (ModelFailed, graphpipe.NotReady):  # by the last of the kills
        return False
