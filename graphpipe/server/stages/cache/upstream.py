"""Which model an upstream serves at this moment.

A file's digest never changes while it is loaded. An upstream may be restarted with another model at any time, and its
old rows must not answer for the new one. So its version is asked for again: each answer from the cache rests on a
question that was asked after the caller's request had come, unless a user allows answers to be a little older
(``fresh_s``). Callers who wait at the same time share one question.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from graphpipe.words import first_line

__all__ = ["UpstreamVersion"]

log = logging.getLogger("graphpipe.cache")


class UpstreamVersion:
    """Asks ``ask``, which blocks, for the version. Belongs to one event loop."""

    def __init__(self, ask: Callable[[], str], fresh_s: float = 0.0) -> None:
        self._ask = ask
        self._fresh_s = fresh_s
        self._known = ""
        self._asked_at = float("-inf")
        self._waiting: list[asyncio.Future[str]] = []
        self._asking = False

    async def now(self) -> str:
        """The version at some time after this call began (or ``fresh_s`` before); empty if nobody can say."""
        loop = asyncio.get_running_loop()
        if self._fresh_s and loop.time() - self._asked_at <= self._fresh_s:
            return self._known
        answer: asyncio.Future[str] = loop.create_future()
        self._waiting.append(answer)
        if not self._asking:
            self._begin(loop)
        return await answer

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        waiting, self._waiting = self._waiting, []
        self._asking = True
        asked_at = loop.time()

        def ask() -> str:
            try:
                return self._ask()
            except BaseException as error:  # also of what is no Exception, which would end the loop that it is told to
                log.info("the upstream's version is not known: %s", first_line(error))
                return ""

        def on_done(question: asyncio.Future[str]) -> None:
            self._asking = False
            version = "" if question.cancelled() or question.exception() is not None else question.result()
            self._known, self._asked_at = version, asked_at if version else float("-inf")
            for answer in waiting:
                if not answer.done():
                    answer.set_result(version)
            if self._waiting:
                self._begin(loop)

        loop.run_in_executor(None, ask).add_done_callback(on_done)
