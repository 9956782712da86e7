"""The path of a request's target, as segments: dots resolved, escapes read, nothing else changed.

RFC 3986 (5.2.4) and the WHATWG's URLs agree on dots, percent-encoded ones included. Empty segments stay: ``//x`` is not
``/x``. An escaped slash is no separator.
"""

from __future__ import annotations

import re
from urllib.parse import unquote

__all__ = ["path_of", "segments"]

_ABSOLUTE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^/?#]*")
_DOT = frozenset((".", "%2e"))
_DOTS = frozenset(("..", ".%2e", "%2e.", "%2e%2e"))


def path_of(target: str) -> str:
    """The path of a request's target, still escaped: of ``/x?q``, or of ``http://host``, whose path is ``/``.

    ``*`` and whatever else is no path stay as they are.
    """
    absolute = _ABSOLUTE.match(target)
    if absolute is not None:
        target = target[absolute.end() :]
        target = target if target.startswith("/") else f"/{target}"
    return target.partition("#")[0].partition("?")[0]


def segments(path: str) -> tuple[str, ...]:
    """The segments of an escaped path that begins with a slash: ``/`` is one empty one."""
    kept: list[str] = []
    parts = path.split("/")[1:]
    for at, part in enumerate(parts):
        lower = part.lower()
        if lower in _DOTS:
            del kept[-1:]
        elif lower not in _DOT:
            kept.append(unquote(part) if "%" in part else part)
            continue
        if at == len(parts) - 1:  # what ends in dots is a folder
            kept.append("")
    return tuple(kept)
