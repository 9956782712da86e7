"""What pictures in SVG are made of: text, and the numbers along a logarithmic scale."""

from __future__ import annotations

import math
from xml.sax.saxutils import escape

from graphpipe.words import visible

__all__ = ["number", "shortened", "text", "ticks"]


def text(
    x: float, y: float, words: str, *, anchor: str = "start", size: int = 0, weight: str = "", fill: str = "",
    turned: bool = False, halo: str = "", style: str = "",
) -> str:  # fmt: skip
    """Words at a place, safe for XML and for eyes. ``halo`` is a colour around the letters; ``turned`` goes upwards.

    ``style`` is a class of the picture's own style sheet.
    """
    more = f' class="{style}"' if style else ""
    more += f' text-anchor="{anchor}"' if anchor != "start" else ""
    more += f' font-size="{size}"' if size else ""
    more += f' font-weight="{weight}"' if weight else ""
    more += f' fill="{fill}"' if fill else ""
    more += f' transform="rotate(-90 {x:.1f} {y:.1f})"' if turned else ""
    more += f' stroke="{halo}" stroke-width="4" paint-order="stroke" stroke-linejoin="round"' if halo else ""
    return f'<text x="{x:.1f}" y="{y:.1f}"{more}>{escape(visible(words))}</text>'


def ticks(low: float, high: float, most: int = 14) -> list[float]:
    """Round numbers from ``low`` to ``high``, both positive, at most so many, for a logarithmic scale."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    span = math.log10(high / low)
    steps = (
        (1, 2, 5) if span > 1.2 else (1, 1.5, 2, 3, 4, 5, 6, 8) if span > 0.4 else tuple(n / 10 for n in range(10, 100))
    )
    found = [step * 10.0**decade for decade in decades for step in steps]
    inside = [value for value in found if low <= value <= high]
    return inside[:: max(1, math.ceil(len(inside) / most))]


def shortened(words: str, letters: int) -> str:
    """Words that fit into so many letters."""
    return words if len(words) <= letters else f"{words[: letters - 3]}..."


def number(value: float) -> str:
    """A number with as many digits as anybody reads."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
