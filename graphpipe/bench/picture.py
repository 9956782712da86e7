"""A picture of latencies: for each run how many answers took how long, with the percentiles marked, as SVG."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from graphpipe.bench.quantiles import bins, percentiles
from graphpipe.bench.results import Numbers, percent_key
from graphpipe.drawing import number, shortened, text, ticks

__all__ = ["svg"]

_WIDTH, _LEFT, _RIGHT = 900, 76, 30
_TOP, _PANEL, _PLOT_TOP, _AXIS = 76, 320, 88, 52
_BARS = 60
_MARKED = (50.0, 90.0, 99.0, 99.9)
_COLOURS = ("#2563a8", "#c2571a", "#3b7d3b", "#7a4ea3")
_TITLE_LETTERS = 88
# Percentiles closer than this stand on two levels.
_LABEL_COLUMNS = 104


def svg(title: str, subtitle: str, runs: Sequence[Numbers], latencies: Sequence[NDArray[np.float64]]) -> str:
    """The picture: a panel for each run, one above the other, all with the same scale. Latencies are [n] in seconds."""
    height = _TOP + _PANEL * len(runs) + 6
    everything = np.concatenate([each for each in latencies if len(each)] or [np.array([1e-3])])
    low, high = _ends(everything)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" viewBox="0 0 {_WIDTH} {height}" '
        'font-family="system-ui, Helvetica, Arial, sans-serif" font-size="13" fill="#222">',
        f'<rect width="{_WIDTH}" height="{height}" fill="#fff"/>',
        text(_LEFT, 30, shortened(title, _TITLE_LETTERS), size=16, weight="bold"),
        text(_LEFT, 50, shortened(subtitle, _TITLE_LETTERS), fill="#555"),
    ]
    targets = list(dict.fromkeys(run["target"] for run in runs))
    for i, (run, values) in enumerate(zip(runs, latencies, strict=True)):
        colour = _COLOURS[targets.index(run["target"]) % len(_COLOURS)]
        parts += _panel(_TOP + i * _PANEL, run, values, low, high, colour)
    return "\n".join([*parts, "</svg>", ""])


def _panel(top: int, run: Numbers, values: NDArray[np.float64], low: float, high: float, colour: str) -> Iterator[str]:
    bottom, plot_top = top + _PANEL - _AXIS, top + _PLOT_TOP
    errors = f", {run['errors']:,} errors" if run["errors"] else ", no errors"
    yield text(_LEFT, top + 14, shortened(f"{run['load']} at {run['target']}", _TITLE_LETTERS), weight="bold")
    yield text(
        _LEFT, top + 31,
        f"{run['requests']:,} answers in {run['seconds']:.1f} s: {run['requests_per_s']:,g} requests/s, "
        f"{run['rows_per_s']:,g} rows/s{errors}", fill="#555",
    )  # fmt: skip

    def across(seconds: float) -> float:
        share = (math.log10(seconds) - math.log10(low)) / (math.log10(high) - math.log10(low))
        return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)

    heap = bins(values, _BARS)
    most = max((each.count for each in heap), default=1)
    step = _step(most)
    ceiling = step * math.ceil(most / step)

    def up(count: float) -> float:
        return bottom - count / ceiling * (bottom - plot_top)

    for count in range(0, ceiling + 1, step):
        yield f'<path d="M{_LEFT} {up(count):.1f}H{_WIDTH - _RIGHT}" stroke="#e3e3e3"/>'
        yield text(_LEFT - 8, up(count) + 4, f"{count:,}", anchor="end", fill="#555")
    for each in heap:
        if each.count:
            x, y = across(max(each.low, low)), up(each.count)
            width = max(1.0, across(min(each.high, high)) - x - 1)
            yield (
                f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{bottom - y:.1f}" fill="{colour}">'
                f"<title>{_ms(each.low)} to {_ms(each.high)} ms: {each.count:,} answers</title></rect>"
            )
    yield f'<path d="M{_LEFT} {bottom}H{_WIDTH - _RIGHT}" stroke="#222"/>'
    for value in ticks(low, high):
        yield f'<path d="M{across(value):.1f} {bottom}v5" stroke="#222"/>'
        yield text(across(value), bottom + 19, _ms(value), anchor="middle", fill="#555")
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    yield text(
        middle,
        bottom + 38,
        f"latency in ms, from when a request was {_from(run)} (logarithmic)",
        anchor="middle",
        fill="#555",
    )
    centre = (bottom + plot_top) / 2
    yield text(18, centre, "answers", anchor="middle", fill="#555", turned=True)
    yield from _marks(run, values, across, plot_top, bottom)


def _marks(
    run: Numbers, values: NDArray[np.float64], across: Callable[[float], float], plot_top: int, bottom: int
) -> Iterator[str]:
    if not len(values):
        yield text((_LEFT + _WIDTH - _RIGHT) / 2, (plot_top + bottom) / 2, "no answer", anchor="middle", size=18)
        return
    taken: list[tuple[int, float]] = []
    labels = []
    for percent, value in zip(_MARKED, percentiles(values, _MARKED), strict=True):
        x = across(value)
        level = next(n for n in range(len(_MARKED)) if all(n != m or x - y >= _LABEL_COLUMNS for m, y in taken))
        taken.append((level, x))
        y = plot_top - 8 - 16 * level
        yield f'<path d="M{x:.1f} {y - 10}V{bottom}" stroke="#222" stroke-dasharray="3 3"/>'
        label = f"p{percent:g} {number(run[percent_key(percent)])} ms"
        ends = x > _WIDTH - _RIGHT - _LABEL_COLUMNS
        labels.append(text(x - 5 if ends else x + 5, y, label, anchor="end" if ends else "start", halo="#fff"))
    yield from labels  # above the lines of others


def _ends(values: NDArray[np.float64]) -> tuple[float, float]:
    """Where the scale begins and ends, in seconds: all values, and the bins that they are in."""
    heap = bins(values, _BARS)
    low, high = heap[0].low, heap[-1].high
    return low / 1.03, high * 1.03


def _step(most: int) -> int:
    """A round number, of which about four make up ``most``."""
    wanted = max(most / 4, 1)
    scale = 10 ** math.floor(math.log10(wanted))
    return int(next(factor * scale for factor in (1, 2, 5, 10) if factor * scale >= wanted))


def _from(run: Numbers) -> str:
    return "due" if run["rate"] else "sent"


def _ms(seconds: float) -> str:
    return number(1000 * seconds)
