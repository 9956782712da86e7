"""A comparison as JSON: names that stay, and the version of them. What is no finite number is null."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from graphpipe.comparison.compared import About, Compared
from graphpipe.comparison.difference import Difference, Place
from graphpipe.machine import usable_cpus
from graphpipe.version import __version__

__all__ = ["FORMAT", "as_document"]

# Names are added under the same number; one that goes, or means something else, is the next.
FORMAT = "graphpipe-comparison/1"


def as_document(models: Sequence[Compared], differences: Sequence[Difference], about: About) -> dict[str, Any]:
    """The comparison as objects and lists. Times are in milliseconds."""
    return {
        "format": FORMAT,
        "problem": about.problem or None,
        "data": about.data,
        "reference": models[0].name,
        "calls": about.calls,
        "rows": about.rows,
        "passes": about.passes,
        "rtol": about.tolerance.rtol,
        "atol": about.tolerance.atol,
        "interrupted": about.interrupted,
        "models": [_model(each) for each in models],
        "differences": [_difference(each, about) for each in differences],
        "max_abs": _number(max((each.max_abs for each in differences if not each.is_from_truth), default=0.0)),
        "graphpipe": __version__,
        "cpus": usable_cpus(),
    }


def _model(each: Compared) -> dict[str, Any]:
    times = {f"p{percent:g}_ms": _number(1000 * value) for percent, value in each.percentiles().items()}
    ratio = each.ratio
    return {
        "name": each.name,
        "source": each.source,
        "answers": len(each.seconds),
        "rows": each.rows,
        "calls_per_s": _number(each.calls_per_s),
        "rows_per_s": _number(each.rows_per_s),
        **times,
        "latency_ratio": None if ratio is None else _number(ratio.median),
        "latency_ratio_low": None if ratio is None else _number(ratio.low),
        "latency_ratio_high": None if ratio is None else _number(ratio.high),
        "errors": each.errors,
        "errors_by_kind": {
            kind: {"count": failure.count, "first": failure.first} for kind, failure in each.errors_by_kind.items()
        },
        "first_failed_call": each.first_failed or None,
        "given_up": each.given_up,
        "metrics": {name: _number(value) for name, value in each.metrics.items()},
        "metric_errors": each.metric_failed,
        "metric_first_error": each.metric_said or None,
        "notes": list(each.notes),
    }


def _difference(each: Difference, about: About) -> dict[str, Any]:
    return {
        "model": each.model,
        "reference": each.reference,
        "output": each.output,
        "text": each.text,
        "calls": each.calls,
        "elements": each.elements,
        "max_abs": None if each.text else _number(each.max_abs),
        "max_rel": None if each.text else _number(each.max_rel),
        "mean_abs": None if each.text else _number(each.mean_abs),
        "beyond": each.beyond,
        "share_beyond": _number(each.share_beyond),
        "first": None if each.first is None else _place(each.first),
        "not_finite": each.not_finite,
        "not_alike": each.not_alike,
        "not_alike_first": each.mismatch or None,
        "share_other_highest": _number(each.highest(about.scores)),
    }


def _place(place: Place) -> dict[str, Any]:
    return {
        "call": place.call,
        "index": list(place.index),
        "reference": _value(place.reference),
        "other": _value(place.other),
    }


def _value(value: float | int | str) -> float | int | str:
    # JSON has no word for what is not a number.
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _number(value: float | None) -> float | None:
    """Six digits, which is more than anybody measures, and less than noise."""
    return None if value is None or not math.isfinite(value) else float(f"{value:.6g}")
