"""A document that is asked for without tensors: of a model, or of the server as a whole."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from graphpipe.errors import TooLarge
from graphpipe.server.models.service import Service
from graphpipe.server.protocols.jsons import JSON, write
from graphpipe.server.protocols.protocol import Answer
from graphpipe.wire import Segment

__all__ = ["Models", "Page", "Say"]

# Those that a caller may see; None: all.
Models = frozenset[str] | None
# Makes a document of what came with the question, for a caller who may see these models.
Say = Callable[[bytes, Models], object]

_QUESTION_BYTES_MAX = 64 * 1024


class Page:
    """One document, which a key with ``scope`` may see."""

    def __init__(self, say: Say, scope: str, service: Service | None = None, models: Models = None) -> None:
        self.service = service
        self.scope = scope
        self._say = say
        self._models = models

    def answer(
        self, body: memoryview | bytes, deadline: float | None = None, request_id: str = ""
    ) -> Answer | Coroutine[Any, Any, Answer]:
        """The document."""
        segments: list[Segment] = [write(self._say(bytes(body), self._models))]
        return segments, 0, JSON

    def admit(self, size: int) -> None:
        """Whoever asks is answered. Raises TooLarge for what is no question."""
        if size > _QUESTION_BYTES_MAX:
            raise TooLarge(f"{size} bytes came to a path that takes {_QUESTION_BYTES_MAX} at most")

    def limited(self, *, infer: bool, metadata: bool, models: Models = None) -> Page:
        """The same without models that the caller may not see."""
        return Page(self._say, self.scope, self.service, models)
