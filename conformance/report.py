"""What came of a run: outcomes, the table of them, the page that shows it, and a report for other programs."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

__all__ = ["PAGE", "Report"]

_ROOT = Path(__file__).resolve().parent.parent
PAGE = _ROOT / "docs" / "conformance.md"
_KNOWN = Path(__file__).resolve().with_name("known_failures.json")
_BEGIN, _END = "<!-- languages: written by make conformance ARGS=--write-doc -->", "<!-- end of languages -->"


@dataclass
class Report:
    """Outcomes of cases, each of one row and one language."""

    languages: Sequence[str]
    not_run: dict[str, str] = field(default_factory=dict)  # languages, and why
    rows: dict[str, dict[str, list[int]]] = field(default_factory=dict)  # passed and failed by row and language
    failures: list[tuple[str, str, str, str]] = field(default_factory=list)  # row, language, case, reason
    left_out: dict[str, dict[str, int]] = field(default_factory=dict)  # what adapters do not do, by row and language
    known: list[str] = field(default_factory=list)
    _reasons: dict[str, dict[str, str]] = field(default_factory=lambda: json.loads(_KNOWN.read_text()))

    def add(self, row: str, language: str, case: str, reason: str) -> None:
        """Take note of one outcome; an empty reason means that it passed."""
        excuse = self._reasons.get(language, {}).get(case)
        if excuse and reason:
            self.known.append(f"{language}: {case}: {excuse}")
            return
        if excuse:
            reason = "passes, but is listed in known_failures.json: take it out there"
        counts = self.rows.setdefault(row, {}).setdefault(language, [0, 0])
        counts[bool(reason)] += 1
        if reason:
            self.failures.append((row, language, case, reason))

    def leave_out(self, row: str, language: str) -> None:
        """Take note of a case that the language's adapter says it does not do."""
        self.rows.setdefault(row, {}).setdefault(language, [0, 0])
        counts = self.left_out.setdefault(row, {})
        counts[language] = counts.get(language, 0) + 1

    @property
    def passed(self) -> int:
        """How many did."""
        return sum(counts[0] for row in self.rows.values() for counts in row.values())

    @property
    def failed(self) -> int:
        """How many did."""
        return sum(counts[1] for row in self.rows.values() for counts in row.values())

    def table(self) -> str:
        """Rows of cases, columns of languages: how many passed, and of how many if that is not all."""
        cells = [["cases", *self.languages]]
        cells += [[row, *(self._cell(row, name) for name in self.languages)] for row in self.rows]
        widths = [max(len(line[i]) for line in cells) for i in range(len(cells[0]))]
        return "\n".join(
            "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip() for line in cells
        )

    def _cell(self, row: str, language: str) -> str:
        if language in self.not_run:
            return "NOT RUN"
        passed, failed = self.rows[row].get(language, (0, 0))
        left_out = self.left_out.get(row, {}).get(language, 0)
        if not passed + failed:
            return "unsupported" if left_out else "-"
        cell = f"{passed} of {passed + failed}" if failed else str(passed)
        return f"{cell}, {left_out} unsupported" if left_out else cell

    def markdown(self) -> str:
        """The same table for the page."""
        lines = [f"| cases | {' | '.join(self.languages)} |", f"|---|{'---|' * len(self.languages)}"]
        lines += [f"| {row} | {' | '.join(self._cell(row, name) for name in self.languages)} |" for row in self.rows]
        return "\n".join(lines)

    def write_page(self) -> None:
        """Bring the page's table up to date."""
        before, _, rest = PAGE.read_text().partition(_BEGIN)
        PAGE.write_text(f"{before}{_BEGIN}\n\n{self.markdown()}\n\n{_END}{rest.partition(_END)[2]}")

    def page_differs(self) -> list[str]:
        """What the page says otherwise. Rows that did not run here, and languages, are not compared."""
        shown = PAGE.read_text().partition(_BEGIN)[2].partition(_END)[0]
        lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in re.findall(r"^\|.*\|$", shown, re.M)]
        said = {line[0]: dict(zip(lines[0][1:], line[1:], strict=True)) for line in lines[2:]}
        found = []
        for row in self.rows:
            for name in self.languages:
                if name not in self.not_run and said.get(row, {}).get(name) != self._cell(row, name):
                    found.append(
                        f"{row}, {name}: {said.get(row, {}).get(name, 'nothing')}, now {self._cell(row, name)}"
                    )
        return found

    def write_junit(self, path: Path) -> None:
        """Counts and failures in the form that test runners read."""
        suites = ElementTree.Element("testsuites")
        for row, by_language in self.rows.items():
            for language, (passed, failed) in by_language.items():
                counts = {"tests": str(passed + failed), "failures": str(failed), "errors": "0", "skipped": "0"}
                skipped = self.left_out.get(row, {}).get(language, 0)
                counts |= {"tests": str(passed + failed + skipped), "skipped": str(skipped)}
                suite = ElementTree.SubElement(suites, "testsuite", {"name": f"{language}: {row}", **counts})
                for failure in self.failures:
                    if failure[:2] == (row, language):
                        case = ElementTree.SubElement(suite, "testcase", {"name": failure[2]})
                        ElementTree.SubElement(case, "failure", {"message": failure[3]})
        for language, reason in self.not_run.items():
            counts = {"tests": "1", "failures": "0", "errors": "0", "skipped": "1"}
            ElementTree.SubElement(suites, "testsuite", {"name": f"{language}: {reason}", **counts})
        path.parent.mkdir(parents=True, exist_ok=True)
        ElementTree.ElementTree(suites).write(path, encoding="utf-8", xml_declaration=True)
