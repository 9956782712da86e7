"""The words and numbers that the table and the picture have in common."""

from __future__ import annotations

from graphpipe.explanation.explained import Explained
from graphpipe.table import cell
from graphpipe.words import counted

__all__ = ["headline", "milliseconds", "percent", "said_of_parts", "what_it_is"]


def milliseconds(seconds: float) -> str:
    """A time, with as many digits as mean anything."""
    return f"{cell(1000 * seconds)} ms"


def percent(share: float | None) -> str:
    """A share of 0 to 1 in whole percent."""
    if share is None:
        return "-"
    return "< 1 %" if 0 < share < 0.005 else f"{100 * share:.0f} %"


def what_it_is(kind: str, runtime: str) -> str:
    """What a model is, and what runs it."""
    return f"{kind}, {runtime}" if runtime else kind


def headline(found: Explained) -> str:
    """What it is, and how long a call takes."""
    what = what_it_is(found.kind, found.runtime)
    if found.seconds is None:
        return f"{what}; not measured"
    calls = "1 call" if found.runs == 1 else f"the median of {found.runs:,} calls"
    return f"{what}; {milliseconds(found.seconds)}, {calls}"


def said_of_parts(found: Explained) -> str:
    """How many parts there are, and how long they take together; empty for a model that has none."""
    if not found.parts:
        return ""
    together = found.parts_seconds
    time = f", {milliseconds(together)}" if together else ""
    if found.made_of == "stages":
        return f"{counted(len(found.parts), 'stage')}{f'{time} one after the other' if time else ''}"
    time = f"{time} together" if time else ""
    kinds = len({part.kind for part in found.parts})
    words = f"{counted(len(found.parts), 'operator')} of {counted(kinds, 'kind')} run{time}"
    if found.written is not None and sum(found.written.values()) != len(found.parts):
        words += f"; {sum(found.written.values()):,} in the file"
    return words
