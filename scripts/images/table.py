"""The table of `make images`: kept as JSON between runs, printed, and written into docs/images.md."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

__all__ = ["Row", "kept", "text", "write"]

BEGIN = "<!-- images: written by make images ARGS=--write -->"
END = "<!-- images: end -->"


class Row(TypedDict):
    """What was seen of one image: ``answered`` has its models, ``failed`` is empty if nothing was amiss."""

    image: str
    bytes: int
    base_bytes: int
    build_s: float
    answered: list[str]
    seen: list[tuple[str, str]]
    failed: str


def kept(path: Path, rows: Sequence[Row]) -> list[Row]:
    """These rows, with those of earlier runs for the images that were not run now; all are kept for the next."""
    old: list[Row] = json.loads(path.read_text()) if path.exists() else []
    now = {row["image"] for row in rows}
    together = sorted([*rows, *(row for row in old if row["image"] not in now)], key=lambda row: row["bytes"])
    path.write_text(json.dumps(together, indent=1))
    return together


def text(rows: Sequence[Row], how: str) -> str:
    """The rows in Markdown: sizes, then what was seen of each image."""
    lines = [
        f"Built and run with {how}.",
        "",
        "| image | unpacked | beside its base | built in | what answered | |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        beside = row["bytes"] - row["base_bytes"]
        result = f"FAILED: {row['failed'].splitlines()[0]}" if row["failed"] else "every check passed"
        sizes = f"{row['bytes'] / 1e6:.0f} MB | {beside / 1e6:.0f} MB | {row['build_s']:.0f} s"
        lines.append(f"| {row['image']} | {sizes} | {', '.join(row['answered'])} | {result} |")
    for row in rows:
        if row["seen"]:
            lines += ["", f"`{row['image']}`:", "", *(f"- {name}: {seen}" for name, seen in row["seen"])]
    return "\n".join(lines)


def write(page: Path, table: str) -> None:
    """Put the table between its marks in the page."""
    before, found, rest = page.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not found or not end:
        raise SystemExit(f"{page} has no place for the table: {BEGIN} and {END}")
    page.write_text(f"{before}{BEGIN}\n\n{table}\n\n{END}{after}")
