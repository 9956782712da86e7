"""What an answer's message has no place for: names that nobody asked for, and which outputs are bool.

Answers repeat themselves, so both sides remember what they wrote and read.
"""

from __future__ import annotations

import functools
import json

__all__ = ["notes_from_bytes", "notes_to_bytes"]


@functools.lru_cache(maxsize=64)
def notes_to_bytes(names: tuple[str, ...], bools: tuple[int, ...]) -> bytes:
    """As they travel: the names of outputs for which none were asked, and the places of those that are bool."""
    return json.dumps([names, bools]).encode()


def notes_from_bytes(text: bytes) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """The reverse. Raises ValueError or TypeError for what is none."""
    return _short(text) if len(text) < 1024 else _read(text)


def _read(text: bytes) -> tuple[tuple[str, ...], tuple[int, ...]]:
    names, bools = json.loads(text)
    return tuple(map(str, names)), tuple(map(int, bools))


_short = functools.lru_cache(maxsize=64)(_read)
