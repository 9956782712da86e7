"""Callers of aiohttp's way who do not read their answers: aiohttp would wait for them for ever."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from dataclasses import dataclass

from graphpipe.server.settings.values import PROGRESS_BYTES_PER_S

__all__ = ["Readers"]

log = logging.getLogger("graphpipe.front")


@dataclass(slots=True)
class _Reader:
    since_s: float
    unsent: int
    sent: int = 0


class Readers:
    """Looks at what connections have not sent, now and then, and cuts those on which nothing moves for ``limit_s``."""

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._readers: dict[asyncio.Transport, _Reader] = {}

    def look(self, transports: Iterable[asyncio.Transport], now_s: float) -> None:
        """To be called more often than once in ``limit_s``, with all of them."""
        before, self._readers = self._readers, {}
        for transport in transports:
            unsent = transport.get_write_buffer_size()
            if unsent:
                reader = self._readers[transport] = before.get(transport) or _Reader(now_s, unsent)
                self._judge(transport, reader, unsent, now_s)

    def wrote(self, transport: asyncio.Transport, count: int) -> None:
        """So much more is to be sent on this one. An answer written at once need not be announced."""
        reader = self._readers.get(transport)
        if reader is not None:
            reader.unsent += count

    def _judge(self, transport: asyncio.Transport, reader: _Reader, unsent: int, now_s: float) -> None:
        reader.sent += max(0, reader.unsent - unsent)
        reader.unsent = unsent
        waited_s = now_s - reader.since_s
        if waited_s <= self._limit_s:
            return
        if reader.sent < PROGRESS_BYTES_PER_S * waited_s:
            log.info("a caller did not read its answer for %g s (--send-timeout-s)", waited_s)
            transport.abort()
        reader.since_s, reader.sent = now_s, 0
