"""Whoever is asked, as those who measure see him."""

from __future__ import annotations

from typing import Protocol

from graphpipe.bench.load import Load
from graphpipe.bench.requests import Request
from graphpipe.bench.tally import Tally

__all__ = ["Callee"]


class Callee(Protocol):
    """A model behind a server or in this process, and what it is asked. ``tally`` is of all that came back so far."""

    tally: Tally
    title: str
    request: Request
    request_bytes: int
    # Whether what this process computes is the asking alone.
    is_elsewhere: bool

    async def begin(self, load: Load) -> None:
        """Have it asked, from now on until ``end``."""

    async def end(self) -> None:
        """Ask no more, and wait for the answers that are due."""

    def waiting(self) -> int:
        """How many requests are due that have no answer yet."""
        ...

    async def close(self) -> None:
        """Give back what it holds."""
