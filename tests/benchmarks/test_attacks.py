"""The attacks of benchmarks/attacks.py run, and docs/reliability.md has the figures that are saved, and no others."""

from __future__ import annotations

import subprocess
import sys

import pytest

from benchmarks.attacking.table import BEGIN, END, PAGE, saved, table
from benchmarks.attacks import ATTACKS
from benchmarks.harness.innocent import Calls, Innocent
from benchmarks.harness.messages import foreign, shared_strings, small
from benchmarks.harness.tree import Tree
from graphpipe.wire import InferRequest, decode_request
from tests.serving import ROOT, environment, serving

pytestmark = pytest.mark.slow


def test_the_table_in_the_docs_is_what_is_saved() -> None:
    written = PAGE.read_text().partition(BEGIN)[2].partition(END)[0]
    assert written.strip() == table(saved(), ATTACKS)


@pytest.mark.parametrize(
    "name",
    [
        "hang-ups in an answer",
        "keys that are guessed",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("config texts", "descriptors without", "memory fields", "memory that changes")
        ),
    ],
)
def test_an_attack_runs_to_its_end_and_the_innocent_caller_is_answered(name: str) -> None:
    done = subprocess.run(
        [sys.executable, "benchmarks/attacks.py", name, "--quiet-s", "0.2", "--settle-s", "0.2"],
        cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=100,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "failed 0 %" in done.stdout
    assert "saw: " in done.stdout


@pytest.mark.parametrize(
    ("name", "saw"),
    [
        ("ONNX files", "refused: 8, files that their code has made: 0"),
        pytest.param("archives", "refused: 13, files that their code has made: 0", marks=pytest.mark.slow),
        pytest.param("answers to the Python", "answered: 1, refused: 16", marks=pytest.mark.slow),
        pytest.param("answers to the Go", "answered: 1, refused: 16", marks=pytest.mark.slow),
        pytest.param("answers to the Java", "answered: 1, refused: 16", marks=pytest.mark.slow),
    ],
)
def test_what_loads_models_or_calls_servers_refuses_what_means_harm_and_goes_on(name: str, saw: str) -> None:
    done = subprocess.run(
        [sys.executable, "benchmarks/attacks.py", name, "--quiet-s", "0.2", "--settle-s", "0.2"],
        cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=200,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert saw in done.stdout or "is not installed" in done.stdout
    assert "nobody waits" in done.stdout or "is not installed" in done.stdout


def test_an_innocent_callers_calls_are_timed_from_when_they_were_due() -> None:
    with serving("--model", "echo") as server:
        with Innocent(server.port, Calls("/", per_second=20, timeout_s=5)) as innocent:
            enough = subprocess.run([sys.executable, "-c", "import time; time.sleep(1)"], check=True)
        assert enough.returncode == 0
        due = [call[0] for call in innocent.calls]
        assert all(status == "200" for _, _, status in innocent.calls)
        assert [later - earlier for earlier, later in zip(sorted(due), sorted(due)[1:], strict=False)] == pytest.approx(
            [0.05] * (len(due) - 1)
        )
        found = innocent.between(min(due), max(due) + 1)
        assert found["calls"] == len(due)
        assert found["failed"] == 0
        assert 0 < found["p50_ms"] <= found["p99_ms"] <= found["max_ms"]


def test_a_tree_may_be_a_folder_or_a_commit_and_nothing_else() -> None:
    assert Tree(str(ROOT)).path == ROOT
    with pytest.raises(ValueError, match="neither a folder nor a commit"):
        Tree("no-such-thing")


def test_requests_written_by_hand_say_what_they_are_to_say() -> None:
    many = decode_request(shared_strings(1000))
    assert isinstance(many, InferRequest)
    assert many.inputs[0].tolist() == [b""] * 1000
    own = decode_request(small())
    assert isinstance(own, InferRequest)
    for _ in range(2):  # a second time a remembered layout may speak
        other = decode_request(foreign(own.inputs[0]))
        assert isinstance(other, InferRequest)
        assert other.head.config == own.head.config
        assert other.inputs[0].tolist() == own.inputs[0].tolist()
