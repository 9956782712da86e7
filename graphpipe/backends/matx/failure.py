"""What MATXScript says when something goes wrong: one line with the place in the Python that was scripted, out of pages of
C++ frames.
"""

from __future__ import annotations

import re
from itertools import islice
from pathlib import Path

from graphpipe.words import first_line

__all__ = ["what_it_says"]

_WORDS_MAX = 500
_CHECKED = re.compile(r"(?:\[\d\d:\d\d:\d\d\] \S+:\d+: )?Check failed: .+?: (?=\S)")
_FRAME = re.compile(r'\s*File "(.*)", line (\d+)(?:, in.*)?$')
_COMPILED = re.compile(r"\s*at .*/(lib[\w.-]+_plugin_\w+\.cc):(\d{1,9})$")
# Behind each line of C++ stands the one of Python that it was made from.
_ORIGIN = re.compile(r"// (\S.*):(\d+)$")


def what_it_says(error: BaseException, folder: Path) -> str:
    """The words that matter of an error, fit for a log; ``folder`` has the module."""
    before, _, stack = str(error).partition("Stack trace:\n")
    lines = [line for line in before.splitlines() if line.strip() and not line.startswith("Traceback")]
    said = [
        line for line in lines if not _FRAME.match(line) and not line.startswith(("  ", "File ", "MATXError: File"))
    ]
    if not said:
        return first_line(error)
    words = _CHECKED.sub("", said[-1]).removeprefix("MATXError: ")[:_WORDS_MAX]
    place = _place_in_python(lines) or _place_behind(stack, folder)
    return f"{words} ({place})" if place else words


def _place_in_python(lines: list[str]) -> str:
    for line in reversed(lines):
        match = _FRAME.match(line)
        if match and match[1].endswith(".py"):
            return _shown(match[1], match[2])
    return ""


def _place_behind(stack: str, folder: Path) -> str:
    """The line of Python behind the innermost frame of compiled code: the C++ is kept beside its library."""
    match = next(filter(None, map(_COMPILED.match, stack.splitlines())), None)
    file = next(folder.glob(f"*/{match[1]}"), None) if match else None
    if match is None or file is None:
        return ""
    try:
        with file.open(encoding="utf-8", errors="replace") as opened:
            line = next(islice(opened, max(int(match[2]) - 1, 0), None), "")
    except OSError:
        return ""
    origin = _ORIGIN.search(line)
    return _shown(origin[1], origin[2]) if origin else ""


def _shown(file: str, line: str) -> str:
    return f"{Path(file).name}, line {line}"
