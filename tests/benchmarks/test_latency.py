"""The question of benchmarks/latency.py, and its generator: that latency counts from when a request was due."""

from __future__ import annotations

import argparse
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from benchmarks import latency
from benchmarks.harness import arrivals
from benchmarks.harness.arrivals import Task, generator, message, numbers_of, once, quantiles
from benchmarks.harness.result import Result, Table
from graphpipe.wire import InferRequest, decode_infer_response, decode_request
from tests.serving import Server, serving

PAUSE_S = 0.4


@pytest.fixture(scope="module")
def echo() -> Iterator[tuple[Server, int]]:
    with serving("--model", "echo") as server:
        yield server, int(server.url.rpartition(":")[2])


@pytest.mark.parametrize("kind", ["own", "foreign", "new"])
@pytest.mark.parametrize("floats", [256, 150_528])
def test_a_request_of_each_kind_says_the_same_and_is_answered(echo: tuple[Server, int], kind: str, floats: int) -> None:
    sent = message(kind, floats).content
    read = decode_request(sent.partition(b"\r\n\r\n")[2])
    assert isinstance(read, InferRequest)
    assert read.inputs[0].tolist() == numbers_of(floats).tolist()
    assert decode_infer_response(once(echo[1], sent)).outputs[0].tolist() == numbers_of(floats).tolist()


def test_what_never_repeats_has_its_number_in_the_head_and_in_the_message() -> None:
    made = message("new", 256)
    head = len(made.content.partition(b"\r\n\r\n")[0])
    in_head, in_body = made.numbers
    assert in_head < head < in_body
    content = bytearray(made.content)
    for place in made.numbers:
        content[place : place + 8] = b"00000042"
    read = decode_request(bytes(content).partition(b"\r\n\r\n")[2])
    assert isinstance(read, InferRequest)
    assert read.head.config == "00000042"


def test_a_kind_that_there_is_not_is_named() -> None:
    with pytest.raises(ValueError, match="no kind of request 'other'"):
        message("other", 1)


def test_open_and_closed_loops_time_all_that_they_send(echo: tuple[Server, int]) -> None:
    with generator() as load:
        closed = load(echo[1], connections=4, seconds=0.1)
        assert closed["per_s"] > 0
        assert closed["all_requests"] >= closed["requests"] + 4
        for kind in ("own", "foreign", "new"):
            found = load(echo[1], kind=kind, rate=200, seconds=0.25, connections=8)
            assert found["requests"] == 50
            assert 0 < found["p50_ms"] <= found["p99_ms"]
            assert found["late_p99_ms"] >= 0
            assert "p999_ms" not in found  # of 50 there is none
        even = load(echo[1], rate=200, seconds=0.25, connections=8, even=True)
        assert even["rate"] == pytest.approx(200)
        with pytest.raises(RuntimeError, match="404"):
            load(echo[1], path="/models/other", connections=1)


def test_a_server_that_pauses_is_charged_for_all_who_were_due_meanwhile() -> None:
    """One connection, a server that pauses once: who was due then waited for its end, though nothing was sent."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                for number in range(1000):
                    if not connection.recv(65536):
                        return
                    if number == 2:
                        time.sleep(PAUSE_S)
                    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

        thread = threading.Thread(target=serve)
        thread.start()
        found = arrivals.run(
            Task(listener.getsockname()[1], floats=1, rate=100, seconds=0.5, connections=1, even=True, kind="raw")
        )
        thread.join()
    # 50 were due in 0.5 s, 40 of them while nobody answered: half of all waited longer than a tenth of the pause.
    assert found["p50_ms"] > 100 * PAUSE_S
    assert found["p99_ms"] >= 900 * PAUSE_S


def test_quantiles_are_in_milliseconds_and_the_last_needs_many() -> None:
    assert quantiles([0.001 * i for i in range(1, 101)]) == pytest.approx({"p50_ms": 51, "p90_ms": 91, "p99_ms": 100})
    assert quantiles([0.001] * 5000)["p999_ms"] == pytest.approx(1)
    assert quantiles([]) == {}


def a_round(behind: float = 0, p99_ms: float = 1.0, late_ms: float = 0.01, **more: float) -> dict[str, float]:
    found = {"rate": 100.0, "behind": behind, "p50_ms": p99_ms / 2, "p90_ms": p99_ms, "p99_ms": p99_ms}
    return {**found, "late_p99_ms": late_ms, "busy": 0.5, **more}


def test_a_row_is_over_where_most_rounds_were_and_marked_where_the_generator_was_late() -> None:
    size = latency.SIZES[0]
    kept = latency.row(size, "Go", 50, [a_round(p99_ms=1), a_round(p99_ms=3), a_round(behind=0.5)])
    assert kept["kept_up"]
    assert kept["p99_ms"] == 2
    assert kept["mark"] == ""
    assert "p999_ms" not in kept
    assert latency.cell(kept) == "1.00 / 2.00"
    over = latency.row(size, "Go", 50, [a_round(), a_round(behind=0.5), a_round(behind=1)])
    assert latency.cell(over) == "over"
    assert latency.cell(latency.row(size, "Go", 50, [a_round(late_ms=0.5)])).endswith("*")
    assert latency.row(size, "Go", 50, [a_round(busy=0.99)])["mark"] == "*"


def test_the_table_of_a_size_has_a_line_for_each_load_and_a_column_for_each_server() -> None:
    rows = [
        latency.row(latency.SIZES[0], name, share, [a_round(rate=1000.0 * share)])
        for name in ("GraphPipe", "Go")
        for share in (10, 90)
    ]
    table = latency.beside(latency.SIZES[0], rows)
    assert [*table.columns] == ["share", "rate", "GraphPipe", "Go"]
    assert [line["share"] for line in table.rows] == ["10", "90"]
    assert table.rows[1] == {"share": "90", "rate": 90_000.0, "GraphPipe": "0.50 / 1.00", "Go": "0.50 / 1.00"}


@pytest.mark.slow
def test_the_question_runs_to_its_end() -> None:
    options = argparse.Namespace(full=False, rounds=1, seconds=0.05, shares=[10], even=False)
    result = latency.measure(options)
    assert [*result.tables] == ["small", "large", "quantiles", "all"]
    assert {row["server"] for row in result.tables["quantiles"].rows} == {"GraphPipe"}
    assert "p90_ms" in result.tables["quantiles"].columns
    servers = {row["server"] for row in result.tables["all"].rows}
    assert servers >= {"GraphPipe", "GraphPipe, foreign writer", "GraphPipe, nothing repeats", "aiohttp", "bare uvloop"}


def test_the_chart_is_drawn_from_the_result_alone() -> None:
    pytest.importorskip("matplotlib")
    from benchmarks.charting.latency import draw

    rows = [
        latency.row(size, name, share, [a_round(p99_ms=share, behind=float(share == 90 and name == "aiohttp"))])
        for size in latency.SIZES
        for name in latency.WAYS
        for share in (10, 50, 90)
    ]
    drawn = draw(Result("latency", "t", "c", {"arrivals": "at even gaps"}, {"all": Table("all", {}, rows)}))
    titles = [axis.get_title() for axis in drawn.axes]
    assert titles == [f"{size} in and out: {p}" for p in ("p50", "p99") for size in ("1 KB", "600 KB")]
    assert all(axis.get_yscale() == "log" for axis in drawn.axes)
