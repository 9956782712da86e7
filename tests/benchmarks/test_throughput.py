"""benchmarks/throughput.py: each way's answer is looked at before it is timed, and tables say what was found."""

from __future__ import annotations

import argparse
import contextlib
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import throughput
from benchmarks.end_to_end import callers
from benchmarks.end_to_end.program import Program
from benchmarks.harness.environment import Unavailable
from benchmarks.harness.environments import ENVIRONMENTS
from benchmarks.harness.result import Result


def options(**told: Any) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    throughput.flags(parser)
    return argparse.Namespace(**{**vars(parser.parse_args([])), "full": False, **told})


def test_ours_and_the_limit_are_measured_at_1_5_and_16_callers() -> None:
    result = throughput.measure(options(model=["identity"], only=["http", "unix"], rounds=1, seconds=0.05))
    table = result.tables["identity"]
    assert [row["way"] for row in table.rows] == ["http", "unix", "limit"]
    for row in table.rows:
        assert all(row[f"rows_{number}"] > 0 for number in (1, 5, 16))
        assert row["cpu"] > 0
    assert table.row(way="limit")["share"] == 100
    assert "of the limit" in table.markdown()
    assert "then" not in result.tables


def found(**per_second: float) -> dict[str, list[dict[str, float]]]:
    return {way: [{"per_second": value, "cpu_ms": 16}] * 3 for way, value in per_second.items()}


def test_a_table_counts_rows_and_sets_ours_beside_each_way() -> None:
    made = throughput.table(
        "mlp", {1: found(json=10, http=20, limit=40), 16: found(json=10, http=30, limit=40)}, ["why"]
    )
    theirs, ours, limit = made.rows
    assert theirs["rows_1"] == 80  # 8 rows a request
    assert theirs["cpu"] == 2
    assert theirs["ratio_1"] == [2, 2, 2]
    assert theirs["x_16"] == "3.00x (3.00 to 3.00)"
    assert "x_1" not in ours
    assert "x_1" not in limit
    assert (theirs["share"], ours["share"], limit["share"]) == (25, 75, 100)
    assert made.markdown().endswith("why")


def test_what_was_published_in_2018_stands_beside_now() -> None:
    made = throughput.then({1: found(json=3, http=4), 5: found(json=5, http=6)})
    assert made.row(server="GraphPipe") == {"server": "GraphPipe", "then_1": 291, "then_5": 405, "now_1": 4, "now_5": 6}
    assert made.row(server="TF-Serving's protocol") == {"server": "TF-Serving's protocol", "then_1": 70, "then_5": 75}


def test_a_plain_client_sends_no_more_digits_than_the_usual_one() -> None:
    assert throughput.json_body(np.array([[0.1, 0.5]], np.float32)) == b'{"instances": [[0.1, 0.5]]}'


def test_callers_count_all_answers_after_the_first_behind_the_ramp() -> None:
    asked: list[float] = []

    def ask(model: str, array: Any) -> None:
        time.sleep(0.01)
        asked.append(time.perf_counter())

    counted = callers.in_threads(ask, "m", None, 1, 0.2)
    behind = counted["calls"]
    ends = asked[-2 - int(behind) : -1]  # the last was answered when it was over
    assert counted["per_second"] == pytest.approx(behind / (ends[-1] - ends[0]), rel=0.05)
    assert behind < len(asked) - 2
    assert counted["all_calls"] == len(asked)


def test_slow_calls_are_asked_for_until_there_are_some() -> None:
    counted = callers.in_threads(lambda model, array: time.sleep(0.02), "m", None, 2, 0.001)
    assert counted["calls"] >= 6


def test_a_caller_who_fails_ends_the_run() -> None:
    def ask(model: str, array: Any) -> None:
        raise ValueError("no answer")

    with pytest.raises(ValueError, match="no answer"):
        callers.in_threads(ask, "m", None, 3, 60)


def test_a_program_that_ends_says_why_and_leaves_nothing(tmp_path: Path) -> None:
    import sys

    with (
        pytest.raises(Unavailable, match=r"in_process\.py ended: .*nosuch"),
        Program(sys.executable, "in_process.py", [tmp_path, f"m={tmp_path / 'nosuch.onnx'}"]) as program,
    ):
        program.said()
    assert program._process.returncode is not None


def test_an_answer_that_is_not_the_models_is_found(tmp_path: Path) -> None:
    class Callers:
        def __init__(self, value: float) -> None:
            self.value = value

        def asked(self, *, model: str, write: str) -> None:
            np.save(write, np.full(3, self.value, np.float32))

    ways = {name: throughput.Way(Callers(value)) for name, value in (("http", 1.0), ("limit", 2.0))}  # type: ignore[arg-type]
    with pytest.raises(AssertionError, match="identity by http"):
        throughput.check(ways, {"identity": tmp_path}, tmp_path)


def test_the_chart_has_both_years_and_every_way() -> None:
    pytest.importorskip("matplotlib")
    from benchmarks.charting.throughput import draw

    measured = {n: found(json=1, prediction=2, http=3, unix=3, limit=4) for n in (1, 5)}
    tables = {"then": throughput.then(measured)}
    tables |= {name: throughput.table(name, measured) for name in throughput.SHAPES}
    drawn = draw(Result("throughput", "t", "c", {"machine": "m", "commit": "c"}, tables))
    titles = " ".join(axes.get_title("left") for part in drawn.subfigs for axes in part.axes)
    assert "2018" in titles
    assert "VGG16" in titles
    assert "Squeezenet" in titles
    texts = {label.get_text() for part in drawn.subfigs for axes in part.axes for label in axes.get_yticklabels()}
    assert {"JSON + Python server", "GraphPipe", "GraphPipe, Unix socket", "in process: the limit"} <= texts


@pytest.mark.slow  # needs the environment, half a gigabyte
def test_a_server_of_tf_servings_protocol_may_be_named_by_its_address(tmp_path: Path) -> None:
    environment = ENVIRONMENTS["tensorflow-serving"]
    if not environment.is_there():
        pytest.skip("`make bench-setup` makes the environment of TF-Serving's protocol")
    models, _ = throughput.make(["vgg16"], tmp_path)
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(
            Program(environment.interpreter, "prediction_server.py", [f"vgg16={models['vgg16']}"])
        )
        address = f"127.0.0.1:{server.said()['port']}"
        told = options(
            model=["vgg16", "identity"], only=[], rounds=1, seconds=0.5, models=str(tmp_path), tf_serving_url=address
        )
        result = throughput.measure(told)
    assert [row["way"] for row in result.tables["vgg16"].rows] == ["tf-serving", "limit"]
    assert [row["way"] for row in result.tables["identity"].rows] == ["limit"]
