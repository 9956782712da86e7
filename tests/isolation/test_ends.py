"""How a process may end, and what its callers see of it."""

from __future__ import annotations

import os
import signal
import threading
import time

import numpy as np
import pytest

import graphpipe
from graphpipe.errors import InvalidRequest, ModelFailed, TimedOut
from tests.isolation.conftest import eventually, is_alive, source, word

X = np.ones(3, np.float32)


def pid_of(model: graphpipe.LoadedModel) -> int:
    return int(model.infer({"what": word(""), "x": X})["pid"])


@pytest.mark.parametrize(
    ("deed", "words"),
    [
        ("segfault", r"ended by signal 11 \(SIGSEGV\)"),
        pytest.param("abort", r"ended by signal 6 \(SIGABRT\)", marks=pytest.mark.slow),
        ("leave", "ended with status 3"),
        pytest.param("kill", r"ended by signal 9 \(SIGKILL\)", marks=pytest.mark.slow),
        pytest.param("close", "process of model 'actor' ", marks=pytest.mark.slow),
        ("scribble", "closed its connection.*over the limit"),
    ],
)
def test_the_end_of_a_process_is_an_error_of_the_call_and_the_next_one_is_answered(actor, deed, words):
    before = pid_of(actor)
    with pytest.raises(ModelFailed, match=words):
        actor.infer({"what": word(deed), "x": X})
    after = pid_of(actor)
    assert after != before
    assert not is_alive(before)


@pytest.mark.parametrize(
    ("deed", "kind"),
    [("exit", "SystemExit"), ("odd", "Odd"), ("interrupt", "KeyboardInterrupt"), ("error", "ValueError")],
)
def test_what_a_model_raises_is_an_error_and_no_end(actor, deed, kind):
    before = pid_of(actor)
    with pytest.raises(ModelFailed) as raised:
        actor.infer({"what": word(deed), "x": X})
    cause = raised.value.__cause__
    assert type(cause).__name__ == kind
    assert pid_of(actor) == before


def test_a_failure_names_the_place_in_the_models_own_code(actor):
    from graphpipe.backends.failure import in_words

    with pytest.raises(ModelFailed) as raised:
        actor.infer({"what": word("error"), "x": X})
    assert raised.value.__cause__ is not None
    assert in_words(raised.value.__cause__).startswith("ValueError: it is 1.0 (models.py, line ")


def test_what_a_model_refuses_passes_with_its_code_and_words(actor):
    with pytest.raises(InvalidRequest, match="^not this one$") as raised:
        actor.infer({"what": word("refuse"), "x": X})
    assert (raised.value.code, raised.value.http_status) == (2, 400)


@pytest.mark.parametrize("deed", [pytest.param("sleep", marks=pytest.mark.slow), "hold"])
def test_a_hanging_process_is_ended_and_its_caller_hears_of_it_in_time(actor, deed):
    before = pid_of(actor)
    with pytest.raises(TimedOut):
        actor.infer({"what": word(deed), "x": np.array([1000.0])}, timeout=0.05)
    eventually(lambda: not is_alive(before), "the process that hangs is still there")
    assert pid_of(actor) != before


def test_a_caller_with_a_tiny_deadline_cannot_have_a_slow_model_ended(actor):
    actor.infer({"what": word("sleep"), "x": np.array([0.4])})
    before = pid_of(actor)
    for _ in range(3):
        with pytest.raises(TimedOut):
            actor.infer({"what": word("sleep"), "x": np.array([0.4])}, timeout=0.01)
        # It answers yet, and nobody is confused by that answer.
        assert pid_of(actor) == before


def test_a_large_answer_that_comes_too_late_harms_nobody(actor):
    actor.infer({"what": word("sleep"), "x": np.array([0.3])})
    before = pid_of(actor)
    large = np.full(200_003, 0.3)
    with pytest.raises(TimedOut):
        actor.infer({"what": word("sleep"), "x": large}, timeout=0.05)
    assert pid_of(actor) == before
    assert (actor.infer({"what": word(""), "x": large})["x"] == large).all()


