"""Objects of JSON, whose names JSON lets stand twice."""

from __future__ import annotations

from typing import Any

from graphpipe.words import quoted

__all__ = ["each_once"]


def each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object's pairs as a dict: for ``object_pairs_hook``, where the first of two values must not be lost.

    Raises ValueError for a name that is there twice.
    """
    made: dict[str, Any] = {}
    for name, value in pairs:
        if name in made:
            raise ValueError(f"{quoted(name)} is there twice in one object")
        made[name] = value
    return made
