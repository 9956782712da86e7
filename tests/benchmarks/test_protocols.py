"""The benchmark of other protocols: that everybody answers the same, and that what is missing is said."""

from __future__ import annotations

import argparse
import sys
import threading
from concurrent import futures
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import numpy as np
import pytest

from benchmarks import protocols
from benchmarks.harness.environment import Environment, Unavailable
from benchmarks.harness.environments import ENVIRONMENTS
from benchmarks.harness.forms import OIP_JSON, request
from benchmarks.harness.result import Result
from benchmarks.harness.tree import Tree
from benchmarks.harness.turns import Failed, Generator
from benchmarks.speaking.messages import MODEL_INFER, ROWS, grpc_floats, grpc_request
from benchmarks.speaking.served import graphpipe
from tests.serving import ROOT

pytestmark = pytest.mark.slow

CALLERS = [1, 2]


def _refuse(reason: str) -> Any:
    def make() -> Path:
        raise Unavailable(reason)

    return SimpleNamespace(make=make)


@pytest.fixture(scope="module")
def found() -> Result:
    """A short run. grpc.aio runs in the environment that tests have, and where FastAPI should be is another of ours."""
    options = argparse.Namespace(question=[], before=str(ROOT), callers=CALLERS, rounds=1, turn_s=0.1, full=False)
    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(ENVIRONMENTS, "grpc", SimpleNamespace(make=lambda: Path(sys.executable)))
        patched.setattr(protocols, "fastapi", lambda folder: graphpipe(folder, Tree()))
        patched.setattr(protocols, "LARGE", (8, 224, 224, 3))
        return protocols.measure(options)


def test_each_way_is_measured_by_number_of_callers(found: Result) -> None:
    table = found.tables["grpc"]
    ways = (protocols.OVER_GRPC, protocols.AIO, protocols.WIRE)
    asked = {(row["server"], row["callers"]) for row in table.rows}
    assert asked == {(way, n) for way in ways for n in CALLERS} | {(protocols.PAUSED, 1)}
    for row in table.rows:
        assert row["cpu_us"] > 0
        assert row["per_s"] > 0
    assert table.notes == []


def test_large_messages_are_beside_our_own_wire_and_beside_grpc_aio(found: Result) -> None:
    rows = {row["server"]: row for row in found.tables["large"].rows}
    assert [*rows] == [protocols.WIRE, protocols.BINARY, protocols.OVER_GRPC, protocols.AIO]
    low, high = rows[protocols.BINARY]["between"]
    assert low <= rows[protocols.BINARY]["x"] <= high
    assert rows[protocols.OVER_GRPC]["aio_x"] > 0
    assert "x" not in rows[protocols.WIRE]
    assert "aio_x" not in rows[protocols.AIO]


def test_the_hot_route_is_beside_another_state_of_the_code(found: Result) -> None:
    assert [row["callers"] for row in found.tables["hot"].rows] == CALLERS
    assert all(row["cpu_x"] > 0 for row in found.tables["hot"].rows)


def test_json_is_beside_another_server_in_each_form_and_size(found: Result) -> None:
    assert found.tables["json"].notes == []
    rows = [(row["form"], row["size"]) for row in found.tables["json"].rows]
    assert rows == [(form.name, size) for form in (OIP_JSON, ROWS) for size in ("1 KB", "600 KB")]
    assert all(row["theirs_us"] > 0 and row["ours_us"] > 0 for row in found.tables["json"].rows)


def test_who_is_not_there_is_left_out_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ENVIRONMENTS, "grpc", _refuse("no compiler"))
    monkeypatch.setitem(ENVIRONMENTS, "fastapi", _refuse("no such package"))
    options = argparse.Namespace(question=["grpc"], before="0" * 7, callers=[1], rounds=1, turn_s=0.05, full=False)
    table = protocols.measure(options).tables["grpc"]
    assert table.notes == [f"{protocols.AIO} is left out: no compiler"]
    assert {row["server"] for row in table.rows} == {protocols.OVER_GRPC, protocols.WIRE, protocols.PAUSED}
    options.question = ["json"]
    assert protocols.measure(options).tables["json"].notes == ["FastAPI is left out: no such package"]
    options.question = ["hot"]
    table = protocols.measure(options).tables["hot"]
    assert table.rows == []
    assert "0000000 is neither a folder nor a commit" in table.notes[0]


def test_an_environment_is_pinned_to_what_we_are_measured_with() -> None:
    made = ENVIRONMENTS["grpc"]
    assert isinstance(made, Environment)
    assert any(package.startswith("grpcio==") for package in made.packages)


def test_the_chart_is_drawn_of_the_result_alone(found: Result) -> None:
    pytest.importorskip("matplotlib")
    from benchmarks.charting.protocols import draw

    small, large, text = draw(found).axes
    assert [label.get_text() for label in small.get_yticklabels()][:3] == ["gRPC, 1", "grpc.aio, 1", "own wire, 1"]
    assert len(large.patches) == 4
    assert len(text.patches) == 8


def test_a_form_of_rows_is_a_whole_request_and_its_answer_is_read() -> None:
    array = np.linspace(0, 1, 6, dtype=np.float32).reshape(2, 3)
    _, _, body = request(ROWS, "/v1/models/echo:predict", array).partition(b"\r\n\r\n")
    floats = ROWS.read({}, body.replace(b"instances", b"predictions"))
    assert np.array_equal(floats, array.reshape(-1))


class _Echo(grpc.GenericRpcHandler):
    """Answers what the messages of both kinds share: nothing; then fails."""

    def __init__(self, good: int) -> None:
        self.left, self._lock = good, threading.Lock()

    def service(self, details: Any) -> Any:
        def answer(message: bytes, context: Any) -> bytes:
            with self._lock:
                self.left -= 1
            if self.left < 0:
                context.abort(grpc.StatusCode.INTERNAL, "no more")
            return message

        return grpc.unary_unary_rpc_method_handler(answer)


def test_calls_are_counted_and_one_that_fails_fails_the_turn(tmp_path: Path) -> None:
    server = grpc.server(futures.ThreadPoolExecutor(2))
    echo = _Echo(10**9)
    server.add_generic_rpc_handlers((echo,))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        with Generator(tmp_path, ("benchmarks.speaking.grpc_turns", MODEL_INFER)) as generator:
            turn = generator.turn(port, 3, 0.1, b"x", "one")
            assert 0 < turn["requests"] <= turn["all_requests"] == 10**9 - echo.left
            assert len(turn["latencies"]) > 0
            echo.left = 5
            with pytest.raises(Failed, match="INTERNAL: no more"):
                generator.turn(port, 3, 5, b"x", "one")
    finally:
        server.stop(None)


def test_an_answer_that_is_not_what_was_sent_is_no_answer() -> None:
    array = np.linspace(0, 1, 6, dtype=np.float32)
    protocols.check(array.copy(), array.reshape(2, 3))
    with pytest.raises(Failed, match="did not answer what it was sent"):
        protocols.check(array[::-1], array)
    # The messages of question and answer have the tensor's bytes under different numbers.
    with pytest.raises(IndexError):
        grpc_floats(grpc_request(array))
