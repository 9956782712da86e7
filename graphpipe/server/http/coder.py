"""Compressed bodies and answers: undone and made in a few threads of their own, step by step.

zlib lets go of the interpreter while it works, so the event loop goes on. A step is short, and whoever wants many stands
behind the others after each: a large body keeps no small one waiting for long.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, MutableMapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from aiohttp import web

from graphpipe.machine import usable_cpus
from graphpipe.server.http.admission import Admission
from graphpipe.server.http.codings import (
    STATE_BYTES,
    STEP_BYTES,
    Deflating,
    Inflating,
    NotTaken,
    codings_of,
    takes_gzip,
)
from graphpipe.server.settings.values import Settings
from graphpipe.wire import Segment

__all__ = ["Coder"]

# What keeps compressing must not keep the models from all cores.
_THREADS_MAX = 4
# A smaller answer would hardly be sent sooner.
_ANSWER_BYTES_MIN = 1024
# After so much it shows whether an answer gets smaller: by a twentieth, or it is sent as it is.
_TRIED_BYTES = 1 << 20


class Coder:
    """Belongs to one event loop. Whatever it makes or waits with is counted."""

    def __init__(self, settings: Settings, admission: Admission) -> None:
        self._settings = settings
        self._admission = admission
        self._threads = ThreadPoolExecutor(max(1, min(_THREADS_MAX, usable_cpus() // 2)), "coding")

    def close(self) -> None:
        """No more is begun."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    # --- bodies ---

    def inflating(self, request: web.BaseRequest) -> Inflating | None:
        """What undoes a request's codings; None where its body is plain. Raises NotTaken, TooLarge."""
        values = request.headers.getall("Content-Encoding", [])
        codings = codings_of(values) if values else ()
        if not codings:
            return None
        if not self._settings.inflate_ratio_max:
            raise NotTaken(
                "the body is compressed, and compressed bodies are off on this server (--inflate-ratio-max 0); "
                "send the message plain, without Content-Encoding",
                taken="identity",
            )
        inflating = Inflating(codings, self._admission.body_bytes_max, self._settings.inflate_ratio_max)
        if request.content_length is not None:
            inflating.check(request.content_length)
        return inflating

    async def inflate(
        self, inflating: Inflating, data: bytes, take: Callable[[memoryview], Coroutine[Any, Any, None]]
    ) -> None:
        """Have ``take`` called with each piece that becomes of the next part of a body."""
        loop = asyncio.get_running_loop()
        inflating.feed(data)
        self._admission.hold(len(data))
        try:
            while piece := await loop.run_in_executor(self._threads, inflating.step):
                await take(memoryview(piece))
        finally:
            self._admission.hold(-len(data))

    # --- answers ---

    def is_asked(self, request: web.BaseRequest, headers: MutableMapping[str, str]) -> bool:
        """Whether an answer that will bear these headers, which say so then, may be ``compressed``."""
        if not self._settings.compress_answers:
            return False
        headers["Vary"] = "Accept-Encoding"
        return takes_gzip(",".join(request.headers.getall("Accept-Encoding", [])))

    async def compressed(self, headers: MutableMapping[str, str], segments: Sequence[Segment]) -> Sequence[Segment]:
        """An answer as it is sent to whoever asked for that: compressed, and its headers say so, or as it is if that is
        hardly larger.
        """
        size = sum(map(len, segments))
        smaller = await self._deflated(segments, size) if size >= _ANSWER_BYTES_MIN else None
        if smaller is None:
            return segments
        headers["Content-Encoding"] = "gzip"
        return smaller

    async def compress_page(self, request: web.BaseRequest, page: web.Response) -> None:
        """The same for a page that lies ready."""
        if self.is_asked(request, page.headers) and isinstance(page.body, bytes):
            page.body = b"".join(await self.compressed(page.headers, [page.body]))

    async def _deflated(self, segments: Sequence[Segment], size: int) -> list[bytes] | None:
        """The same in gzip; None if that is hardly smaller."""
        loop = asyncio.get_running_loop()
        deflating = Deflating()
        parts: list[bytes] = []
        taken, given, held = 0, 0, size + STATE_BYTES
        self._admission.hold(held)
        try:
            for segment in segments:
                view = memoryview(segment)
                for at in range(0, len(view), STEP_BYTES):
                    piece = view[at : at + STEP_BYTES]
                    part = await loop.run_in_executor(self._threads, deflating.step, piece)
                    taken += len(piece)
                    given += len(part)
                    held += len(part)
                    self._admission.hold(len(part))
                    if part:
                        parts.append(part)
                    if taken >= _TRIED_BYTES and given > taken - taken // 20:
                        return None
            parts.append(await loop.run_in_executor(self._threads, deflating.end))
            given += len(parts[-1])
            return parts if given <= size - size // 20 else None
        finally:
            self._admission.hold(-held)
