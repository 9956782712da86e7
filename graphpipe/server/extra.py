"""What the extra ``server`` brings, and the words for where it is missing."""

from __future__ import annotations

from importlib.util import find_spec

from graphpipe.errors import GraphPipeError

__all__ = ["SERVER_MODULES", "NeedsExtra", "require_extra"]

# As they are imported.
SERVER_MODULES = ("aiohttp", "blake3", "lmdb", "uvloop")


class NeedsExtra(GraphPipeError, ImportError):
    """What was asked for needs more than the base install; the message says what to install."""


def require_extra(who: str) -> None:
    """Raise NeedsExtra unless the modules that serving takes are installed."""
    if any(find_spec(name) is None for name in SERVER_MODULES):
        raise NeedsExtra(f"{who} needs the server extra: pip install 'graphpipe-rpc[server]'")
