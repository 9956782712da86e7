"""What documents and charts show is what the results say."""

from __future__ import annotations

import pytest

from benchmarks import page
from benchmarks.harness.drawing import QUESTIONS
from benchmarks.harness.result import RESULTS, Result

# One has tables alone.
SHOWN = (*QUESTIONS, "pipelines")


def test_documents_show_what_the_results_say() -> None:
    assert page.stale() == []


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_chart_was_drawn_from_the_result_that_lies_beside_it(question: str) -> None:
    digest = Result.read(question).digest()
    for kind in ("svg", "png"):
        assert digest.encode() in (RESULTS / f"{question}.{kind}").read_bytes(), "python benchmarks/page.py --draw"


def test_every_table_of_the_questions_has_its_place_in_the_page_or_is_too_long_for_it() -> None:
    shown = {
        (match[2], match[3]) for name in page.DOCUMENTS for match in page.PLACE.finditer((page.ROOT / name).read_text())
    }
    there = {(question, table) for question in SHOWN for table in Result.read(question).tables}
    assert shown - there == {(question, "about") for question in SHOWN}
    assert there - shown <= {
        ("serialization", "then"),
        ("throughput", "then"),
        ("latency", "quantiles"),
        ("latency", "all"),
    }
