"""What is committed: how many calls of the yardstick, in the same process, cost as much as one of each subject."""

from __future__ import annotations

import json
import platform
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.guarding.comparison import Found
from benchmarks.guarding.counting import Method
from benchmarks.guarding.verdict import ALLOWED
from benchmarks.harness.tree import ROOT

__all__ = ["ALLOWED_OF_TIMES", "RESULTS", "differs", "environment", "load", "save"]

RESULTS = ROOT / "benchmarks" / "results" / "guard.json"
# Seconds of a call and of the yardstick change by different factors from one processor to another, and with its load.
ALLOWED_OF_TIMES = max(0.25, ALLOWED)


def environment() -> dict[str, str]:
    """What else decides how many instructions a call takes: whose ratios are compared must agree in it."""
    libraries = {name: version(name) for name in ("aiohttp", "numpy", "uvloop")}
    return {
        "processor": platform.machine(),
        "python": platform.python_version(),
        "compiler": platform.python_compiler(),
        **libraries,
    }


def load(path: Path = RESULTS) -> dict[str, Any]:
    """What is committed; nothing if nothing is."""
    saved: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return saved


def differs(saved: dict[str, Any]) -> str:
    """In which of these the committed ratios are not of this environment, in words; nothing if there are none."""
    if not saved:
        return ""
    now, then = environment(), saved["environment"]
    return ", ".join(f"{name} {now[name]} (committed: {then.get(name)})" for name in now if now[name] != then.get(name))


def save(method: Method, commit: str, found: Found, path: Path = RESULTS) -> None:
    """Put the ratios there; those of the other method stay if they are of the same environment."""
    saved = load(path)
    if differs(saved):
        saved = {}
    ratios = {
        name: float(f"{median(pair.head / pair.base for life in lives for pair in life):.4g}")
        for name, (lives, why) in found.items()
        if not why
    }
    about = {"what": "calls of benchmarks/guarding/within/yardstick.py that cost as much as one of the subject"}
    saved = {
        **about,
        "environment": environment(),
        **{k: v for k, v in saved.items() if k not in ("what", "environment")},
    }
    before = saved.get(method.name, {}).get("ratios", {})
    saved[method.name] = {"commit": commit, "ratios": {**before, **ratios}}
    path.write_text(json.dumps(saved, indent=1) + "\n")
