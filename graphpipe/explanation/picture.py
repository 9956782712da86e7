"""A picture of a model as SVG: its parts as boxes, what goes between them as rounded ones, arrows downwards.

It is read without colours: every number is written out, and a bar is as long as its share. Light and dark are the reader's
to choose. A graph of many operators would be no picture any more: its box has a line for each kind of them instead.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from graphpipe.drawing import shortened, text
from graphpipe.explanation.boxes import STYLE, Box, Pill, Row, columns
from graphpipe.explanation.explained import Explained, Kind, Part
from graphpipe.explanation.layout import Line, laid_out
from graphpipe.explanation.words import headline, milliseconds, percent, said_of_parts, what_it_is
from graphpipe.words import counted

__all__ = ["svg"]

_MARGIN, _TOP, _HEAD = 24, 32, 18
_WIDTH_MIN = 520
# More operators than this, more stages, or more values, are summed up.
_OPERATORS_MAX, _STAGES_MAX, _VALUES_MAX = 24, 60, 200
# Of more inputs or outputs of what is summed up, the first ones are shown.
_ENDS_MAX = 24
_ROWS_MAX = 12


def svg(found: Explained) -> str:
    """The picture."""
    boxes, links = _drawn_parts(found) if _is_drawn(found) else _summed_up(found)
    layout = laid_out([box.size for box in boxes], links)
    asked = f"asked: {found.asked}" if found.asked else ""
    heads = [found.name or "(no name)", *filter(None, (headline(found), said_of_parts(found), asked))]
    top = _TOP + _HEAD * len(heads)
    wide = max(columns(heads[0], 17, bold=True), *(columns(shortened(head, 100)) for head in heads[1:]))
    inner = max(layout.width, wide, _WIDTH_MIN)
    width, height = inner + 2 * _MARGIN, layout.height + top + _MARGIN
    left = _MARGIN + (inner - layout.width) / 2
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
        f'viewBox="0 0 {width:.0f} {height:.0f}" font-family="system-ui, Helvetica, Arial, sans-serif" font-size="13" '
        'role="img">',
        f"<style>{STYLE}</style>",
        f'<rect class="page" width="{width:.0f}" height="{height:.0f}"/>',
        text(_MARGIN, 30, shortened(heads[0], 80), size=16, weight="bold"),
        *(text(_MARGIN, 50 + _HEAD * i, shortened(head, 100), style="soft") for i, head in enumerate(heads[1:])),
        f'<g transform="translate({left:.1f} {top})">',
    ]
    parts += [_arrow(line, isinstance(boxes[line.end], Box)) for line in layout.lines]
    for box, (x, y) in zip(boxes, layout.corners, strict=True):
        parts += box.drawn(x, y)
    return "\n".join([*parts, "</g>", "</svg>", ""])


def _is_drawn(found: Explained) -> bool:
    most = _STAGES_MAX if found.made_of == "stages" else _OPERATORS_MAX
    return found.is_linked and 0 < len(found.parts) <= most and len(found.values) <= _VALUES_MAX


Links = list[tuple[int, int]]


def _drawn_parts(found: Explained) -> tuple[list[Box | Pill], Links]:
    """A box for each part and each value, and what leads to what."""
    boxes: list[Box | Pill] = []
    links: Links = []
    place: dict[int, int] = {}
    used = {value for part in found.parts for _, value in (*part.takes, *part.gives)}
    used |= {*found.inputs, *found.outputs}
    for number in sorted(used):
        place[number] = len(boxes)
        boxes.append(_pill(found, number))
    for part in found.parts:
        here = len(boxes)
        boxes.append(_box(found, part))
        links += [(place[value], here) for value in dict.fromkeys(value for _, value in part.takes)]
        links += [(here, place[value]) for value in dict.fromkeys(value for _, value in part.gives)]
    return boxes, links


def _pill(found: Explained, number: int) -> Pill:
    value = found.values[number]
    is_input, is_output = number in found.inputs, number in found.outputs
    role = "input and output" if is_input and is_output else "input" if is_input else "output" if is_output else ""
    hint = f"{value.name}: declared {value.declared or 'nowhere'}, seen as {value.seen or 'nothing'}"
    # What a tool called a value inside of a graph says nothing.
    name = value.name if role or found.made_of == "stages" else ""
    return Pill(role, name, value.text, hint)


def _box(found: Explained, part: Part) -> Box:
    renamed = [
        f"{found.values[value].name} as {own}" for own, value in part.takes if found.values[value].name != own
    ] + [f"{own} as {found.values[value].name}" for own, value in part.gives if found.values[value].name != own]
    share = found.share(part.seconds)
    time = "" if part.seconds is None else milliseconds(part.seconds)
    if found.made_of == "operators":
        return Box(part.kind, "", time, share, hint=f"{part.name}, {percent(share)} of all operators")
    what = what_it_is(part.kind, part.runtime)
    return Box(part.name, what, time, share, percent(share) if share is not None else "", renamed, hint=part.name)


def _summed_up(found: Explained) -> tuple[list[Box | Pill], Links]:
    """One box for the whole, between its inputs and its outputs."""
    time = "" if found.seconds is None else milliseconds(found.seconds)
    rows = list(_rows(found)) if found.made_of == "operators" else [_of_stage(found, part) for part in found.parts]
    centre = Box(found.name or "model", what_it_is(found.kind, found.runtime), time, rows=rows)
    inputs, outputs = _pills(found, found.inputs, "input"), _pills(found, found.outputs, "output")
    boxes: list[Box | Pill] = [*inputs, centre, *outputs]
    here = len(inputs)
    return boxes, [(i, here) for i in range(here)] + [(here, here + 1 + i) for i in range(len(outputs))]


def _pills(found: Explained, places: Sequence[int], what: str) -> list[Pill]:
    shown = [_pill(found, place) for place in places[:_ENDS_MAX]]
    rest = len(places) - len(shown)
    return [*shown, Pill("", f"and {counted(rest, f'more {what}')}", "")] if rest else shown


def _rows(found: Explained) -> Iterator[Row]:
    kinds = [kind for kind in found.kinds() if kind.run]
    shown, rest = (kinds, []) if len(kinds) <= _ROWS_MAX else (kinds[: _ROWS_MAX - 1], kinds[_ROWS_MAX - 1 :])
    for kind in shown:
        yield _row(found, f"{kind.run} {kind.name}", [kind])
    if rest:
        yield _row(found, f"{sum(kind.run for kind in rest)} of {counted(len(rest), 'other kind')}", rest)


def _of_stage(found: Explained, part: Part) -> Row:
    amount = "" if part.seconds is None else f"{milliseconds(part.seconds)}, {percent(found.share(part.seconds))}"
    return Row(part.name, amount, found.share(part.seconds))


def _row(found: Explained, label: str, kinds: Sequence[Kind]) -> Row:
    times = [kind.seconds for kind in kinds if kind.seconds is not None]
    if not times:
        return Row(label, "", None)
    share = found.share(sum(times))
    return Row(label, f"{milliseconds(sum(times))}, {percent(share)}", share)


def _arrow(line: Line, has_tip: bool) -> str:
    """A line as a path: straight through layers, and curved from one to the next."""
    (x, y), end = line.points[0]
    way = [f"M{x:.1f} {y:.1f}V{end[1]:.1f}"]
    for start, stop in line.points[1:]:
        middle = (end[1] + start[1]) / 2
        way.append(f"C{end[0]:.1f} {middle:.1f} {start[0]:.1f} {middle:.1f} {start[0]:.1f} {start[1]:.1f}")
        way.append(f"V{stop[1]:.1f}")
        end = stop
    path = f'<path class="line" d="{"".join(way)}"/>'
    if not has_tip:
        return path
    x, y = end
    return f'{path}<path class="tip" d="M{x:.1f} {y:.1f}l-4 -8h8z"/>'
