"""Inputs that are kept: those which together reach all that was ever reached, and each that was a finding once.

``corpus/TARGET.json`` has both in base64, an input a line: HTTP as it is has line ends that no text file keeps.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from pathlib import Path

__all__ = ["FOLDER", "inputs", "keep"]

FOLDER = Path(__file__).resolve().parent / "corpus"


def inputs(target: str) -> list[bytes]:
    """All inputs of a target, findings first."""
    found = _read(target)
    return [base64.b64decode(each) for each in (*found["findings"], *found["corpus"])]


def keep(target: str, corpus: Iterable[bytes]) -> None:
    """Take these in place of the corpus there was; findings stay."""
    found = {**_read(target), "corpus": sorted(base64.b64encode(each).decode() for each in corpus)}
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / f"{target}.json").write_text(json.dumps(found, indent=1) + "\n")


def _read(target: str) -> dict[str, list[str]]:
    path = FOLDER / f"{target}.json"
    found: dict[str, list[str]] = {"findings": [], "corpus": []}
    if path.exists():
        found |= json.loads(path.read_text())
    return found
