"""Whatever a model does, its caller is told so, its neighbours get their right answers, and the server goes on."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import graphpipe
from graphpipe import errors
from graphpipe.wire import decode_infer_response, encode_request
from graphpipe.wire.messages import encode_metadata_request
from tests.faults.callers import until
from tests.faults.misdeeds import DEEDS, NUMBERS, ODDITIES, Actor
from tests.faults.servers import metric
from tests.raw_http import Answer, Wire, chunked, request
from tests.serving import ROOT, Server, environment, run_to_end, serving

STAGES = ("plain", "quick", "batched", "cached", "both")
QUIET = ("--access-lines-per-s", "0", "--drain-grace-s", "0")
MODULE = "tests.faults.misdeeds"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One for all: each model's failures leave nothing behind, not even for the others."""
    models = [f"--model={name}={MODULE}:{'Quick' if name == 'quick' else 'Actor'}" for name in STAGES]
    flags = ["--batch-rows-max=batched=3", "--batch-rows-max=both=3", "--batch-wait-ms=10", "--threads=2"]
    caches = [
        "--cache=cached=true",
        "--cache=both=true",
        "--cache-version=1",
        f"--cache-dir={tmp_path_factory.mktemp('c')}",
    ]
    with serving(*models, *flags, *caches, "--warmup=0", *QUIET, cwd=ROOT, tracebacks=True) as server:
        yield server


def row(first: float) -> np.ndarray:
    return np.array([[first, 0.5]], np.float32)


def ask(server: Server, stage: str, way: str, x: np.ndarray) -> Answer:
    """One call: ``hot`` is the way that nearly all go, ``odd`` is aiohttp's."""
    body = b"".join(encode_request([x], ["x"], ["y"]))
    headers = {"accept": "application/vnd.graphpipe"}
    path = f"/models/{stage}"
    with Wire(server.url) as wire:
        if way == "hot":
            return wire.call("POST", path, body, **headers)
        if way == "odd":
            return wire.call("POST", f"{path}?odd", chunked(body, 50), transfer_encoding="chunked", **headers)
        return wire.call("POST", path, body, expect="100-continue", x_odd="a\tb", cookie="c", **headers)


def is_right(answer: Answer, x: np.ndarray) -> bool:
    return answer.status == 200 and np.array_equal(decode_infer_response(answer.body).outputs[0], x * 2)


fresh = iter(np.arange(1, 1 << 20, dtype=np.float32))


@pytest.mark.parametrize("way", ["hot", "odd"])
@pytest.mark.parametrize("stage", STAGES)
def test_whatever_a_model_raises_or_gives_its_caller_is_told_and_nobody_else_notices(
    server: Server, stage: str, way: str
) -> None:
    with ThreadPoolExecutor(3) as pool:
        for deed in DEEDS:
            rows = [row(next(fresh)), row(NUMBERS[deed]), row(next(fresh))]
            good, bad, other = pool.map(lambda x: ask(server, stage, way, x), rows)
            assert bad.status == 500, (deed, bad)
            (told,) = decode_infer_response(bad.body).errors
            assert told.code == errors.ModelFailed.code, (deed, told)
            sentences = (f"model '{stage}' failed on this input", f"model '{stage}' gave an answer that cannot travel")
            assert told.message.startswith(sentences), (deed, told)
            assert is_right(good, rows[0]), (deed, good)
            assert is_right(other, rows[2]), (deed, other)
    assert is_right(ask(server, stage, way, row(1)), row(1))
    until(lambda: metric(server.url, "graphpipe_in_flight_requests") == 0)
    assert metric(server.url, f'graphpipe_queue_requests{{model="{stage}"}}') == 0
    assert "batching is off" not in server.log
    assert "never retrieved" not in server.log
    assert "answering failed" not in server.log


@pytest.mark.parametrize("stage", STAGES)
def test_a_right_answer_in_an_uncommon_form_is_a_right_answer(server: Server, stage: str) -> None:
    for oddity in ODDITIES:
        x = row(NUMBERS[oddity])
        for _ in range(2):  # the second from the cache, where there is one
            assert is_right(ask(server, stage, "hot", x), x), oddity


@pytest.mark.parametrize("deed", DEEDS)
def test_in_process_too_it_is_model_failed_with_its_cause(deed: str) -> None:
    model = graphpipe.load(Actor(), name="actor")
    x = row(NUMBERS[deed])
    try:
        outputs = model.infer({"x": x})
    except errors.ModelFailed as failed:
        assert failed.message == "model 'actor' failed on this input"
        assert failed.__cause__ is not None
    else:
        assert outputs["y"].dtype.kind in "OcMV" or outputs["y"].ndim > 32


