"""The test runner: what did not run must not look as if it had."""

import sys

import pytest

from scripts import run_tests
from scripts.run_tests import Suite

PASSES = [sys.executable, "-c", "print('fine')"]
FAILS = [sys.executable, "-c", "raise SystemExit(3)"]


@pytest.fixture
def run(monkeypatch, capsys):
    """Runs these suites and returns the status, the row of each suite and the closing line."""

    def run_suites(*suites, arguments=(), ci=""):
        monkeypatch.setattr(run_tests, "suites", lambda: list(suites))
        monkeypatch.setattr(sys, "argv", ["run_tests.py", *arguments])
        monkeypatch.setenv("CI", ci)
        status = run_tests.main()
        lines = capsys.readouterr().out.splitlines()
        table = lines[[line.startswith("suite ") for line in lines].index(True) + 1 :]
        return status, {line.split()[0]: line.split(maxsplit=1)[1] for line in table[: len(suites)] if line}, lines[-1]

    return run_suites


def test_all_well(run):
    status, rows, last = run(Suite("one", [PASSES, PASSES]))
    assert status == 0
    assert rows["one"].startswith("passed")
    assert last == "2 passed, 0 failed, 0 skipped"


def test_one_failure_fails_the_run_and_the_other_commands_are_still_run(run):
    status, rows, last = run(Suite("bad", [FAILS, PASSES]), Suite("good", [PASSES]))
    assert status == 1
    assert rows["bad"].startswith("failed")
    assert rows["good"].startswith("passed")
    assert last == "2 passed, 1 failed, 0 skipped"


def test_a_suite_without_its_toolchain_is_not_run_and_says_why(run):
    status, rows, last = run(Suite("cobol", [PASSES], needs=["cobc-that-nobody-has"]), Suite("good", [PASSES]))
    assert status == 0
    assert rows["cobol"].startswith("NOT RUN")
    assert rows["cobol"].endswith("cobc-that-nobody-has not found")
    assert last == "1 passed, 0 failed, 0 skipped"


def test_a_suite_for_root_alone_is_not_run_by_others(run, monkeypatch):
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    status, rows, last = run(Suite("boots", [PASSES], needs_root=True), Suite("good", [PASSES]))
    assert status == 0
    assert rows["boots"].startswith("NOT RUN")
    assert rows["boots"].endswith("root is needed")
    assert last == "1 passed, 0 failed, 0 skipped"


def test_under_ci_that_is_a_failure(run):
    status, rows, last = run(Suite("cobol", [PASSES], needs=["cobc-that-nobody-has"]), ci="true")
    assert status == 1
    assert rows["cobol"].startswith("failed")
    assert last == "0 passed, 1 failed, 0 skipped"


def test_a_suite_in_which_nothing_ran_is_a_failure(run):
    status, rows, _ = run(Suite("empty", [PASSES], reports=".build/reports/of-nobody.xml"))
    assert status == 1
    assert rows["empty"].endswith("no test ran")


def test_slow_suites_wait_to_be_asked_for(run):
    slow = Suite("soak", [PASSES], slow=True)
    assert "soak" not in run(Suite("good", [PASSES]), slow)[1]
    assert "soak" in run(slow, arguments=["--slow"])[1]
    assert "soak" in run(slow, arguments=["soak"])[1]


def test_a_suite_whose_folder_is_not_there_is_none(run):
    assert "later" not in run(Suite("good", [PASSES]), Suite("later", [FAILS], exists_with="no/such/folder"))[1]


def test_go_tests_are_counted_one_by_one():
    counter = run_tests.Counter()
    output = [
        "=== RUN   TestA\n",
        "--- PASS: TestA (0.00s)\n",
        "    --- PASS: TestA/part (0.00s)\n",
        "--- FAIL: TestB (0.0s)\n",
    ]
    shown = [
        line
        for line in [*output, "--- SKIP: TestC (0.00s)\n", "ok  \tpackage\t0.1s\n"]
        if counter.is_worth_reading(line)
    ]
    assert (counter.passed, counter.failed, counter.skipped) == (1, 1, 1)
    assert shown == ["--- FAIL: TestB (0.0s)\n", "--- SKIP: TestC (0.00s)\n", "ok  \tpackage\t0.1s\n"]


def test_the_table_ends_with_the_time_that_all_took_together():
    outcomes = [run_tests.run(Suite("good", [PASSES]))]
    (row,) = [line for line in run_tests.table(outcomes, 83.4).splitlines() if line.startswith("together")]
    assert row.split() == ["together", "1", "0", "0", "83.4"]


def test_chains_of_suites_are_as_long_as_their_suites_together(monkeypatch):
    monkeypatch.setattr(run_tests, "SECONDS", {"go": 90, "java": 50})
    chain = [Suite("go", [PASSES]), Suite("java", [PASSES]), Suite("new", [PASSES])]
    assert run_tests.seconds_of(chain) == 140


def test_a_suite_that_is_known_to_take_long_is_one_of_ours():
    assert set(run_tests.SECONDS) <= {suite.name for suite in run_tests.suites()}


def test_every_suite_of_ours_has_a_name_of_its_own():
    names = [suite.name for suite in run_tests.suites()]
    assert len(names) == len(set(names))
    assert not [suite.name for suite in run_tests.suites() if suite.name.startswith("python") and suite.needs]


def test_what_is_imported_is_compiled_once_whatever_the_callers_shell_says(monkeypatch):
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    assert "PYTHONDONTWRITEBYTECODE" not in run_tests.environment()
