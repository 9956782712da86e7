"""Models that hang, give nonsense or the wrong shapes, and files that become garbage: what their callers see."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import graphpipe
from graphpipe import errors
from graphpipe.wire import encode_request
from tests.faults.callers import Callers, answers, until
from tests.faults.conftest import Fault
from tests.faults.servers import DOUBLE, Serve, X, is_ready, metric, worker_pids
from tests.raw_http import Wire, request
from tests.serving import ROOT, Server, serving

IMPATIENT = ("--drain-timeout-s", "0.2")


def test_a_model_that_hangs_costs_its_caller_its_deadline_and_no_more(serve: Serve, fault: Fault) -> None:
    server = serve(*DOUBLE, *IMPATIENT, "--threads", "2", cwd=ROOT)
    with pytest.raises((errors.DeadlineExceeded, errors.TimedOut)):
        graphpipe.Client(server.url, timeout=0.5).execute(X, config="hang")
    # The other thread goes on.
    for _ in range(10):
        assert answers(server.url)
    fault("a model hangs, in one of 2 threads", "its caller: its own deadline passed; others: 10 answered rightly")


def test_behind_a_model_that_hangs_the_queue_is_bounded_and_says_so(serve: Serve, fault: Fault) -> None:
    server = serve(*DOUBLE, *IMPATIENT, "--threads", "1", "--queue-requests-max", "2", cwd=ROOT)
    hanging = request("POST", "/", b"".join(encode_request([X], config="hang")))
    with contextlib.ExitStack() as stack:
        # One in the model, two behind it; one after the other, lest the last be refused in favour of nobody.
        for number in range(3):
            stack.enter_context(Wire(server.url)).send(hanging)
            until(lambda: metric(server.url, 'graphpipe_longest_run_seconds{model="double"}') > 0)
            until(lambda number=number: metric(server.url, 'graphpipe_queue_requests{model="double"}') == number)
        for _ in range(5):
            with pytest.raises(errors.Overloaded, match="--queue-requests-max"):
                graphpipe.Client(server.url).execute(X)
    saw = "2 wait as long as they like, further ones: 5 of 5 refused with 503 that names --queue-requests-max"
    fault("a model hangs in all its threads, --queue-requests-max 2", saw)


@pytest.fixture(scope="module")
def one_server() -> Iterator[Server]:
    """For models whose failures leave nothing behind. Their causes are in its log, with tracebacks."""
    with serving(*DOUBLE, cwd=ROOT, tracebacks=True) as server:
        yield server


@pytest.mark.parametrize(
    ("config", "what"),
    [
        ("raise", "raises"),
        ("nothing", "gives no output"),
        ("text", "gives what is not an array"),
        ("complex", "gives complex numbers, which do not travel"),
    ],
)
def test_a_model_that_gives_nonsense_is_500_without_its_words_and_serves_on(
    one_server: Server, config: str, what: str, fault: Fault
) -> None:
    with pytest.raises(errors.ModelFailed) as failed:
        graphpipe.Client(one_server.url).execute(X, config=config)
    assert failed.value.http_status == 500
    assert "secret" not in failed.value.message
    assert answers(one_server.url)
    assert "secret" in one_server.log or config != "raise"
    fault(f"a model {what}", "500, with the cause in the log alone; the next caller is answered rightly")


def test_an_answer_of_another_shape_than_declared_goes_out_as_the_model_gave_it(
    one_server: Server, fault: Fault
) -> None:
    """Nobody but its author can say what shape is right: what is declared of outputs tells callers what to expect."""
    answer = graphpipe.Client(one_server.url).execute(X, config="short")
    assert np.array_equal(answer, X[:-1] * 2)
    assert answers(one_server.url)
    saw = "200 with the 2 rows that the model gave: shapes of outputs are not checked. The next is answered rightly"
    fault("a model gives 2 rows for 3, without batching", saw)


def test_a_model_that_forgets_rows_of_a_batch_is_batched_no_more_and_every_caller_gets_its_own(
    serve: Serve, fault: Fault
) -> None:
    batches = ("--batch-rows-max", "4", "--batch-wait-ms", "50")
    model = ("-m", "forgetful=tests.faults.models:forgetful", *DOUBLE[2:])
    server = serve(*model, *batches, cwd=ROOT)
    with Callers([server.url], 4, rows_max=1) as callers:
        until(lambda: "output 'y' of model 'forgetful' does not have a row for each row" in server.log)
        assert "batching is off for this model" in server.log
        callers.enough()
    assert callers.wrong == 0
    assert set(callers.seen) == {"ok"}
    saw = f"{callers}; an error in the log names the output, and batching is off for the model"
    fault("a model gives 3 rows for a batch of 4, with --batch-rows-max", saw)


def test_a_model_file_that_becomes_garbage_changes_nothing_until_the_next_start_and_then_says_so(
    serve: Serve, tmp_path: Path, fault: Fault
) -> None:
    path = tmp_path / "digits.onnx"
    shutil.copy(ROOT / "examples/digits/digits.onnx", path)
    server = serve("--model", path, "--workers", "2", *DOUBLE[2:])
    pixels = np.zeros((1, 64), np.float32)

    def probabilities() -> bytes:
        with graphpipe.Client(server.url) as client:
            return client.infer({"pixels": pixels})["probabilities"].tobytes()

    before = probabilities()
    path.write_bytes(b"garbage")
    assert probabilities() == before
    os.kill(worker_pids(server)[0], signal.SIGKILL)
    until(lambda: "is no whole ONNX file" in server.log)
    # One is left, answers, and readiness says that something is the matter.
    for _ in range(20):
        assert probabilities() == before
    assert not is_ready(server)
    shutil.copy(ROOT / "examples/digits/digits.onnx", path)
    recovery_s = until(lambda: is_ready(server))
    saw = "20 answered rightly by the other worker, 0 wrong answers; /readyz is 503, and the log says why"
    fault("a model's file becomes garbage, and one of 2 workers gets SIGKILL", saw, recovery_s)
