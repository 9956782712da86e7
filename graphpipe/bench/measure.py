"""The course of a measurement: a warm-up, then windows of time until they agree, or the time is over, or somebody says so.

Two are measured in rounds of a window each, the one right after the other and each first every other time: what happens
on the machine meanwhile happens to both, and the ratio of a round knows nothing of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import takewhile

import numpy as np

from graphpipe.bench.callee import Callee
from graphpipe.bench.load import Load
from graphpipe.bench.tally import Failure, Mark
from graphpipe.bench.windows import IN_A_ROW, Window, agree, are_stable

__all__ = ["Measured", "Times", "Watch", "measure"]

# A window in which fewer answers come says little.
_ANSWERS_MIN = 10
# What is under way when a round begins and ends is not counted: so much of a window, on both sides.
_RAMP = 0.1
_RAMP_S_MAX = 0.5
_TICK_S = 0.1


@dataclass(frozen=True, slots=True)
class Times:
    """``seconds`` at most for each that is measured, after ``warm_up_s``, in windows of ``window_s`` or, for who answers
    slowly, longer ones. ``until_stable``: or as soon as the windows agree.
    """

    seconds: float
    warm_up_s: float
    window_s: float
    until_stable: bool = True


@dataclass(slots=True)
class Measured:
    """What came of it: ``windows`` in order; ``failures`` by kind, those of the warm-up among them."""

    callee: Callee
    load: Load
    windows: list[Window] = field(default_factory=list)
    failures: dict[str, Failure] = field(default_factory=dict)
    stable: bool = False
    interrupted: bool = False
    waiting: int = 0  # requests that were due at the end and had no answer


class Watch:
    """Whoever looks on: is told how far it has come, and may ask for the end."""

    def __init__(self, show: Callable[[float, float, str], None] = lambda done, total, words: None) -> None:
        self.stopped = asyncio.Event()
        self._show = show

    async def pause(self, seconds: float, done: float, total: float, words: str) -> bool:
        """Let time pass. False if the end was asked for meanwhile. ``done`` of ``total`` seconds had passed before."""
        began = time.perf_counter()
        while (left := began + seconds - time.perf_counter()) > 0 and not self.stopped.is_set():
            self._show(done + time.perf_counter() - began, total, words)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.stopped.wait(), min(left, _TICK_S))
        return not self.stopped.is_set()


async def measure(callees: Sequence[Callee], load: Load, times: Times, watch: Watch) -> list[Measured]:
    """Measure one or two under a load; what there is for each, in their order, when somebody asked for the end too."""
    found = [Measured(callee, load) for callee in callees]
    marks = [_mark(callee) for callee in callees]
    before = [{kind: known.count for kind, known in callee.tally.failures.items()} for callee in callees]
    try:
        if len(callees) == 1:
            await _alone(found[0], times, watch)
        else:
            await _in_turn(found, times, watch)
    finally:
        for each, mark, known in zip(found, marks, before, strict=True):
            each.interrupted = watch.stopped.is_set()
            if each.callee.tally.failed > mark.failures:
                each.failures = {
                    kind: Failure(failure.count - known.get(kind, 0), failure.first)
                    for kind, failure in each.callee.tally.failures.items()
                    if failure.count > known.get(kind, 0)
                }
    return found


async def _alone(found: Measured, times: Times, watch: Watch) -> None:
    callee, total = found.callee, times.warm_up_s + times.seconds
    began = _mark(callee)
    await callee.begin(found.load)
    try:
        start = time.perf_counter()
        if not await watch.pause(times.warm_up_s, 0, total, f"{found.load}: warm-up"):
            return
        warm = _window(callee, began, time.perf_counter() - start)
        window_s = _length(times, [warm])
        done = 0.0
        while done < times.seconds - window_s / 2:
            words = f"{found.load}: {_words(found.windows)}"
            window = await _one_window(callee, window_s, watch, times.warm_up_s + done, total, words)
            if window.seconds < window_s / 2 and found.windows:
                return  # cut off
            found.windows.append(window)
            done += window_s
            found.stable = are_stable(found.windows)
            if watch.stopped.is_set() or _nothing_but_errors(found.windows) or (times.until_stable and found.stable):
                return
    finally:
        found.waiting = callee.waiting()
        await _end(callee, watch)


async def _in_turn(found: Sequence[Measured], times: Times, watch: Watch) -> None:
    total = len(found) * (times.warm_up_s + times.seconds)
    warm = []
    for i, each in enumerate(found):
        began, start = _mark(each.callee), time.perf_counter()
        await each.callee.begin(each.load)
        try:
            if not await watch.pause(times.warm_up_s, i * times.warm_up_s, total, f"{each.load}: warm-up"):
                return
            warm.append(_window(each.callee, began, time.perf_counter() - start))
        finally:
            await _end(each.callee, watch)
    window_s = _length(times, warm)
    ramp_s = min(_RAMP * window_s, _RAMP_S_MAX)
    done, ratios = 0.0, list[float]()
    while done < times.seconds - window_s / 2:
        windows: dict[int, Window] = {}
        for i in (0, 1) if len(ratios) % 2 == 0 else (1, 0):
            callee = found[i].callee
            at = len(found) * (times.warm_up_s + done) + len(windows) * window_s
            words = f"{found[0].load}: {_ratio_words(ratios)}"
            await callee.begin(found[i].load)
            try:
                if not await watch.pause(ramp_s, at, total, words):
                    return
                windows[i] = await _one_window(callee, window_s, watch, at + ramp_s, total, words)
            finally:
                found[i].waiting = callee.waiting()
                await _end(callee, watch)
            if watch.stopped.is_set():
                return  # half a round compares nothing
        for i, each in enumerate(found):
            each.windows.append(windows[i])
        done += window_s
        ratios.append(windows[0].per_s / windows[1].per_s if windows[1].per_s else 0.0)
        stable = len(ratios) >= IN_A_ROW and min(ratios[-IN_A_ROW:]) > 0 and agree(ratios[-IN_A_ROW:])
        for each in found:
            each.stable = stable
        if any(_nothing_but_errors(each.windows) for each in found) or (times.until_stable and stable):
            return


async def _end(callee: Callee, watch: Watch) -> None:
    """Wait for the last answers, unless somebody does not."""
    ending = asyncio.ensure_future(callee.end())
    if watch.stopped.is_set():
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(ending, 1.0)
    else:
        stopped = asyncio.ensure_future(watch.stopped.wait())
        await asyncio.wait([ending, stopped], return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        if not ending.done():
            ending.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await ending


async def _one_window(callee: Callee, seconds: float, watch: Watch, done: float, total: float, words: str) -> Window:
    mark, began = _mark(callee), time.perf_counter()
    await watch.pause(seconds, done, total, words)
    return _window(callee, mark, time.perf_counter() - began)


def _mark(callee: Callee) -> Mark:
    tally = callee.tally
    return Mark(len(tally.latencies), tally.received, tally.failed, time.process_time())


def _window(callee: Callee, since: Mark, seconds: float) -> Window:
    now = _mark(callee)
    latencies = np.array(callee.tally.latencies[since.answers : now.answers], np.float64)
    return Window(
        seconds, latencies, now.received - since.received, now.failures - since.failures, now.cpu_s - since.cpu_s
    )


def _length(times: Times, warm: Sequence[Window]) -> float:
    """How long a window is: as it is asked for, unless too few answers would come; three have to fit."""
    slowest = min((window.per_s for window in warm), default=0.0)
    wanted = max(times.window_s, _ANSWERS_MIN / slowest if slowest else 0.0)
    return min(wanted, times.seconds / IN_A_ROW)


def _nothing_but_errors(windows: Sequence[Window]) -> bool:
    """Whether nothing has come for three windows, since an error."""
    silent = list(takewhile(lambda window: not len(window.latencies), reversed(windows)))
    return len(silent) >= IN_A_ROW and any(window.failed for window in silent)


def _words(windows: Sequence[Window]) -> str:
    if not windows:
        return "measuring"
    last = windows[-1]
    failed = sum(window.failed for window in windows)
    slow = f", p50 {1000 * float(np.median(last.latencies)):.3g} ms" if len(last.latencies) else ""
    return f"{last.per_s:,.0f} a second{slow}" + (f", {failed:,} errors" if failed else "")


def _ratio_words(ratios: Sequence[float]) -> str:
    return f"round {len(ratios) + 1}, ratio {float(np.median(ratios)):.3f}" if ratios else "round 1"
