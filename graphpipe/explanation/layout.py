"""Where the boxes of a picture lie, and how the lines between them run: from top to bottom, in layers.

A box lies below all those that lead to it (longest path). A line that passes a layer has a place of its own in it, as wide
as a line needs, so that it runs past boxes and never through one. Within a layer the order is that of the neighbours'
middles (barycenters), up and down some times, and the best one found stays. Then each layer is moved as near to its
neighbours as its widths allow, which has an exact solution.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

__all__ = ["Layout", "Line", "laid_out"]

Point = tuple[float, float]

_SWEEPS, _LAST_SWEEPS = 12, 30
_BETWEEN_BOXES, _BETWEEN_LINES, _BETWEEN_LAYERS = 28.0, 14.0, 34.0
# How much rather a line is straight for each of its ends that is within a line, and no box.
_STRAIGHT = 4.0


@dataclass(frozen=True, slots=True)
class Line:
    """A line from one box to another. Where it is straight, it is so from each of ``points`` to the next one, downwards:
    through a layer. Between two layers it is a curve: from the end of one such stretch to the begin of the next.
    """

    start: int
    end: int
    points: tuple[tuple[Point, Point], ...]


@dataclass(frozen=True, slots=True)
class Layout:
    """The left upper corner of each box, the lines in the order in which they were given, and the size of it all."""

    corners: tuple[Point, ...]
    lines: tuple[Line, ...]
    width: float
    height: float


def laid_out(sizes: Sequence[tuple[float, float]], links: Sequence[tuple[int, int]]) -> Layout:
    """A place for boxes of these widths and heights, with a line for each link from one to another.

    Raises ValueError for links that go in a circle.
    """
    return _Layering(sizes, links).layout()


class _Layering:
    """Boxes, and places for lines behind them, by their numbers."""

    def __init__(self, sizes: Sequence[tuple[float, float]], links: Sequence[tuple[int, int]]) -> None:
        self._sizes = list(sizes)
        self._links = links
        self._layer_of = _layers(len(sizes), links)
        self._boxes = len(sizes)
        self._below: list[list[int]] = [[] for _ in sizes]
        self._above: list[list[int]] = [[] for _ in sizes]
        self._ways = [self._way(start, end) for start, end in links]
        depth = max(self._layer_of, default=-1) + 1
        self._layers: list[list[int]] = [[] for _ in range(depth)]
        for node, layer in enumerate(self._layer_of):
            self._layers[layer].append(node)

    def layout(self) -> Layout:
        self._order()
        middles = self._middles()
        left = min((x - self._sizes[n][0] / 2 for n, x in enumerate(middles)), default=0.0)
        middles = [x - left for x in middles]
        tops, bottoms = self._heights()
        corners = []
        for node in range(self._boxes):
            width, height = self._sizes[node]
            layer = self._layer_of[node]
            corners.append((middles[node] - width / 2, (tops[layer] + bottoms[layer] - height) / 2))
        lines = tuple(
            Line(start, end, self._points(way, middles, corners, tops, bottoms))
            for (start, end), way in zip(self._links, self._ways, strict=True)
        )
        width = max((x + self._sizes[n][0] / 2 for n, x in enumerate(middles)), default=0.0)
        return Layout(tuple(corners), lines, width, bottoms[-1] if bottoms else 0.0)

    # --- layers ---

    def _way(self, start: int, end: int) -> list[int]:
        """The nodes that a link goes through; lines from one box share theirs as far as they go together."""
        way, at = [start], start
        for layer in range(self._layer_of[start] + 1, self._layer_of[end]):
            shared = [n for n in self._below[at] if n >= self._boxes and self._layer_of[n] == layer]
            if not shared:
                self._sizes.append((0.0, 0.0))
                self._layer_of.append(layer)
                self._below.append([])
                self._above.append([])
                shared = [len(self._sizes) - 1]
                self._join(at, shared[0])
            at = shared[0]
            way.append(at)
        if end not in self._below[at]:
            self._join(at, end)
        return [*way, end]

    def _join(self, upper: int, lower: int) -> None:
        self._below[upper].append(lower)
        self._above[lower].append(upper)

    # --- from left to right ---

    def _order(self) -> None:
        best, fewest = [list(layer) for layer in self._layers], self._crossings()
        for sweep in range(_SWEEPS):
            downwards = sweep % 2 == 0
            near = self._above if downwards else self._below
            for layer in self._layers if downwards else reversed(self._layers):
                place = {node: i for each in self._layers for i, node in enumerate(each)}
                middle = {
                    node: sum(place[n] for n in near[node]) / len(near[node]) if near[node] else place[node]
                    for node in layer
                }
                layer.sort(key=middle.__getitem__)  # what is equal stays as it was
            count = self._crossings()
            if count < fewest:
                best, fewest = [list(layer) for layer in self._layers], count
        self._layers = best

    def _crossings(self) -> int:
        """How often lines cross."""
        count = 0
        place = {node: i for layer in self._layers for i, node in enumerate(layer)}
        for layer in self._layers:
            ends = [(place[node], place[below]) for node in layer for below in self._below[node]]
            count += sum((a[0] - b[0]) * (a[1] - b[1]) < 0 for i, a in enumerate(ends) for b in ends[i + 1 :])
        return count

    def _middles(self) -> list[float]:
        """The middle of each node, from left to right."""
        middles = [0.0] * len(self._sizes)
        for layer in self._layers:
            at = 0.0
            for i, node in enumerate(layer):
                at += self._apart(layer[i - 1], node) if i else 0.0
                middles[node] = at
        for sweep in range(_SWEEPS + _LAST_SWEEPS):
            downwards = sweep % 2 == 0
            last = sweep >= _SWEEPS
            for layer in self._layers if downwards else reversed(self._layers):
                wanted, weights = [], []
                for node in layer:
                    near = self._above[node] if downwards else self._below[node]
                    if last:
                        near = [*self._above[node], *self._below[node]]
                    pulls = [self._pull(node, n) for n in near]
                    sums = sum(pull * middles[n] for pull, n in zip(pulls, near, strict=True))
                    wanted.append(sums / sum(pulls) if near else middles[node])
                    weights.append(sum(pulls) or 0.1)
                apart = [self._apart(a, b) for a, b in pairwise(layer)]
                for node, x in zip(layer, _spread(wanted, weights, apart), strict=True):
                    middles[node] = x
        return middles

    def _pull(self, node: int, other: int) -> float:
        """How much a node wants to lie straight above or below another."""
        return _STRAIGHT ** ((node >= self._boxes) + (other >= self._boxes))

    def _apart(self, left: int, right: int) -> float:
        """How far apart the middles of two neighbours in a layer are at least."""
        boxes = (left < self._boxes) + (right < self._boxes)
        between = _BETWEEN_BOXES if boxes == 2 else _BETWEEN_LINES
        return (self._sizes[left][0] + self._sizes[right][0]) / 2 + between

    # --- from top to bottom ---

    def _heights(self) -> tuple[list[float], list[float]]:
        tops: list[float] = []
        bottoms: list[float] = []
        for layer in self._layers:
            tops.append(bottoms[-1] + _BETWEEN_LAYERS if bottoms else 0.0)
            bottoms.append(tops[-1] + max(self._sizes[node][1] for node in layer))
        return tops, bottoms

    def _points(
        self,
        way: Sequence[int],
        middles: Sequence[float],
        corners: Sequence[Point],
        tops: Sequence[float],
        bottoms: Sequence[float],
    ) -> tuple[tuple[Point, Point], ...]:
        start, end = way[0], way[-1]
        left = self._port(start, way[1], self._below[start], middles)
        right = self._port(end, way[-2], self._above[end], middles)
        found = [((left, corners[start][1] + self._sizes[start][1]), (left, bottoms[self._layer_of[start]]))]
        for node in way[1:-1]:
            layer = self._layer_of[node]
            found.append(((middles[node], tops[layer]), (middles[node], bottoms[layer])))
        found.append(((right, tops[self._layer_of[end]]), (right, corners[end][1])))
        return tuple(found)

    def _port(self, node: int, other: int, others: Sequence[int], middles: Sequence[float]) -> float:
        """Where on the edge of a box the line to another begins: they stand in the others' order, and do not cross."""
        width = self._sizes[node][0]
        place = sorted(others, key=middles.__getitem__).index(other)
        return middles[node] - width / 2 + width * (place + 1) / (len(others) + 1)


