"""What somebody else says, fit for a message, a log or a terminal of ours."""

from __future__ import annotations

__all__ = ["WORDS_MAX", "first_line", "visible"]

WORDS_MAX = 300


def first_line(error: BaseException) -> str:
    """What an exception says, in one line that fits into a message."""
    try:
        lines = str(error).strip().splitlines()
    except BaseException:  # its words cannot be had
        lines = []
    return lines[0][:WORDS_MAX] if lines else type(error).__name__


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
