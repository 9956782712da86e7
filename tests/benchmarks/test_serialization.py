"""The question of the first chart: every way gives the array back, and the tables say what was measured."""

from __future__ import annotations

import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import serialization
from benchmarks.harness.environment import Unavailable
from benchmarks.harness.result import Result, shown
from benchmarks.serializing import worker
from benchmarks.serializing.catalogue import FORMATS, LIKE, OURS
from benchmarks.serializing.codec import Codec
from benchmarks.serializing.workers import Workers


def options(**others: Any) -> Namespace:
    return Namespace(**{"rows": 2, "rounds": 1, "only": None, "here": True, "full": False, **others})


@pytest.fixture(scope="module")
def result() -> Result:
    return serialization.measure(options())


def test_ways_that_need_no_environment_are_measured_in_this_interpreter(result: Result) -> None:
    for table in (result.tables["request"], result.tables["response"]):
        for name in (
            "graphpipe",
            "graphpipe-new",
            "graphpipe-warm",
            "pickle-in",
            "pickle-out",
            "npy",
            "json",
            "memcpy",
        ):
            row = table.row(format=name)
            assert row["serialise_ms"] > 0
            assert row["deserialise_ms"] > 0
    request = result.tables["request"]
    assert request.row(format="memcpy")["megabytes"] == 2 * 224 * 224 * 3 * 4 / 1e6
    assert 0 < request.row(format=OURS)["megabytes"] - request.row(format="memcpy")["megabytes"] < 0.001


def test_a_way_that_will_not_run_is_left_out_and_named() -> None:
    found = serialization.measure(options(only=["graphpipe", "tensorflow-serving"]))
    assert [row["format"] for row in found.tables["request"].rows] == ["graphpipe"]
    assert any(note.startswith("Left out: TF-Serving, gRPC: ") for note in found.tables["request"].notes)


def test_text_may_be_measured_whole() -> None:
    found = serialization.measure(options(only=["memcpy", "graphpipe", "json"], full=True))
    assert found.command.endswith("--full")
    assert found.tables["request"].row(format="json")["way"] == "JSON (json)"
    assert any(note.startswith("Text was measured whole; ") for note in found.tables["response"].notes)


def test_a_round_trip_that_gives_another_array_is_no_measurement() -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    for other in (array + 1, array.reshape(3, 2), array.astype(np.float64)):
        wrong = Codec(lambda array: [array], lambda body, other=other: other)  # type: ignore[misc]
        with pytest.raises(AssertionError):
            worker.measured(wrong, array)


def test_a_message_counts_with_all_its_parts() -> None:
    array = np.arange(6, dtype=np.float32)
    codec = Codec(lambda array: [b"head", array.data], lambda body: np.frombuffer(body, np.float32, offset=4))
    assert worker.measured(codec, array)["bytes"] == 4 + 24


def test_workers_end_with_their_with_statement() -> None:
    with Workers(sys.executable) as workers:
        workers.ask(FORMATS["memcpy"], "response", 1)
        (process, _), *none = workers._running.values()
        assert not none
    assert process.poll() == 0


def test_a_worker_that_dies_is_not_waited_for() -> None:
    with Workers(sys.executable) as workers:
        workers.ask(FORMATS["memcpy"], "response", 1)
        next(iter(workers._running.values()))[0].kill()
        with pytest.raises(Unavailable, match="ended with status"):
            workers.ask(FORMATS["memcpy"], "response", 1)


def test_every_way_has_its_file_and_its_like() -> None:
    folder = Path(worker.__file__).parent
    for each in FORMATS.values():
        assert (folder / f"{each.module}.py").exists()
    assert {name for names in LIKE.values() for name in names} <= set(FORMATS)


# --- what is made of the figures --------------------------------------------------------------------------------------


def rounds(serialise: float, deserialise: float, size: float = 1e6) -> list[dict[str, float]]:
    return [{"serialise": serialise, "deserialise": deserialise, "bytes": size} for _ in range(3)]


FOUND = {
    "memcpy request": rounds(0.010, 0.010),
    "graphpipe request": rounds(0.001, 0.001),
    "graphpipe-warm request": rounds(0.012, 0.001),
    "graphpipe-joined request": rounds(0.011, 0.001),
    "pickle-out request": rounds(0.002, 0.0005),
    "arrow request": rounds(0.0055, 0.002),
    "npy request": rounds(0.0115, 0.002),
    "msgpack request": rounds(0.0022, 0.002),
    "json request": rounds(1, 2),
    "json request fewer": rounds(0.25, 0.4),
}
KNOWN = {name: FORMATS[name] for name in FORMATS if f"{name} request" in FOUND}


