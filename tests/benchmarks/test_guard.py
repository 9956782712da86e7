"""benchmarks/guard.py names what a change made dearer, and nothing else."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.guarding import baseline
from benchmarks.guarding.counting import METHODS, Instructions, Times
from benchmarks.guarding.subjects import SUBJECTS
from benchmarks.guarding.verdict import Pair, judged
from tests.serving import ROOT, environment

counts = pytest.mark.skipif(shutil.which("valgrind") is None, reason="without valgrind there are only times")

# Every tenth message is read twice: the least that must be named, and not less on any machine.
_DEARER = """
import itertools as _itertools

_once, _calls = decode_request, _itertools.count()


def decode_request(*arguments, **named):
    if next(_calls) % 10 == 0:
        _once(*arguments, **named)
    return _once(*arguments, **named)
"""


def guarded(*arguments: str, status: int = 0) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "benchmarks/guard.py", "--json", *arguments],
        cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == status, done.stdout + done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def by_subject(found: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {each["subject"]: each for each in found["subjects"]}


@pytest.mark.slow
@counts
def test_a_decode_that_is_10_percent_dearer_is_named_and_nothing_beside_it(tmp_path: Path) -> None:
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "graphpipe", tmp_path / "graphpipe", ignore=ignored)
    with (tmp_path / "graphpipe" / "wire" / "messages.py").open("a") as module:
        module.write(_DEARER)
    dearer, same = "codec: decode 1 KB, other writer", "codec: encode 1 KB"
    found = guarded("--base", str(ROOT), "--head", str(tmp_path), dearer, same, status=1)
    assert found["grew"] == [dearer]
    subjects = by_subject(found)
    assert 1.08 < subjects[dearer]["ratio"] < 1.2
    assert subjects[same]["says"] == "as it was"


@pytest.mark.slow
def test_every_subject_is_measured_and_a_single_life_of_times_accuses_nobody() -> None:
    found = guarded("--base", str(ROOT), "--method", "times", "--lives", "1", "--batches", "1")
    assert found["grew"] == []
    subjects = by_subject(found)
    assert set(subjects) == set(SUBJECTS)
    assert not {name: each["why"] for name, each in subjects.items() if "why" in each}
    assert all(each["ratio"] > 0 for each in subjects.values())


@pytest.mark.slow
@counts
def test_nothing_grew_since_the_same_state() -> None:
    assert guarded("--base", str(ROOT), "codec", "hot route", "client")["grew"] == []


def test_what_a_commit_lacks_cannot_be_told_and_is_no_growth(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "graphpipe", tmp_path / "graphpipe", ignore=shutil.ignore_patterns("__pycache__"))
    with (tmp_path / "graphpipe" / "wire" / "messages.py").open("a") as module:
        module.write("\n\ndef encode_infer_response(outputs):\n    raise NotImplementedError('not yet')\n")
    found = guarded("--base", str(tmp_path), "--method", "times", "--lives", "1", "--batches", "1", "codec: encode")
    subjects = by_subject(found)
    assert subjects["codec: encode answer 1 KB"]["why"] == "NotImplementedError: not yet"
    assert subjects["codec: encode answer 1 KB"]["says"] == "cannot tell"
    assert "why" not in subjects["codec: encode 1 KB"]


def test_without_a_base_the_committed_ratios_judge_and_only_what_they_are_of() -> None:
    ratios = baseline.load().get("times", {}).get("ratios", {})
    found = guarded("--method", "times", "--lives", "1", "--batches", "1", "codec: encode 1 KB")
    assert found["base"].startswith("committed ratios")
    (subject,) = found["subjects"]
    assert subject.get("why", "") == ("" if "codec: encode 1 KB" in ratios else "nothing is committed for it")


def test_what_is_saved_are_ratios_to_the_yardstick_and_what_they_hold_for(tmp_path: Path) -> None:
    path = tmp_path / "guard.json"
    baseline.save(Times(), "abc", {"a": ([[Pair(3.0, 2.0)]], ""), "b": ([], "not there")}, path)
    baseline.save(Instructions(), "abd", {"a": ([[Pair(5.0, 2.0)]], "")}, path)
    baseline.save(Times(), "abe", {"c": ([[Pair(1.0, 2.0)]], "")}, path)
    saved = baseline.load(path)
    assert saved["times"]["ratios"] == {"a": 1.5, "c": 0.5}
    assert saved["instructions"]["ratios"] == {"a": 2.5}
    assert baseline.differs(saved) == ""
    saved["environment"]["python"] = "3.9.0"
    assert baseline.differs(saved).endswith("(committed: 3.9.0)")
    assert baseline.differs(baseline.load(tmp_path / "none.json")) == ""


def test_only_what_lies_wholly_above_the_limit_grew() -> None:
    def said(*ratios: float, lives: int = 1, lives_min: int = 1) -> str:
        return judged("x", [[Pair(ratio, 1.0) for ratio in ratios]] * lives, lives_min).says

    assert said(1.06, 1.07, 1.08) == "GREW"
    assert said(1.06, 1.07, 1.08, lives_min=4) == "cannot tell"
    assert said(1.01, 1.04, 1.2, 1.01, 1.3) == "cannot tell"
    assert said(1.0, 1.04, 1.03) == "as it was"
    assert said(0.9, 0.8, 0.91) == "shrank"
    # Three lives that agree in themselves and not with each other prove nothing.
    lucky = [[Pair(1.0, 1.0)] * 20, [Pair(1.1, 1.0)] * 20, [Pair(1.12, 1.0)] * 20, [Pair(1.0, 1.0)] * 20]
    assert judged("x", lucky, 4).says == "cannot tell"


def test_instructions_are_counted_once_and_times_from_several_lives() -> None:
    assert set(METHODS) == {"instructions", "times"}
    assert Instructions.lives == 1
    assert Times.lives >= Times.lives_min > 1
