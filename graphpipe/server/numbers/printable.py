"""Text from outside as one line, in which nothing is left that a terminal or a log's reader would take for more."""

from __future__ import annotations

__all__ = ["printable", "printable_lines"]


def printable(text: str) -> str:
    """The text with line breaks, control characters and whatever else cannot be seen written as in a Python string."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def printable_lines(text: str) -> str:
    """The same for text whose line breaks are ours: tracebacks."""
    return "\n".join(map(printable, text.split("\n")))