def test_a_call_without_a_deadline_ends_when_processes_count_as_hung_and_loading_takes_longer_than_that():
    with graphpipe.load(source("act"), isolate=1, isolate_timeout_s=0.1) as model:
        before = model.model.process_ids()[0]
        with pytest.raises(graphpipe.DeadlineExceeded, match="isolate-timeout-s"):
            model.infer({"what": word("sleep"), "x": np.array([1000.0])})
        eventually(lambda: model.model.process_ids() not in ([], [before]), "no other process is started")


def test_an_answer_that_comes_twice_is_no_other_callers(actor):
    """A model that forks, and answers in both."""
    for deed, may_fail in (("python forks", False), ("fork itself", True)):
        for number in range(4):
            x = np.full(3, number, np.float32)
            try:
                got = actor.infer({"what": word(deed), "x": x})
            except ModelFailed:
                assert may_fail
            else:
                assert (got["x"] == x).all()
            time.sleep(0.02)
    eventually(lambda: _answers(actor), "nobody is answered any more")


def test_a_deadline_is_kept_though_signals_come_all_the_time(actor):
    actor.infer({"what": word("sleep"), "x": np.array([1.0])})  # no reason to take it for hung
    before = pid_of(actor)
    handler = signal.signal(signal.SIGALRM, lambda number, frame: None)
    signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)
    try:
        with pytest.raises(TimedOut):
            actor.infer({"what": word("sleep"), "x": np.array([1.0])}, timeout=0.1)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
    assert pid_of(actor) == before


@pytest.mark.parametrize("in_main", [True, False])
def test_half_a_call_that_could_not_be_sent_in_time_costs_no_process(actor, in_main):
    before = pid_of(actor)
    large = np.array([b"x" * 1000] * 3000, object)
    raised = []

    def call() -> None:
        with pytest.raises(TimedOut) as error:
            actor.infer({"what": word(""), "x": large}, timeout=0.05)
        raised.append(error)

    os.kill(before, signal.SIGSTOP)
    try:
        if in_main:
            call()
        else:
            thread = threading.Thread(target=call)
            thread.start()
            thread.join()
    finally:
        os.kill(before, signal.SIGCONT)
    assert raised
    assert actor.infer({"what": word(""), "x": large})["x"].tolist() == large.tolist()
    assert pid_of(actor) == before


def test_memory_for_an_answer_is_given_once(actor):
    number = actor.model._keeper._free[-1].number + 1
    with pytest.raises(ModelFailed, match="memory was asked for twice"):
        actor.infer({"what": word("rooms"), "x": np.array([number & 255])})
    assert pid_of(actor)


def test_other_calls_wait_for_the_restart(actor):
    pids: list[int] = []
    before = pid_of(actor)
    killed = threading.Thread(
        target=lambda: pytest.raises(ModelFailed, actor.infer, {"what": word("sleep"), "x": X * 50})
    )
    killed.start()
    others = [threading.Thread(target=lambda: pids.append(pid_of(actor))) for _ in range(3)]
    for thread in others:
        thread.start()
    time.sleep(0.05)
    os.kill(before, 9)
    for thread in [killed, *others]:
        thread.join()
    assert len(pids) == 3
    assert before not in pids[-1:]


def test_a_call_that_comes_when_the_process_has_just_ended_is_answered_by_the_next_one(actor):
    for _ in range(2):
        pid = pid_of(actor)
        os.kill(pid, 9)
        assert pid_of(actor) != pid


def test_a_model_that_cannot_be_loaded_again_says_why(tmp_path):
    file = tmp_path / "m.py"
    file.write_text("import os\n\ndef f(x):\n    os._exit(5)\n")
    with graphpipe.load(f"{file}:f", isolate=1) as model:
        file.write_text("raise RuntimeError('it was mended badly')\n")
        with pytest.raises(ModelFailed, match="status 5"):
            model.infer({"x": X})
        with pytest.raises(graphpipe.NotReady, match="it was mended badly") as raised:
            model.infer({"x": X})
        assert raised.value.retry_after_s is not None
        file.write_text("def f(x):\n    return x\n")
        eventually(lambda: _answers(model), "it is not tried again")


def _answers(model: graphpipe.LoadedModel) -> bool:
    try:
        model.infer({"what": word(""), "x": X} if model.name == "actor" else {"x": X})
    except (graphpipe.NotReady, ModelFailed):
        return False
    return True