def _layers(count: int, links: Sequence[tuple[int, int]]) -> list[int]:
    """The layer of each box: below all that lead to it, and what nothing leads to right above what it leads to."""
    below: list[list[int]] = [[] for _ in range(count)]
    waiting = [0] * count
    for start, end in links:
        below[start].append(end)
        waiting[end] += 1
    is_first = [not number for number in waiting]
    layer = [0] * count
    ready = [node for node in range(count) if is_first[node]]
    for node in ready:
        for end in below[node]:
            layer[end] = max(layer[end], layer[node] + 1)
            waiting[end] -= 1
            if not waiting[end]:
                ready.append(end)
    if len(ready) < count:
        raise ValueError("the links go in a circle")
    for node in range(count):
        if is_first[node] and below[node]:
            layer[node] = min(layer[end] for end in below[node]) - 1
    return layer


def _spread(wanted: Sequence[float], weights: Sequence[float], apart: Sequence[float]) -> list[float]:
    """Places in this order, at least so far apart, with the least sum of squared distances from where each is wanted.

    Less the distances before it, each place may be no smaller than the last: neighbours that would be are put together at
    their common mean (pool adjacent violators).
    """
    shifts = [0.0]
    for distance in apart:
        shifts.append(shifts[-1] + distance)
    pools: list[tuple[float, float, int]] = []  # mean, weight, how many
    for x, weight, shift in zip(wanted, weights, shifts, strict=False):
        mean, total, count = x - shift, weight, 1
        while pools and pools[-1][0] > mean:
            other, more, several = pools.pop()
            mean, total, count = (mean * total + other * more) / (total + more), total + more, count + several
        pools.append((mean, total, count))
    flat = [mean for mean, _, count in pools for _ in range(count)]
    return [x + shift for x, shift in zip(flat, shifts, strict=False)]
