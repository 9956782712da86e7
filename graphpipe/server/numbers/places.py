"""Kinds and places of a failure, for the log: all that can be told without telling what it was about."""

from __future__ import annotations

import traceback

from graphpipe.errors import chain_of
from graphpipe.words import visible

__all__ = ["places", "told"]


def places(error: BaseException) -> str:
    """Kinds and places of a failure, and of what led to it. No words."""
    try:
        return "\n".join(told(each, "") for each in chain_of(error))
    except BaseException as failed:
        return f"{type(error).__name__}, of which nothing can be told: {type(failed).__name__} is raised"


def told(error: BaseException, words: str) -> str:
    """One failure: where it was raised, its kind, and these words of it."""
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    lines = "".join(traceback.format_tb(error.__traceback__)).rstrip()
    what = f"{name}: {visible(words)}".rstrip(": ")
    return "\n".join(filter(None, ["Traceback (most recent call last):", lines, what]))
