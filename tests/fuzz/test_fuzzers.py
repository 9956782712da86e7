"""`make fuzz` says what each fuzzer did, what it found, and which did not run."""

from __future__ import annotations

import sys
from importlib.util import find_spec

import pytest

from scripts.fuzz import libfuzzer
from scripts.fuzz.fuzzer import Outcome, table
from scripts.fuzz.libfuzzer import Atheris

atheris = pytest.mark.skipif(not find_spec("atheris"), reason="atheris is not here: `make fuzz` installs it")


def test_the_table_has_a_line_for_each_and_the_findings_below():
    said = table(
        [
            Outcome("head", 120_000, 60, "41", "80"),
            Outcome("chunks", 10, 5, "1", "1", [".build/fuzz/chunks/crash-1"]),
            Outcome("go-decoder", not_run="go not found"),
        ]
    ).splitlines()
    assert said[1].split() == ["head", "120,000", "2,000", "60", "41", "80", "0"]
    assert said[2].split()[-1] == "1"
    assert said[3].split(maxsplit=1) == ["go-decoder", "NOT RUN: go not found"]
    assert said[4] == "chunks: .build/fuzz/chunks/crash-1"


@atheris
def test_a_target_runs_and_keeps_what_it_reached():
    outcome = Atheris("chunks", "chunks").fuzz(1)
    assert not outcome.findings
    assert outcome.executions > 1000
    assert int(outcome.corpus) > 5


@atheris
def test_a_finding_is_a_file_that_the_outcome_names(tmp_path, monkeypatch):
    program = tmp_path / "program.py"
    program.write_text(
        "import sys, atheris\n"
        "def check(data):\n"
        "    assert len(data) < 4\n"
        "atheris.Setup(sys.argv, check)\n"
        "atheris.Fuzz()\n"
    )

    class Planted(Atheris):
        def command(self):
            return [sys.executable, str(program)]

    monkeypatch.setattr(libfuzzer, "FOLDER", libfuzzer.FOLDER / "of-a-test")
    outcome = Planted("planted", "chunks").fuzz(5)
    assert len(outcome.findings) == 1
    assert "of-a-test/planted/crash-" in outcome.findings[0]
