"""Where in the user's code something happens: ``app.py:12``."""

from __future__ import annotations

import inspect
import sys
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from graphpipe.backends.failure import is_the_users

__all__ = ["defined_at", "here"]

_OURS = str(Path(__file__).parent.parent)


def here() -> str:
    """The line of the user's own code that is being run in this thread; empty where there is none."""
    frame: FrameType | None = sys._getframe(1)
    outside = ""  # a prompt, say, whose lines are in no file
    while frame is not None:
        file = frame.f_code.co_filename
        if is_the_users(file):
            return f"{file}:{frame.f_lineno}"
        if not outside and not file.startswith((_OURS, "<frozen")):
            outside = f"{file}:{frame.f_lineno}"
        frame = frame.f_back
    return outside


def defined_at(function: Any) -> str:
    """Where a function begins; empty where nobody knows."""
    plain = inspect.unwrap(function)
    code = getattr(plain, "__code__", None) or getattr(type(plain).__call__, "__code__", None)
    return f"{code.co_filename}:{code.co_firstlineno}" if isinstance(code, CodeType) else ""
