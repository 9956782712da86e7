"""Put the tables of benchmarks/results/ into the documents that show them.

    python benchmarks/page.py [--check] [--draw]

Between `<!-- result QUESTION.TABLE -->` and `<!-- end -->` stands what the JSON says, and nothing else; `QUESTION.about`
is the line that says where it was measured. --check only says which documents are not as the results are; --draw draws
the charts anew.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.harness.drawing import QUESTIONS, draw  # noqa: E402
from benchmarks.harness.result import Result  # noqa: E402

DOCUMENTS = ("README.md", "docs/performance.md")
PLACE = re.compile(r"(<!-- result (\w+)\.(\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def filled(text: str) -> str:
    """A document with every table as the results have it. Raises KeyError for a table that is not there."""

    def fill(match: re.Match[str]) -> str:
        try:
            result = Result.read(match[2])
        except FileNotFoundError:  # a question that has not been answered yet leaves its places as they are
            return match[0]
        if match[3] == "about":
            shown = f"{result.source()}."
        else:
            shown = result.tables[match[3]].markdown()
        return f"{match[1]}{shown}\n{match[4]}"

    return PLACE.sub(fill, text)


def stale() -> list[str]:
    """The documents that do not say what the results say."""
    return [name for name in DOCUMENTS if (text := (ROOT / name).read_text()) != filled(text)]


def write() -> None:
    for name in stale():
        (ROOT / name).write_text(filled((ROOT / name).read_text()))
        print(f"wrote {name}", file=sys.stderr)


def main() -> None:
    parser = argparse.ArgumentParser(description="Put the results' tables into the documents that show them.")
    parser.add_argument(
        "--check", action="store_true", help="change nothing; status 1 if a document is not as the results are"
    )
    parser.add_argument("--draw", action="store_true", help="draw the charts anew, too")
    options = parser.parse_args()
    if options.check:
        if found := stale():
            sys.exit(f"not as the results are: {', '.join(found)}; `python benchmarks/page.py` writes them")
        return
    if options.draw:
        for question in QUESTIONS:
            draw(Result.read(question))
    write()


if __name__ == "__main__":
    main()
