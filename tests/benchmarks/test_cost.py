"""The question of benchmarks/cost.py: that what it counts is what there is, and that ours copies nothing on its way."""

from __future__ import annotations

import argparse
import subprocess
import sys
import time

import numpy as np
import pytest

from benchmarks import cost
from benchmarks.harness.arrivals import numbers_of
from benchmarks.harness.family import Family, is_running
from benchmarks.harness.messages import foreign, tensor
from benchmarks.harness.result import Result, Table
from graphpipe.backends.echo import Echo
from graphpipe.server.http import connection, cycle, hub
from graphpipe.wire import InferRequest, decode_request, encode_infer_response

FAMILY = """
import subprocess, sys, time
ballast = bytearray(50_000_000)
if sys.argv[1:]:
    child = subprocess.Popen([sys.executable, "-c", sys.argv[1]], stdout=subprocess.PIPE)
    child.stdout.readline()
began = time.process_time()
while time.process_time() < began + 0.2:
    pass
print("up", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("write", [tensor, foreign])
def test_between_socket_and_model_and_back_nothing_of_a_tensor_is_copied(write: object) -> None:
    """What the column `copied` says of ours: what comes out for the socket is memory that came in from it."""
    assert callable(write)
    body = np.frombuffer(write(numbers_of(250_000)), np.uint8)
    request = decode_request(memoryview(body))
    assert isinstance(request, InferRequest)
    answer = Echo().infer({"x": request.inputs[0]})
    segments = [np.frombuffer(segment, np.uint8) for segment in encode_infer_response([*answer.values()])]
    large = [segment for segment in segments if segment.nbytes >= 1_000_000]
    assert len(large) == 1
    assert np.shares_memory(large[0], body)
    assert sum(segment.nbytes for segment in segments) - large[0].nbytes < 1000


def test_what_is_said_of_copies_is_what_the_server_does() -> None:
    assert cost.JOINED_BYTES == cycle._JOIN_MAX
    assert cost.ALONG_BYTES == hub._SCRATCH_BYTES
    assert connection._HEAD_BYTES == 2 * 1024
    assert cost.copied(cost.OURS, 1024) == "1 in, 1 out"
    assert cost.copied(cost.OURS, 100_000) == "1 in"
    assert cost.copied(cost.OURS, 1_000_000).startswith("0")


def test_a_family_is_counted_with_its_children() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", FAMILY, FAMILY], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        family = Family(process.pid)
        assert len(family.pids()) == 2
        assert family.cpu_seconds() >= 0.4
        assert 100 < family.megabytes() < 200
        assert family.peak_megabytes() >= family.megabytes()
        family.forget_peak()
        process.communicate()
    assert family.megabytes() == 0


@pytest.mark.slow
def test_the_question_runs_to_its_end() -> None:
    options = argparse.Namespace(
        full=False,
        rounds=1,
        share_rounds=1,
        seconds=0.05,
        floats_max=256,
        connections=[1, 4],
        models=[1, 2],
        workers=[2],
    )
    result = cost.measure(options)
    assert [*result.tables] == ["size", "connections", "models", "workers", "share", "start", "installed"]
    for name in ("size", "connections", "models", "workers"):
        rows = result.tables[name].rows
        assert {cost.OURS, cost.BY_HAND} <= {row["server"] for row in rows}
        assert all(row["cpu_s"] > 0 for row in rows)
    assert result.tables["size"].row(server=cost.OURS)["beside"] == 1
    models = result.tables["models"]
    assert "each_mb" in models.row(server=cost.OURS, models=2)
    assert "each_mb" not in models.row(server=cost.OURS, models=1)


def test_servers_by_hand_share_their_socket_and_end_with_all_of_their_processes() -> None:
    with cost.theirs("by_hand.py", "--workers", "2", cpu=None) as server:
        until = time.monotonic() + 20  # the second may come up after the first has answered
        while len(pids := server.family.pids()) < 3 and time.monotonic() < until:
            time.sleep(0.01)
        assert len(pids) == 3
    assert not [pid for pid in pids if is_running(pid)]


def test_the_chart_is_drawn_from_the_result_alone() -> None:
    pytest.importorskip("matplotlib")
    from benchmarks.charting.cost import draw

    servers = (cost.OURS, cost.BY_HAND)
    tables = {
        "size": [{"server": s, "size": f"{n} KB", "bytes": 1000 * n, "cpu_s": n} for s in servers for n in (1, 10)],
        "connections": [{"server": s, "connections": n, "cpu_s": 1 / n} for s in servers for n in (1, 256)],
        "models": [{"server": s, "models": n, "memory_mb": 50 + n} for s in servers for n in (1, 64)],
        "workers": [{"server": s, "workers": n, "memory_mb": 50 * n} for s in servers for n in (1, 4)],
    }
    drawn = draw(Result("cost", "t", "c", {}, {name: Table(name, {}, rows) for name, rows in tables.items()}))
    assert len(drawn.axes) == 4
    assert all(axis.get_xlabel() for axis in drawn.axes)
    assert all(axis.get_ylabel() for axis in drawn.axes)
