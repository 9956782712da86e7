"""A server is a model behind HTTP. ``serve`` starts one from Python; ``cli`` is the same on the command line."""

from __future__ import annotations

from graphpipe.server.serving import serve

__all__ = ["serve"]