def test_ctrl_c_in_process_is_ctrl_c() -> None:
    for how in ("KeyboardInterrupt", "SystemExit"):
        program = f"""
import os, signal, sys, time, graphpipe
if {how!r} == "SystemExit":
    signal.signal(signal.SIGINT, lambda *_: sys.exit("told to"))
def model(x):
    os.kill(os.getpid(), signal.SIGINT)
    while True: time.sleep(0.01)
try:
    graphpipe.load(model).infer({{"x": [1.0]}})
except {how}:
    print("ended")
"""
        ended = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, env=environment(), timeout=60
        )
        assert ended.stdout == "ended\n", ended.stderr


def test_a_model_that_does_not_say_what_it_is_fails_meanwhile(tmp_path: Path) -> None:
    mood = tmp_path / "mood"
    stages = ("plain", "batched", "cached")
    models = [f"--model={stage}={MODULE}:Moody" for stage in stages]
    flags = ("--batch-rows-max=batched=3", "--cache=cached=true", "--cache-version=1", f"--cache-dir={tmp_path}")
    with serving(*models, *flags, *QUIET, cwd=ROOT, env={"TEST_MOOD": str(mood)}, tracebacks=True) as server:
        for stage in stages:
            for way in ("hot", "odd"):
                mood.touch()
                for body in (b"".join(encode_request([row(1)])), encode_metadata_request()):
                    with Wire(server.url) as wire:
                        answer = wire.call("POST", f"/models/{stage}" + "?odd" * (way == "odd"), body)
                    assert answer.status == 500, (stage, way)
                    assert answer.text.startswith(f"model '{stage}' does not say what it takes and gives")
                mood.unlink()
                assert is_right(ask(server, stage, way, row(3)), row(3))
        assert "answering failed" not in server.log


def test_a_model_that_fails_its_warm_up_is_named_with_the_reason_and_served() -> None:
    with serving("--model", f"{MODULE}:cold", *QUIET, cwd=ROOT) as server:
        assert is_right(ask(server, "cold", "hot", row(1)), row(1))
        (line,) = [line for line in server.log.splitlines() if "warm-up" in line]
        assert "WARNING" in line
        assert "model 'cold' did not answer its warm-up, and is served without: SystemExit: cold" in line


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (f"{MODULE}:Unmade", "PanicException: no such device"),
        (f"{MODULE}:Exits", "SystemExit: 0"),
        (f"{MODULE}:Mute", "SystemExit: mute"),
        (f"{MODULE}:Misnamed", "CancelledError"),
        ("exits.py:model", "SystemExit: 4"),
    ],
)
def test_a_model_that_cannot_be_loaded_is_one_line_whatever_it_raised(tmp_path: Path, source: str, reason: str) -> None:
    (tmp_path / "exits.py").write_text("import sys\nsys.exit(4)\n")
    source = source.replace("exits.py", str(tmp_path / "exits.py"))
    workers = "2" if "exits.py" in source else "1"
    ended = run_to_end("--model", source, "--listen", "127.0.0.1:0", "--workers", workers)
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr
    lines = [line for line in ended.stderr.splitlines() if reason in line]
    assert lines, ended.stderr
    assert "and more" not in ended.stderr  # the first line alone


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_a_model_loads_ends_the_program(tmp_path: Path, how: signal.Signals) -> None:
    (tmp_path / "slow.py").write_text("import time\nprint('loading', flush=True)\ntime.sleep(60)\n")
    program = "from graphpipe.server.cli import main; main(prog_name='graphpipe-serve')"
    with subprocess.Popen(
        [sys.executable, "-c", program, "--model", str(tmp_path / "slow.py") + ":model", "--listen", "127.0.0.1:0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"loading\n"
        process.send_signal(how)
        _, said = process.communicate(timeout=30)
    assert b"loading it raised" not in said


def test_behind_a_model_that_hangs_a_deadline_is_kept_on_every_way() -> None:
    flags = ("--drain-timeout-s", "0.2", "--threads=8", *QUIET)
    with serving("--model", "double=tests.faults.models:double", *flags, cwd=ROOT) as server:
        body = b"".join(encode_request([np.ones(1, np.float32)], config="hang"))
        with Wire(server.url) as hot, Wire(server.url) as odd:
            hot.send(request("POST", "/", body, graphpipe_timeout_ms="100"))
            odd.send(request("POST", "/?odd", body, graphpipe_timeout_ms="100"))
            for wire in (hot, odd):
                answer = wire.answer()
                assert answer.status == 504
                assert answer.text == "the caller's deadline passed before there was an answer\n"
