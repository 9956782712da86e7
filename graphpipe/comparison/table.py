"""A comparison in words and tables, for a terminal."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from graphpipe.comparison.compared import About, Compared, metric_names
from graphpipe.comparison.difference import TRUTH, Difference
from graphpipe.table import cell, lines_of
from graphpipe.words import counted, visible

__all__ = ["as_text", "asked", "share", "size"]


def as_text(models: Sequence[Compared], differences: Sequence[Difference], about: About) -> str:
    """First who was asked and how fast they are, then how their answers differ, then what is to be said about it."""
    reference = visible(models[0].name)
    problem = f"{visible(about.problem)}: " if about.problem else ""
    lines = [f"{problem}{counted(len(models), 'model')}, {asked(about)}", ""]
    lines += lines_of([_heads(models, reference), *(_row(model, models) for model in models)], 1)
    if found := [each for each in differences if not each.is_from_truth]:
        lines += ["", f"  differences from {reference}", *_differences(found, about)]
    if found := [each for each in differences if each.is_from_truth]:
        lines += ["", f"  differences from what is {TRUTH}", *_differences(found, about)]
    notes = list(_notes(models, differences, about))
    return "\n".join([*lines, *(["", *notes] if notes else [])])


def asked(about: About) -> str:
    """What each model was asked, in words."""
    again = f" in {about.passes} passes" if about.passes > 1 else ""
    rows = f", {counted(about.rows, 'row')}" if about.rows != about.calls else ""
    return f"{counted(about.calls, 'call')} of each{again}{rows}, of {visible(about.data)}"


def _heads(models: Sequence[Compared], reference: str) -> list[str]:
    return [
        "model", "calls/s", "rows/s", "p50 ms", "p90 ms", "p99 ms", f"time / {reference}", "errors",
        *map(visible, metric_names(models)),
    ]  # fmt: skip


def _row(model: Compared, models: Sequence[Compared]) -> list[str]:
    has = len(model.seconds) > 0
    times = [cell(None if math.isnan(each) else 1000 * each) for each in model.percentiles().values()]
    values = [model.metrics.get(name) for name in metric_names(models)]
    return [
        visible(model.name), cell(model.calls_per_s if has else None), cell(model.rows_per_s if has else None), *times,
        _ratio(model, model is models[0]), cell(model.errors),
        *("-" if value is None else f"{value:.5g}" for value in values),
    ]  # fmt: skip


def _ratio(model: Compared, is_reference: bool) -> str:
    if is_reference:
        return "1"
    if model.ratio is None:
        return "-"
    if model.ratio.low is None or model.ratio.high is None:
        return f"{model.ratio.median:.3g}"
    return f"{model.ratio.median:.3g} ({model.ratio.low:.3g} to {model.ratio.high:.3g})"


def _differences(found: Sequence[Difference], about: About) -> list[str]:
    with_scores = any(each.highest(about.scores) is not None for each in found)
    heads = ["model", "output", "elements", "max abs", "max rel", "mean abs", "beyond"]
    heads += [*(["other highest"] if with_scores else []), "first beyond"]
    rows = [heads]
    for each in found:
        numbers = ["-"] * 3 if each.text else [size(value) for value in (each.max_abs, each.max_rel, each.mean_abs)]
        scores = each.highest(about.scores)
        rows.append(
            [
                visible(each.model), visible(each.output), f"{each.elements:,}", *numbers, share(each.share_beyond),
                *([share(scores)] if with_scores else []),
                "-" if each.first is None else visible(str(each.first)),
            ]
        )  # fmt: skip
    # The last column is words, and begins at the left.
    widest = max(len(row[-1]) for row in rows)
    return lines_of([[*row[:-1], row[-1].ljust(widest)] for row in rows], 2)


def size(value: float) -> str:
    """How large a difference is: 0 for none, else three digits."""
    return "0" if value == 0 else f"{value:.3g}"


def share(value: float | None) -> str:
    """A share of all in percent; never 0 % for what is not nothing, nor 100 % for what is not all."""
    if value is None:
        return "-"
    if value in (0.0, 1.0):
        return f"{100 * value:.0f} %"
    return f"{min(max(100 * value, 0.0001), 99.9999):.3g} %" if value < 0.999 else f"{min(100 * value, 99.9999):.6g} %"


def _notes(models: Sequence[Compared], differences: Sequence[Difference], about: About) -> Iterator[str]:
    tolerance = about.tolerance
    if any(not each.text for each in differences):
        yield f"  beyond: |difference| > {tolerance.atol:g} + {tolerance.rtol:g} * |reference|; of text, any"
    if about.interrupted:
        yield "  interrupted: this is what there was until then"
    if len(models) > 1 and all(each.is_from_truth for each in differences):
        yield "  nothing was compared: no call was answered by the reference and another model"
    for each in differences:
        where = f"{visible(each.model)}, output {visible(each.output)}"
        if each.not_finite:
            yield f"  {where}: {counted(each.not_finite, 'element')} NaN or infinite against something else; in no mean"
        if each.not_alike:
            yield f"  {where}: {counted(each.not_alike, 'answer')} not comparable; {visible(each.mismatch)}"
    for model in models:
        yield from (f"  {visible(note)}" for note in model.notes)
        for kind, failure in model.errors_by_kind.items():
            first = f" (first: {visible(model.first_failed)})" if model.first_failed else ""
            yield f"  {visible(model.name)}: {counted(failure.count, 'error')}{first}: {kind}: {visible(failure.first)}"
        if model.given_up:
            yield f"  {visible(model.name)} was asked no more after so many errors in a row"
        if model.metric_failed:
            times = counted(model.metric_failed, "time")
            yield f"  {visible(model.name)}: the metric raised {times}: {visible(model.metric_said)}"
