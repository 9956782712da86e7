"""A picture of a comparison as SVG: how long each model takes, and beside it how far its answers are from the reference's.

It is read without colours: what a mark means is its shape and its place, and every number is written out. Light and dark
are the reader's to choose.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

from graphpipe.comparison.compared import About, Compared
from graphpipe.comparison.difference import Difference
from graphpipe.comparison.table import asked, share, size
from graphpipe.drawing import number, shortened, text, ticks
from graphpipe.words import counted

__all__ = ["svg"]

_WIDTH, _MARGIN = 960, 24
_TOP, _BOTTOM = 104, 76
_LINE = 18  # the height of an output, or of a line of words
# Where the two panels are from left to right.
_TIMES = (_MARGIN + 8, 400)
_NAMES = 440
_DISTANCES = (624, 872)
_EQUAL = 576  # where the place of 0 is on a scale that has none
_LETTERS_OF_TITLE, _LETTERS_OF_NAME, _LETTERS_OF_OUTPUT = 110, 52, 17

_ABSOLUTE = "absolute (logarithmic)"
_TICKS_MAX = 6

Across = Callable[[float], float]

_STYLE = """\
text { fill: #1f2328; } .soft { fill: #59636e; } .page { fill: #ffffff; } .band { fill: #f6f8fa; }
.rule { stroke: #d1d9e0; } .axis { stroke: #59636e; } .line { stroke: #1f5fa8; } .mark { fill: #1f5fa8; stroke: #1f5fa8; }
.hollow { fill: #ffffff; stroke: #1f5fa8; } .bad { fill: #b3261e; }
@media (prefers-color-scheme: dark) {
  text { fill: #f0f6fc; } .soft { fill: #a5adb7; } .page { fill: #0d1117; } .band { fill: #161b22; }
  .rule { stroke: #3d444d; } .axis { stroke: #a5adb7; } .line { stroke: #79b8ff; } .mark { fill: #79b8ff; stroke: #79b8ff; }
  .hollow { fill: #0d1117; stroke: #79b8ff; } .bad { fill: #ff9d94; }
}"""


def svg(models: Sequence[Compared], differences: Sequence[Difference], about: About) -> str:
    """The picture: a band for each model, in their order."""
    from_reference = [each for each in differences if not each.is_from_truth]
    of_model = {model.name: [each for each in from_reference if each.model == model.name] for model in models}
    heights = [_height(of_model[model.name]) for model in models]
    bottom = _TOP + sum(heights)
    height = bottom + _BOTTOM
    names = ", ".join(model.name for model in models)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" viewBox="0 0 {_WIDTH} {height}" '
        'font-family="system-ui, Helvetica, Arial, sans-serif" font-size="13" role="img">',
        f"<style>{_STYLE}</style>",
        f'<rect class="page" width="{_WIDTH}" height="{height}"/>',
        text(_MARGIN, 30, shortened(f"{about.problem or 'Comparison'}: {names}", _LETTERS_OF_TITLE), size=16,
             weight="bold"),
        text(_MARGIN, 50, shortened(asked(about), _LETTERS_OF_TITLE), style="soft"),
        text(_MARGIN + 8, 84, "Latency of one call", weight="bold"),
        text(_NAMES, 84, shortened(f"Difference from {models[0].name}", 60), weight="bold"),
    ]  # fmt: skip
    times, distances = _time_scale(models), _distance_scale(from_reference)
    tops = [_TOP + sum(heights[:i]) for i in range(len(heights))]
    for i, (top, high) in enumerate(zip(tops, heights, strict=True)):
        if i % 2 == 0:
            parts.append(f'<rect class="band" x="{_MARGIN}" y="{top}" width="{_WIDTH - 2 * _MARGIN}" height="{high}"/>')
    parts += _scale(times, [(top + 28, top + 48) for top in tops], bottom, _TIMES, _ms, "ms (logarithmic)")
    if distances is not None:
        strips = [
            (_row(top, place) - 14, _row(top, place) + 4)
            for model, top in zip(models, tops, strict=True)
            for place, each in enumerate(of_model[model.name])
            if _is_drawn(each)
        ]
        parts += _scale(distances, strips, bottom, _DISTANCES, _power, _ABSOLUTE)
        parts += [f'<path class="rule" d="M{_EQUAL} {top}V{end}"/>' for top, end in strips]
        parts.append(text(_EQUAL, bottom + 18, "0", anchor="middle", style="soft"))
    for i, (model, top) in enumerate(zip(models, tops, strict=True)):
        parts += _latency(model, top, _across(times, _TIMES), i == 0)
        if i == 0:
            parts.append(text(_NAMES, top + 22, "the reference", style="soft"))
        else:
            parts += _distances(of_model[model.name], top, distances)
    parts += _legend(height - 14, distances is not None)
    return "\n".join([*parts, "</svg>", ""])


def _height(found: Sequence[Difference]) -> int:
    return max(3 * _LINE + 16, len(found) * _LINE + 16)


# --- scales ---

Scale = tuple[float, float]


def _time_scale(models: Sequence[Compared]) -> Scale:
    values = [each for model in models for each in model.percentiles().values() if each > 0]
    return _wide(min(values, default=1e-3), max(values, default=1e-3), 1.6)


def _distance_scale(found: Sequence[Difference]) -> Scale | None:
    """From one power of ten to another."""
    values = [value for each in found if not each.text for value in (each.mean_abs, each.max_abs) if value > 0]
    if not values:
        return None
    return 10.0 ** math.floor(math.log10(min(values))), 10.0 ** math.ceil(math.log10(max(values) * 1.01))


def _wide(low: float, high: float, least: float) -> Scale:
    """A scale with both ends on it, some room beside them, and no narrower than ``least`` times."""
    room = max(math.sqrt(least / (high / low)), 1.0) * 1.15
    return low / room, high * room


def _across(scale: Scale, place: tuple[int, int]) -> Across:
    low, high = map(math.log10, scale)
    return lambda value: place[0] + (math.log10(value) - low) / (high - low) * (place[1] - place[0])


def _scale(
    scale: Scale, strips: Sequence[tuple[int, int]], bottom: int, place: tuple[int, int], label: Callable[[float], str],
    words: str,
) -> Iterator[str]:  # fmt: skip
    """An axis along the bottom, with lines up from it in strips of the height: from where to where."""
    across = _across(scale, place)
    found = ticks(*scale, most=1000)
    if scale[1] / scale[0] > 99:
        found = [value for value in found if _is_decade(value)]
    for value in found[:: max(1, math.ceil(len(found) / _TICKS_MAX))]:
        x = across(value)
        lines = "".join(f"M{x:.1f} {top}V{end}" for top, end in strips)
        yield f'<path class="rule" d="{lines}"/>'
        yield text(x, bottom + 18, label(value), anchor="middle", style="soft")
    yield f'<path class="axis" d="M{place[0]} {bottom}H{place[1]}"/>'
    yield text(sum(place) / 2, bottom + 34, words, anchor="middle", style="soft", size=12)


def _power(value: float) -> str:
    return f"{value:g}".replace("e-0", "e-")


def _ms(seconds: float) -> str:
    return number(1000 * seconds)


def _is_decade(value: float) -> bool:
    return abs(math.log10(value) - round(math.log10(value))) < 1e-9


# --- what is drawn of a model ---


def _latency(model: Compared, top: int, across: Across, is_reference: bool) -> Iterator[str]:
    yield text(_MARGIN + 8, top + 20, shortened(model.name, _LETTERS_OF_NAME), weight="bold")
    line, words = top + 20 + _LINE, top + 24 + 2 * _LINE
    errors = counted(model.errors, "error") if model.errors else ""
    if not len(model.seconds):
        yield text(_MARGIN + 8, words, f"no answer, {errors}" if errors else "no answer", style="bad")
        return
    p50, p90, p99 = model.percentiles().values()
    yield _interval(across(p50), across(p90), across(p99), line)
    said = f"p50 {_ms(p50)},  p90 {_ms(p90)},  p99 {_ms(p99)} ms"
    yield text(_MARGIN + 8, words, said)
    if not is_reference and model.ratio is not None:
        times = f"{model.ratio.median:.3g} times"
        if model.ratio.low is not None and model.ratio.high is not None:
            times += f" ({model.ratio.low:.3g} to {model.ratio.high:.3g})"
        yield text(_TIMES[1] + 8, top + 20, times, anchor="end")
    if errors:
        yield text(_TIMES[1] + 8, words, errors, anchor="end", style="bad")


def _interval(p50: float, p90: float, p99: float, y: float) -> str:
    return (
        f'<path class="line" stroke-width="1.5" d="M{p50:.1f} {y}H{p99:.1f}M{p99:.1f} {y - 6}v12"/>'
        f'<path class="line" stroke-width="5" d="M{p50:.1f} {y}H{p90:.1f}"/>'
        f'<circle class="mark" cx="{p50:.1f}" cy="{y}" r="5"/>'
    )


def _legend(y: int, with_distances: bool) -> Iterator[str]:
    left = _MARGIN + 14
    yield _interval(left, left + 34, left + 66, y)
    yield text(left + 80, y + 4, "p50, to p90, to p99", style="soft", size=12)
    yield text(_TIMES[1] + 8, y + 4, "times (95 % interval)", anchor="end", style="soft", size=12)
    if with_distances:
        yield _marks(_NAMES + 6, _NAMES + 56, y)
        yield text(_NAMES + 70, y + 4, "mean, largest", style="soft", size=12)


def _marks(mean: float, largest: float, y: float) -> str:
    return (
        f'<path class="line" stroke-width="1.5" d="M{mean:.1f} {y}H{largest:.1f}"/>'
        f'<circle class="hollow" stroke-width="1.5" cx="{mean:.1f}" cy="{y}" r="4"/>'
        f'<rect class="mark" x="{largest - 4.5:.1f}" y="{y - 4.5}" width="9" height="9"/>'
    )


def _distances(found: Sequence[Difference], top: int, scale: Scale | None) -> Iterator[str]:
    if not found:
        yield text(_NAMES, top + 22, "nothing was compared", style="bad")
    for i, each in enumerate(found):
        y = _row(top, i)
        yield text(_NAMES, y, shortened(each.output, _LETTERS_OF_OUTPUT))
        if each.not_alike or each.not_finite:
            what = counted(each.not_alike, "answer") + " not comparable" if each.not_alike else (
                counted(each.not_finite, "element") + " NaN or infinite"
            )  # fmt: skip
            yield text(_DISTANCES[0], y, what, style="bad")
        elif scale is None or not _is_drawn(each):
            words = "all equal" if not each.beyond else f"{share(each.share_beyond)} unequal"
            yield text(_DISTANCES[0], y, words)
        else:
            yield from _range(each, y, scale)


def _row(top: int, place: int) -> int:
    """Where the words of an output stand."""
    return top + 22 + place * _LINE


def _is_drawn(each: Difference) -> bool:
    return not (each.text or each.not_alike or each.not_finite)


def _range(each: Difference, y: int, scale: Scale) -> Iterator[str]:
    """From the mean to the largest difference of an output."""
    across = _across(scale, _DISTANCES)
    mean, largest = (across(value) if value else _EQUAL for value in (each.mean_abs, each.max_abs))
    yield f"<g><title>mean {size(each.mean_abs)}, largest {size(each.max_abs)}</title>{_marks(mean, largest, y - 4)}</g>"
    yield text(_WIDTH - _MARGIN - 4, y, size(each.max_abs), anchor="end")
