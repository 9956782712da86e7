"""What was measured, in numbers: one flat object for each run, with names that stay; and one for each comparison."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphpipe.bench.measure import Measured
from graphpipe.bench.quantiles import PERCENTS, percentiles
from graphpipe.machine import usable_cpus
from graphpipe.version import __version__
from graphpipe.wire.dtypes import dtype_name

__all__ = ["against", "compared", "latencies_of", "numbers", "percent_key", "read_earlier"]

Numbers = dict[str, Any]

# What two runs are compared by: names of numbers.
_COMPARED = ("requests_per_s", "p50_ms", "p99_ms")


def percent_key(percent: float) -> str:
    """The name of a percentile: p50_ms, p99_9_ms."""
    return f"p{percent:g}_ms".replace(".", "_")


def latencies_of(measured: Measured) -> NDArray[np.float64]:
    """The latencies [n] of all windows, in seconds, in the order that they came in."""
    return np.concatenate([window.latencies for window in measured.windows] or [np.empty(0)])


def numbers(measured: Measured) -> Numbers:
    """A run as JSON has it. Latencies are in milliseconds, null where there is none."""
    windows, callee = measured.windows, measured.callee
    seconds = sum(window.seconds for window in windows)
    latencies = latencies_of(measured)
    count = len(latencies)
    per_s = count / seconds if seconds else 0.0
    received = sum(window.received for window in windows)
    answer_bytes = received / count if count else None
    failures = sum(failure.count for failure in measured.failures.values())
    rows = callee.request.rows
    found: Numbers = {
        "target": callee.title,
        "load": str(measured.load),
        "concurrency": measured.load.callers or None,
        "rate": measured.load.rate or None,
        "seconds": round(seconds, 3),
        "windows": len(windows),
        "stable": measured.stable,
        "interrupted": measured.interrupted,
        "requests": count,
        "requests_per_s": _rounded(per_s),
        "rows_per_s": _rounded(per_s * rows),
        "mb_per_s": _rounded(per_s * (callee.request_bytes + (answer_bytes or 0)) / 1e6),
        "mean_ms": _ms(float(latencies.mean()) if count else math.nan),
    }
    for percent, value in zip(PERCENTS, percentiles(latencies), strict=True):
        found[percent_key(percent)] = _ms(value)
    found["max_ms"] = _ms(float(latencies.max()) if count else math.nan)
    found |= {
        "errors": failures,
        "errors_by_kind": {
            kind: {"count": each.count, "first": each.first} for kind, each in measured.failures.items()
        },
        "unanswered": measured.waiting if measured.load.rate else 0,
        "rows_per_request": rows,
        "request_bytes": callee.request_bytes,
        "answer_bytes": None if answer_bytes is None else round(answer_bytes),
        "inputs": [
            {"name": name, "type": dtype_name(array.dtype), "shape": list(array.shape)}
            for name, array in zip(callee.request.names, callee.request.arrays, strict=True)
        ],
        "window_requests_per_s": [_rounded(window.per_s) for window in windows],
        "generator_cpu": _rounded(sum(window.cpu_s for window in windows) / seconds)
        if seconds and callee.is_elsewhere
        else None,
        "graphpipe": __version__,
        "cpus": usable_cpus(),
        "uvloop": "uvloop" in sys.modules,
    }
    return found


def compared(first: Measured, second: Measured) -> Numbers:
    """The first over the second: the median of the ratios of the rounds, and from where to where these go."""
    rounds = list(zip(first.windows, second.windows, strict=False))
    ratios = [a.per_s / b.per_s for a, b in rounds if b.per_s]
    found: Numbers = {
        "first": first.callee.title,
        "second": second.callee.title,
        "load": str(first.load),
        "rounds": len(rounds),
        "stable": first.stable,
        "requests_per_s_ratio": _rounded(float(np.median(ratios))) if ratios else None,
        "requests_per_s_ratio_lowest": _rounded(min(ratios)) if ratios else None,
        "requests_per_s_ratio_highest": _rounded(max(ratios)) if ratios else None,
    }
    for percent in (50.0, 99.0):
        pairs = [
            (percentiles(a.latencies, [percent])[0], percentiles(b.latencies, [percent])[0])
            for a, b in rounds
            if len(a.latencies) and len(b.latencies)
        ]
        found[f"{percent_key(percent)}_ratio"] = (
            _rounded(float(np.median([a / b for a, b in pairs if b]))) if pairs else None
        )
    return found


def read_earlier(file: str) -> list[Numbers]:
    """The runs in what ``--json`` wrote earlier. Raises ValueError for what is something else, OSError."""
    with open(file, encoding="utf-8") as stream:
        try:
            content = json.load(stream)
        except ValueError as error:
            raise ValueError(f"--against {file}: not JSON: {error}") from None
    runs = content.get("runs", [content]) if isinstance(content, dict) else None
    if not isinstance(runs, list) or not all(isinstance(run, dict) and "requests_per_s" in run for run in runs):
        raise ValueError(f"--against {file}: expected what graphpipe bench --json wrote; this is something else")
    return runs


def against(runs: Sequence[Numbers], earlier: Sequence[Mapping[str, Any]]) -> list[Numbers]:
    """Each run over the earlier one of the same load: of the same target if there is one, else the first."""
    found = []
    for run in runs:
        alike = [then for then in earlier if all(then.get(key) == run[key] for key in ("concurrency", "rate"))]
        alike.sort(key=lambda then: then.get("target") != run["target"])
        if not alike:
            continue
        then = alike[0]
        ratios = {f"{key}_ratio": _over(run[key], then.get(key)) for key in _COMPARED}
        found.append({"target": run["target"], "load": run["load"], "earlier_target": then.get("target"), **ratios})
    return found


def _over(now: Any, then: Any) -> float | None:
    known = isinstance(now, int | float) and isinstance(then, int | float)
    return _rounded(now / then) if known and then else None


def _ms(seconds: float) -> float | None:
    return None if math.isnan(seconds) else _rounded(1000 * seconds)


def _rounded(value: float) -> float:
    """Five digits, which is more than anybody measures."""
    return float(f"{value:.5g}")