def test_text_is_scaled_and_says_so() -> None:
    table = serialization.table("request", KNOWN, FOUND, {}, 16)
    row = table.row(format="json")
    assert (row["way"], row["serialise_ms"], row["deserialise_ms"]) == ("JSON (json) *", 16_000, 32_000)
    assert (row["serialise_x"], row["megabytes"]) == (1600, 16)
    row = table.row(format="arrow")
    assert (row["way"], row["serialise_ms"], row["serialise_x"]) == (
        "Arrow IPC tensor",
        pytest.approx(5.5),
        pytest.approx(0.55),
    )
    (note,) = serialization.text_notes(KNOWN, FOUND, 128, 8, 4)
    assert "on 8 of the 128 rows and multiplied by 16; a row of it cost 2.25 times (2.00 to 2.50, by format" in note
    assert serialization.text_notes(KNOWN, FOUND, 1, 1, 1) == []


def test_whole_text_is_held_against_its_own_neighbours() -> None:
    slow = {"memcpy request": rounds(0.02, 0.02), "json request": rounds(4, 8)}
    row = serialization.table("request", KNOWN, FOUND, slow, 1).row(format="json")
    assert (row["way"], row["serialise_ms"], row["serialise_x"]) == ("JSON (json)", 4000, 200)


def test_a_row_that_is_ahead_says_why() -> None:
    table = serialization.table("request", KNOWN, FOUND, {}, 16)
    remarks = {row["format"]: row["remark"] for row in table.rows}
    # As parts against parts, and what is read against what is read.
    assert remarks["pickle-out"].endswith(f"Ahead (deserialise 0.50x of ours): {FORMATS['pickle-out'].ahead}")
    # One buffer against the better of our two.
    assert remarks["arrow"].endswith(f"Ahead (serialise 0.50x of ours): {FORMATS['arrow'].ahead}")
    assert remarks["msgpack"].endswith("Ahead (serialise 0.20x of ours): it is not known why")
    for behind in ("npy", "json", "memcpy", OURS):
        assert remarks[behind] == FORMATS[behind].remark


def test_the_figures_of_2018_stand_beside_those_of_today() -> None:
    tables = {side: serialization.table("request", KNOWN, FOUND, {}, 16) for side in serialization.SIDES}
    table = serialization.then_and_now(tables)
    ours = table.row(way="GraphPipe", what="request, serialise")
    assert (ours["then_s"], ours["now_s"]) == (0.05, 0.001)
    assert table.row(way="JSON (ujson)", what="response, deserialise")["then_s"] == 0.45
    assert table.row(way="JSON (ujson)", what="response, deserialise")["now_s"] is None
    assert len(table.rows) == 12


def test_small_ratios_have_figures_and_not_zeros() -> None:
    assert shown(0.000072, "of memcpy x") == "0.000072x"
    assert shown(1.84e-6, "now, s") == "0.0000018"
    assert shown(0.045, "now, s") == "0.045"
    assert shown(0.5, "of memcpy x") == "0.50x"
    assert shown(1450.4, "of memcpy x") == "1,450x"


# --- the chart --------------------------------------------------------------------------------------------------------


def test_the_chart_has_a_panel_for_each_side_and_direction(result: Result) -> None:
    pytest.importorskip("matplotlib", reason="charts are drawn where matplotlib is: make bench-setup")
    from benchmarks.charting.serialization import draw, time_text

    drawn = draw(result)
    assert [axis.get_title() for axis in drawn.axes] == [
        "request, serialise",
        "request, deserialise",
        "response, serialise",
        "response, deserialise",
    ]
    labels = [text.get_text() for text in drawn.axes[0].get_yticklabels()]
    assert labels[0] == FORMATS[OURS].label
    assert labels[-1] == "JSON (json) *"
    assert "2018: 50 ms" in [text.get_text() for text in drawn.axes[0].texts]
    assert [time_text(seconds) for seconds in (1.62e-6, 0.0456, 0.9949, 19.4)] == ["1.6 µs", "46 ms", "995 ms", "19 s"]


@pytest.mark.slow
def test_every_format_runs_in_its_environment() -> None:
    found = serialization.measure(options(here=False))
    assert {row["format"] for row in found.tables["request"].rows} == set(FORMATS)
    assert not [note for note in found.tables["request"].notes if note.startswith("Left out")]
