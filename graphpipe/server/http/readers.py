"""Callers of aiohttp's way who do not read their answers: aiohttp would wait for them for ever."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from weakref import WeakKeyDictionary

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
        self._readers: WeakKeyDictionary[asyncio.Transport, _Reader] = WeakKeyDictionary()

    def look(self, transports: Iterable[asyncio.Transport], now_s: float) -> None:
        """To be called more often than once in ``limit_s``, with all of them."""
        for transport in transports:
            unsent = transport.get_write_buffer_size()
            reader = self._readers.get(transport)
            if not unsent:
                if reader is not None:
                    del self._readers[transport]
            elif reader is None:
                self._readers[transport] = _Reader(now_s, unsent)
            else:
                self._judge(transport, reader, unsent, now_s)

    def _judge(self, transport: asyncio.Transport, reader: _Reader, unsent: int, now_s: float) -> None:
        # More than before: aiohttp writes on when nearly all of what it wrote before has left.
        reader.sent += reader.unsent - unsent if unsent <= reader.unsent else reader.unsent
        reader.unsent = unsent
        waited_s = now_s - reader.since_s
        if waited_s <= self._limit_s:
            return
        if reader.sent < PROGRESS_BYTES_PER_S * waited_s:
            log.info("a caller did not read its answer for %g s (--send-timeout-s)", waited_s)
            transport.abort()
        reader.since_s, reader.sent = now_s, 0
