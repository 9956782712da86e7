"""What a picture of a model is made of: a box for a part, a rounded one for a value. Each knows how large it is."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

from graphpipe.drawing import shortened, text
from graphpipe.words import visible

__all__ = ["STYLE", "Box", "Pill", "Row", "columns"]

STYLE = """\
text { fill: #1f2328; } .soft { fill: #59636e; } .page { fill: #ffffff; } .box { fill: #f6f8fa; stroke: #818b98; }
.pill { fill: #ffffff; stroke: #d1d9e0; } .end { fill: #ffffff; stroke: #1f2328; stroke-width: 1.5; }
.line { stroke: #818b98; fill: none; stroke-width: 1.3; } .tip { fill: #818b98; }
.track { fill: #d1d9e0; } .mark { fill: #1f5fa8; }
@media (prefers-color-scheme: dark) {
  text { fill: #f0f6fc; } .soft { fill: #a5adb7; } .page { fill: #0d1117; } .box { fill: #161b22; stroke: #656c76; }
  .pill { fill: #0d1117; stroke: #3d444d; } .end { fill: #0d1117; stroke: #f0f6fc; }
  .line { stroke: #656c76; } .tip { fill: #656c76; } .track { fill: #3d444d; } .mark { fill: #79b8ff; }
}"""

_SIZE, _SMALL = 13, 12
_SOFT, _QUOTED_SMALL = '"soft"', f'"{_SMALL}"'
_PAD, _LINE = 12.0, 18.0
_BAR = 5.0
_LETTERS_MAX, _LABEL_LETTERS_MAX = 48, 28
_BOX_WIDTH_MIN = 150.0
# How wide letters are at most, in parts of their height: the widest of the fonts that a page is likely to have.
_NARROW, _WIDE = frozenset("iljtfrI.,:;'|![](){}/ -"), frozenset("mwMWQO@%")


def columns(words: str, size: int = _SIZE, *, bold: bool = False) -> float:
    """How wide words are at most, in units of the picture."""
    total = 0.0
    for char in words:
        if unicodedata.east_asian_width(char) in "WF":
            total += 1.05
        else:
            total += 0.4 if char in _NARROW else 0.98 if char in _WIDE else 0.72 if char.isupper() else 0.64
    return total * size * (1.1 if bold else 1.0)


@dataclass(frozen=True, slots=True)
class Row:
    """A line of a box with a bar: words, how much of the whole it is (0 to 1, or None), and that in words."""

    label: str
    amount: str
    share: float | None


@dataclass(frozen=True, slots=True)
class Pill:
    """A value: what it is to the whole ("input", "output", or nothing), its name and its type."""

    role: str
    name: str
    type: str
    hint: str = ""

    @property
    def size(self) -> tuple[float, float]:
        """Width and height."""
        return sum(width for _, _, width in self._words()) + 2 * _PAD - 6, 24.0

    def _words(self) -> Iterator[tuple[str, bool, float]]:
        for words, is_name in ((self.role, False), (self.name, True), (self.type, False)):
            if words:
                short = _short(words)
                yield short, is_name, columns(short, _SIZE if is_name else _SMALL) + 6

    def drawn(self, left: float, top: float) -> Iterator[str]:
        """It, with its left upper corner there."""
        width, height = self.size
        style = "end" if self.role else "pill"
        yield "<g>"
        if self.hint:
            yield _title(self.hint)
        yield f'<rect class="{style}" x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" height="{height}" rx="12"/>'
        spans = [
            f"<tspan{_gap(i)}{'' if is_name else f' class={_SOFT} font-size={_QUOTED_SMALL}'}>{escape(words)}</tspan>"
            for i, (words, is_name, _) in enumerate(self._words())
        ]
        yield f'<text x="{left + width / 2:.1f}" y="{top + 16.5:.1f}" text-anchor="middle">{"".join(spans)}</text>'
        yield "</g>"


@dataclass(frozen=True, slots=True)
class Box:
    """A part: its name and what it is, its time and share of the whole, words below, and rows with bars."""

    name: str
    kind: str
    time: str = ""
    share: float | None = None
    share_text: str = ""
    words: Sequence[str] = ()
    rows: Sequence[Row] = ()
    hint: str = ""

    @property
    def size(self) -> tuple[float, float]:
        """Width and height."""
        name, kind, words, rows = self._shown()
        widths = [
            columns(name, _SIZE, bold=True) + self._beside(self.time),
            columns(kind, _SMALL) + self._beside(self.share_text),
            *(columns(line, _SMALL) for line in words),
            *(columns(row.label, _SMALL) + columns(row.amount, _SMALL) + 110 for row in rows),
        ]
        width = max(_BOX_WIDTH_MIN, max(widths) + 2 * _PAD)
        bar = _BAR + 7 if self.share is not None else 0
        return width, 16 + _LINE * ((1 + bool(kind)) + len(words) + len(rows)) + bar

    def _shown(self) -> tuple[str, str, list[str], list[Row]]:
        return (
            _short(self.name),
            _short(self.kind),
            [_short(line) for line in self.words],
            [Row(_short(row.label, _LABEL_LETTERS_MAX), row.amount, row.share) for row in self.rows],
        )

    def _beside(self, words: str) -> float:
        return columns(words, _SIZE) + 24 if words else 0.0

    def drawn(self, left: float, top: float) -> Iterator[str]:
        """It, with its left upper corner there."""
        width, height = self.size
        name, kind, words, rows = self._shown()
        right = left + width - _PAD
        yield "<g>"
        if self.hint:
            yield _title(self.hint)
        yield f'<rect class="box" x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" height="{height:.1f}" rx="4"/>'
        y = top + 20
        yield text(left + _PAD, y, name, weight="bold")
        if self.time:
            yield text(right, y, self.time, anchor="end")
        if kind:
            y += _LINE
            yield text(left + _PAD, y, kind, size=_SMALL, style="soft")
            if self.share_text:
                yield text(right, y, self.share_text, anchor="end", size=_SMALL, style="soft")
        for line in words:
            y += _LINE
            yield text(left + _PAD, y, line, size=_SMALL, style="soft")
        labels = max((columns(row.label, _SMALL) for row in rows), default=0.0)
        amounts = max((columns(row.amount, _SMALL) for row in rows), default=0.0)
        for row in rows:
            y += _LINE
            yield text(left + _PAD, y, row.label, size=_SMALL)
            yield text(right, y, row.amount, anchor="end", size=_SMALL, style="soft")
            if row.share is not None:
                start = left + _PAD + labels + 10
                yield from _bar(start, y - 8, right - amounts - 10 - start, 8, row.share)
        if self.share is not None:
            yield from _bar(left + _PAD, y + 9, width - 2 * _PAD, _BAR, self.share)
        yield "</g>"


def _short(words: str, letters: int = _LETTERS_MAX) -> str:
    """As they will be seen, since that is what takes room."""
    return shortened(visible(words), letters)


def _bar(left: float, top: float, width: float, height: float, share: float) -> Iterator[str]:
    yield f'<rect class="track" x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" height="{height}"/>'
    full = min(1.0, max(0.0, share)) * width
    yield f'<rect class="mark" x="{left:.1f}" y="{top:.1f}" width="{full:.1f}" height="{height}"/>'


def _title(words: str) -> str:
    """What is shown where somebody points."""
    return f"<title>{escape(visible(words))}</title>"


def _gap(place: int) -> str:
    """What is between the words of a line."""
    return ' dx="6"' if place else ""
