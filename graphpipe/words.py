"""What somebody else says, an exception or a caller, fit for a message, a log or a terminal of ours."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Sequence

__all__ = ["WORDS_MAX", "counted", "first_line", "listed", "nearest", "quoted", "visible"]

WORDS_MAX = 300
# Enough of a name, and of a list of names, for a message.
_NAME_SHOWN_MAX = 100
_NAMES_SHOWN_MAX = 10
# To compare a name with more than so many would take long.
_COMPARED_MAX = 1000


def counted(count: int, noun: str) -> str:
    """How many of a thing there are: ``1 byte``, ``2 bytes``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def first_line(error: BaseException) -> str:
    """What an exception says, in one line that fits into a message."""
    try:
        lines = str(error).strip().splitlines()
    except BaseException:  # its words cannot be had
        lines = []
    return lines[0][:WORDS_MAX] if lines else type(error).__name__


def quoted(name: str) -> str:
    """A name that a caller chose, which may be very long, in quotes."""
    return repr(name) if len(name) <= _NAME_SHOWN_MAX else f"{name[:_NAME_SHOWN_MAX]!r}..."


def listed(names: Sequence[str]) -> str:
    """Some names in quotes, which may be very many."""
    more = f" and {len(names) - _NAMES_SHOWN_MAX} more" if len(names) > _NAMES_SHOWN_MAX else ""
    return ", ".join(map(quoted, names[:_NAMES_SHOWN_MAX])) + more


def nearest(name: str, known: Collection[str]) -> str:
    """A question that names the one of the known names that was probably meant; empty if none looks alike."""
    if len(name) > _NAME_SHOWN_MAX or len(known) > _COMPARED_MAX:
        return ""
    near = difflib.get_close_matches(name, list(known), 1)
    return f"; did you mean {near[0]!r}?" if near else ""


def visible(text: str, also: str = "") -> str:
    r"""The text, with what a terminal would obey or not show written as an escape: ``\x1b``, ``\u202e``.

    Ends of lines are such characters too, unless they are among ``also``.
    """
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() or char in also else char.encode("unicode_escape", "surrogatepass").decode()
        for char in text
    )
