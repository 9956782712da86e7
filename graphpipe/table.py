"""A table of words for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["cell", "lines_of"]


def lines_of(rows: Sequence[Sequence[str]], left: int) -> list[str]:
    """Rows of cells as lines, each column as wide as its widest cell; the first ``left`` begin at the left."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for row in rows:
        padded = [
            each.ljust(width) if i < left else each.rjust(width)
            for i, (each, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(["", *padded]).rstrip())
    return lines


def cell(value: float | int | None) -> str:
    """A number that was measured, with as many digits as mean anything; a line where there is none."""
    if value is None:
        return "-"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
