"""What somebody else's exception says, fit for a message of ours."""

from __future__ import annotations

__all__ = ["WORDS_MAX", "first_line"]

WORDS_MAX = 300


def first_line(error: BaseException) -> str:
    """What an exception says, in one line that fits into a message."""
    try:
        lines = str(error).strip().splitlines()
    except BaseException:  # its words cannot be had
        lines = []
    return lines[0][:WORDS_MAX] if lines else type(error).__name__
