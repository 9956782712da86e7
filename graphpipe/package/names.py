"""What a file in a package may be called: the same file on every machine, inside the package, and no other's neighbour.

A name is a path below the package's root with ``/`` between its parts. What one system would read otherwise than
another is refused: letters that differ in their case alone, a backslash, a colon, what does not show.
"""

from __future__ import annotations

from collections.abc import Iterable

from graphpipe.words import quoted, visible

__all__ = ["MANIFEST", "NAME_BYTES_MAX", "is_beneath", "why_no_name", "why_not_together"]

MANIFEST = "graphpipe.json"

NAME_BYTES_MAX = 1024
_PART_BYTES_MAX = 255
_DEPTH_MAX = 64
# Ends of a part that Windows drops, so that two names become one there.
_DROPPED = (" ", ".")


def why_no_name(name: str) -> str:
    """Why a file in a package cannot have this name; empty if it can."""
    shown = visible(quoted(name))
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        return f"{shown} has no form in UTF-8"
    parts = name.split("/")
    if not name.isprintable() or "\\" in name or ":" in name:
        return f"{shown} has a backslash, a colon or a character that does not show"
    if size > NAME_BYTES_MAX or any(len(part.encode()) > _PART_BYTES_MAX for part in parts) or len(parts) > _DEPTH_MAX:
        return f"{shown} is too long"
    if name.startswith("/") or ".." in parts:
        return f"{shown} leads out of the package"
    if any(part in ("", ".") or part.endswith(_DROPPED) for part in parts):
        return f"{shown} has a part that is empty, or ends in a point or a space"
    return ""


def why_not_together(names: Iterable[str]) -> str:
    """Why files of these names cannot lie in one folder everywhere; empty if they can."""
    files: dict[str, str] = {}
    folders: dict[str, str] = {}
    for name in (*names, MANIFEST):
        key = name.casefold()
        if key in files:
            return f"{quoted(files[key])} and {quoted(name)} are one name where case does not count"
        files[key] = name
        parts = name.split("/")
        for length in range(1, len(parts)):
            folder = "/".join(parts[:length])
            if folders.setdefault(folder.casefold(), folder) != folder:
                other = folders[folder.casefold()]
                return f"{quoted(other)} and {quoted(folder)} are one name where case does not count"
    for key in files.keys() & folders.keys():
        return f"{quoted(files[key])} is a file and a folder"
    return ""


def is_beneath(name: str, names: Iterable[str]) -> bool:
    """Whether a name is one of these files, or a folder that holds some of them."""
    return any(each == name or each.startswith(f"{name}/") for each in names)
