"""The table tells apart what passed, what failed and what an adapter says that it does not do."""

from conformance.report import Report
from conformance.run import judge


def test_what_is_unsupported_is_counted_apart():
    report = Report(["Good", "Bad", "Some", "Small"])
    for case in ("a", "b"):
        judge(report, "row", "Good", case, {"ok": True}, "")
        judge(report, "row", "Bad", case, {"ok": True}, "wrong" if case == "a" else "")
        judge(report, "row", "Some", case, {"unsupported": "no"} if case == "a" else {"ok": True}, "")
        judge(report, "row", "Small", case, {"unsupported": "no"}, "not even looked at")
    assert report.markdown().splitlines()[-1] == "| row | 2 | 1 of 2 | 1, 1 unsupported | unsupported |"
    assert (report.passed, report.failed) == (4, 1)


def test_the_error_unsupported_is_not_what_an_adapter_leaves_out():
    report = Report(["Good"])
    judge(report, "row", "Good", "a", {"ok": False, "error": "unsupported"}, "wrong")
    assert (report.passed, report.failed) == (0, 1)


def test_other_programs_see_what_was_left_out_as_skipped(tmp_path):
    report = Report(["Some"])
    judge(report, "row", "Some", "a", {"ok": True}, "")
    judge(report, "row", "Some", "b", {"unsupported": "no"}, "")
    report.write_junit(tmp_path / "report.xml")
    assert 'tests="2" failures="0" errors="0" skipped="1"' in (tmp_path / "report.xml").read_text()
