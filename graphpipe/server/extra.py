"""What the server extra brings: a client does without it, whoever serves says so in one line."""

from importlib.util import find_spec

__all__ = ["SERVER_MODULES", "lacking"]

# As they are imported.
SERVER_MODULES = ("aiohttp", "blake3", "lmdb", "uvloop")


def lacking(what: str) -> str:
    """How to install what ``what`` needs; empty where it is all there."""
    if all(find_spec(name) is not None for name in SERVER_MODULES):
        return ""
    return f"{what} needs the server extra: pip install 'graphpipe-rpc[server]'"
