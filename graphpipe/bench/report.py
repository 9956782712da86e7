"""What was measured, in words and tables for a terminal, and as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from graphpipe.bench.quantiles import bins, percentiles
from graphpipe.bench.results import Numbers
from graphpipe.table import cell, lines_of
from graphpipe.words import counted, visible

__all__ = ["as_csv", "as_text"]

_COLUMNS = (
    ("requests/s", "requests_per_s"), ("rows/s", "rows_per_s"), ("MB/s", "mb_per_s"), ("mean", "mean_ms"),
    ("p50", "p50_ms"), ("p90", "p90_ms"), ("p95", "p95_ms"), ("p99", "p99_ms"), ("p99.9", "p99_9_ms"),
    ("max", "max_ms"), ("errors", "errors"),
)  # fmt: skip
_BARS, _BAR_COLUMNS = 14, 50
# Above this share of a core, the one who asks is likely to be what limits.
_BUSY = 0.9
# Not more than so much of what is due may be missing.
_SHORT = 0.98


def as_text(
    runs: Sequence[Numbers],
    latencies: Sequence[NDArray[np.float64]],
    sent: str,
    comparisons: Sequence[Numbers],
    earlier: Sequence[Numbers],
    earlier_file: str,
) -> str:
    """A table with a line for each run, latencies in milliseconds; the histogram if there is but one; then what is to be
    said about it.
    """
    lines = [f"{visible(title)}" for title in dict.fromkeys(str(run["target"]) for run in runs)]
    lines += [f"  sent: {sent}; latencies in ms", ""]
    several = len({run["target"] for run in runs}) > 1
    heads = [*(["target"] if several else []), "load", *(head for head, _ in _COLUMNS)]
    rows = [
        [
            *([visible(str(run["target"]))] if several else []),
            str(run["load"]),
            *(cell(run[key]) for _, key in _COLUMNS),
        ]
        for run in runs
    ]
    lines += lines_of([heads, *rows], 2 if several else 1)
    if len(runs) == 1:
        lines += _histogram(latencies[0], "due" if runs[0]["rate"] else "sent")
    for each in comparisons:
        lines += ["", *_comparison(each)]
    for each in earlier:
        lines += ["", *_then(each, earlier_file)]
    notes = [note for run in runs for note in _notes(run, several or len(runs) > 1, bool(comparisons))]
    return "\n".join([*lines, "", *dict.fromkeys(notes)])


def as_csv(runs: Sequence[Numbers]) -> str:
    """A line for each run, under the names of ``--json``; what is no single value is left out."""
    names = [name for name, value in runs[0].items() if not isinstance(value, list | dict)]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    writer.writerows([["" if run[name] is None else run[name] for name in names] for run in runs])
    return text.getvalue()


def _histogram(latencies: NDArray[np.float64], since: str) -> list[str]:
    if not len(latencies):
        return []
    heap = bins(latencies, _BARS)
    most = max(each.count for each in heap)
    marks: dict[int, list[str]] = {}
    for percent, value in zip((50.0, 90.0, 99.0, 99.9), percentiles(latencies, (50, 90, 99, 99.9)), strict=True):
        place = next((i for i, each in enumerate(heap) if value < each.high), len(heap) - 1)
        marks.setdefault(place, []).append(f"p{percent:g}")
    labels = [f"{_ms(each.low)} - {_ms(each.high)} ms" for each in heap]
    width = max(map(len, labels))
    lines = ["", f"  latency, from when a request was {since}"]
    for i, each in enumerate(heap):
        bar = "#" * max(round(_BAR_COLUMNS * each.count / most), 1 if each.count else 0)
        words = f"  {labels[i].rjust(width)} |{bar} {each.count:,}"
        lines.append(words + (f"  <- {', '.join(marks[i])}" if i in marks else ""))
    return lines


def _ms(seconds: float) -> str:
    value = 1000 * seconds
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _comparison(each: Numbers) -> list[str]:
    ratio = each["requests_per_s_ratio"]
    if ratio is None:
        return [f"  {each['load']}: no round has answers of both: nothing to compare"]
    lowest, highest = each["requests_per_s_ratio_lowest"], each["requests_per_s_ratio_highest"]
    rounds = counted(each["rounds"], "round")
    return [
        f"  {each['load']}: {visible(each['first'])} over {visible(each['second'])}",
        f"    {ratio:.3f} times the requests per second (median of {rounds}, {lowest:.3f} to {highest:.3f})",
        f"    {_times(each['p50_ms_ratio'])} the p50, {_times(each['p99_ms_ratio'])} the p99",
    ]


def _then(each: Numbers, file: str) -> list[str]:
    return [
        f"  {each['load']}: now over {visible(file)}",
        f"    {_times(each['requests_per_s_ratio'])} the requests per second, "
        f"{_times(each['p50_ms_ratio'])} the p50, {_times(each['p99_ms_ratio'])} the p99",
    ]


def _times(ratio: float | None) -> str:
    return "unknown times" if ratio is None else f"{ratio:.3f} times"


def _notes(run: Numbers, several: bool, paired: bool) -> list[str]:
    who = f"{visible(str(run['target']))}, {run['load']}: " if several else ""
    windows = f"{run['seconds']:.1f} s in {counted(run['windows'], 'window')}"
    agreeing = "the ratios of the last three" if paired else "the last three"
    if run["interrupted"]:
        notes = [f"  {who}interrupted: what was measured until then, {windows}"]
    elif run["stable"]:
        notes = [f"  {who}stable: {agreeing} of {windows} agree within 5 %"]
    else:
        notes = [f"  {who}not stable: {windows}, and {agreeing} do not agree; measure for longer (--seconds)"]
    if run["rate"] and run["requests_per_s"] < _SHORT * run["rate"] and not run["errors"] and run["windows"]:
        notes.append(
            f"  {who}it does not keep up: {run['rate']:,g} requests a second are due and {run['requests_per_s']:,g} are "
            f"answered; {counted(run['unanswered'], 'request')} still waited at the end, and latencies grow while it lasts"
        )
    if (run["generator_cpu"] or 0) > _BUSY:
        notes.append(
            f"  {who}asking took {100 * run['generator_cpu']:.0f} % of a core: the load generator may be what limits; ask "
            "from another machine, or several times at once"
        )
    for kind, failure in run["errors_by_kind"].items():
        notes.append(f"  {who}{counted(failure['count'], 'error')}: {kind}: {visible(failure['first'])}")
    return notes
