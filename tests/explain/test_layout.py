"""Where boxes lie and lines run, for graphs of any shape."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphpipe.explanation.layout import laid_out

sizes = st.tuples(st.integers(20, 400), st.integers(10, 300))


@st.composite
def graphs(draw):
    boxes = draw(st.lists(sizes, min_size=1, max_size=14))
    pairs = list(itertools.combinations(range(len(boxes)), 2))
    links = draw(st.lists(st.sampled_from(pairs), unique=True, max_size=24)) if pairs else []
    order = draw(st.permutations(range(len(boxes))))
    return boxes, [(order[a], order[b]) for a, b in links]


def curve(a, b, steps=24):
    """Points of the curve that is drawn from the end of one straight stretch to the begin of the next."""
    (x0, y0), (x1, y1) = a, b
    middle = (y0 + y1) / 2
    for i in range(steps + 1):
        t = i / steps
        weights = ((1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t * t * (1 - t), t**3)
        yield (
            sum(w * x for w, x in zip(weights, (x0, x0, x1, x1), strict=True)),
            sum(w * y for w, y in zip(weights, (y0, middle, middle, y1), strict=True)),
        )


def points(line):
    """Where a line passes, densely."""
    for i, (begin, end) in enumerate(line.points):
        yield from (
            (begin[0] + (end[0] - begin[0]) * k / 20, begin[1] + (end[1] - begin[1]) * k / 20) for k in range(21)
        )
        if i + 1 < len(line.points):
            yield from curve(end, line.points[i + 1][0])


@settings(max_examples=150, deadline=None)
@given(graphs())
def test_no_box_lies_on_another_and_no_line_runs_through_one(graph):
    boxes, links = graph
    layout = laid_out(boxes, links)
    areas = [(x, y, x + w, y + h) for (x, y), (w, h) in zip(layout.corners, boxes, strict=True)]
    for left, top, right, bottom in areas:
        assert -1e-6 <= left < right <= layout.width + 1e-6
        assert -1e-6 <= top < bottom <= layout.height + 1e-6
    for a, b in itertools.combinations(areas, 2):
        assert a[2] < b[0] or b[2] < a[0] or a[3] < b[1] or b[3] < a[1], (a, b)
    assert [(line.start, line.end) for line in layout.lines] == links
    for line in layout.lines:
        others = [area for i, area in enumerate(areas) if i not in (line.start, line.end)]
        for x, y in points(line):
            assert 0 <= x <= layout.width
            assert not any(l < x < r and t < y < b for l, t, r, b in others)  # noqa: E741


@settings(max_examples=50, deadline=None)
@given(graphs())
def test_lines_go_down_from_one_box_to_the_other(graph):
    boxes, links = graph
    layout = laid_out(boxes, links)
    for line in layout.lines:
        heights = [y for pair in line.points for _, y in pair]
        assert heights == sorted(heights)
        (x, y), (last_x, last_y) = line.points[0][0], line.points[-1][1]
        left, top = layout.corners[line.start]
        assert left < x < left + boxes[line.start][0]
        assert y == pytest.approx(top + boxes[line.start][1])
        left, top = layout.corners[line.end]
        assert left < last_x < left + boxes[line.end][0]
        assert last_y == pytest.approx(top)


def test_what_need_not_cross_does_not():
    """Three chains side by side, given in an order that mixes them up."""
    links = [(0, 5), (1, 4), (2, 3), (3, 7), (4, 6), (5, 8)]
    layout = laid_out([(50, 20)] * 9, links)
    middle = [x for x, _ in layout.corners]
    chains = [sorted((middle[a], middle[b], middle[c])) for a, b, c in ((0, 5, 8), (1, 4, 6), (2, 3, 7))]
    for low, _, high in chains:
        assert high - low < 1e-6  # straight down


def test_an_input_lies_right_above_what_takes_it():
    layout = laid_out([(50, 20)] * 4, [(0, 1), (1, 2), (3, 2)])
    assert layout.corners[3][1] == layout.corners[1][1]


def test_equal_graphs_are_laid_out_equally():
    graph = [(40, 20), (60, 30), (50, 20), (90, 10)], [(0, 1), (0, 2), (1, 3), (2, 3)]
    assert laid_out(*graph) == laid_out(*graph)


def test_a_circle_is_refused():
    with pytest.raises(ValueError, match="circle"):
        laid_out([(10, 10)] * 3, [(0, 1), (1, 2), (2, 1)])


def test_no_boxes_are_no_picture():
    assert laid_out([], []).corners == ()
