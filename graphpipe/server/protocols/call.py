"""Calls of a protocol whose messages say what they are about: each has an endpoint of its own, made of its message."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from time import perf_counter
from typing import Any

from numpy.typing import NDArray

from graphpipe.server.models.service import Service
from graphpipe.server.protocols.inference import Inference, Named, rows_of
from graphpipe.server.protocols.jsons import JSON
from graphpipe.server.protocols.lists import NotSayable
from graphpipe.server.protocols.protocol import Answer, Fields
from graphpipe.server.protocols.unsendable import unsendable
from graphpipe.wire import Segment

__all__ = ["ASIDE_FROM", "InferenceCall", "Models", "Question"]

Array = NDArray[Any]
# Those that a caller may see; None: all.
Models = frozenset[str] | None

# Messages of this size and more are unpacked in a thread, where there is something to unpack.
ASIDE_FROM = 32 * 1024
# A value of JSON takes more time than the bytes of its array.
_VALUES_ASIDE_FROM = 2048
# Copying this much on the event loop would be felt by the other callers.
_OFF_LOOP_FROM = 256 * 1024


class InferenceCall:
    """A call of a model, which is answered once.

    ``arrays`` are the inputs that are called ``names``, or makes them, in a thread where that ``is_work``; ``encode`` makes
    the answer's bytes, of which ``fields`` are the head's. The message is held by ``arrays`` alone, which is let go as soon
    as the call is answered.
    """

    scope = "infer"

    __slots__ = (
        "_arrays",
        "_config",
        "_encode",
        "_fields",
        "_inference",
        "_is_work",
        "_names",
        "_outputs",
        "service",
    )

    def __init__(
        self,
        inference: Inference,
        names: Sequence[str],
        arrays: Callable[[], list[Array]] | list[Array],
        encode: Callable[[Named], list[Segment]],
        *,
        outputs: Sequence[str] = (),
        config: str = "",
        is_work: bool = False,
        fields: Fields | None = None,
    ) -> None:
        self.service: Service = inference.service
        self._inference = inference
        self._names = names
        self._arrays: Callable[[], list[Array]] | list[Array] | None = arrays
        self._encode = encode
        self._outputs = outputs
        self._config = config
        self._is_work = is_work
        self._fields = fields

    def limited(self, *, infer: bool, metadata: bool, models: Models = None) -> InferenceCall:
        """The same: whether a key may infer here has been looked at."""
        return self

    def admit(self, size: int) -> None:
        """Raise Overloaded if it would be refused in any case."""
        self.service.stage.admit()

    def answer(
        self, body: memoryview | bytes, deadline: float | None = None, request_id: str = ""
    ) -> Answer | Coroutine[Any, Any, Answer]:
        """The answer to the message that the call was made of, or a coroutine that gives it where that takes waiting."""
        if self.service.at_once is None:
            self.service.stage.admit()
        if self._is_work:
            return self._answer_aside(deadline, request_id)
        return self._infer(self._unpacked(), deadline, request_id)

    async def _answer_aside(self, deadline: float | None, request_id: str) -> Answer:
        arrays = await asyncio.get_running_loop().run_in_executor(None, self._unpacked)
        answer = self._infer(arrays, deadline, request_id)
        del arrays  # the stages hold them now; nobody else may
        return answer if isinstance(answer, tuple) else await answer

    def _unpacked(self) -> list[Array]:
        arrays, self._arrays = self._arrays, None
        assert arrays is not None, "a call is answered twice"
        return arrays if isinstance(arrays, list) else arrays()

    def _infer(
        self, arrays: list[Array], deadline: float | None, request_id: str
    ) -> Answer | Coroutine[Any, Any, Answer]:
        rows = rows_of(arrays)
        outputs = self._inference.infer(
            self._names, arrays, self._outputs, config=self._config, deadline=deadline, request_id=request_id
        )
        if isinstance(outputs, list):
            return self._encoded(outputs, rows)
        return self._waited(outputs, rows)

    async def _waited(self, outputs: Coroutine[Any, Any, Named], rows: int) -> Answer:
        answer = self._encoded(await outputs, rows)
        return answer if isinstance(answer, tuple) else await answer

    def _encoded(self, outputs: Named, rows: int) -> Answer | Coroutine[Any, Any, Answer]:
        """The outputs as bytes; or a coroutine that encodes them in a thread, if they are much work."""
        began = perf_counter()
        for _, array in outputs:
            if _is_work(array, self._fields):
                return self._encoded_aside(outputs, rows, began)
        segments = self._segments(outputs)
        self.service.meter.encoded(rows, perf_counter() - began)
        return self._answer(segments, rows)

    async def _encoded_aside(self, outputs: Named, rows: int, began: float) -> Answer:
        segments = await asyncio.get_running_loop().run_in_executor(None, self._segments, outputs)
        self.service.meter.encoded(rows, perf_counter() - began)
        return self._answer(segments, rows)

    def _answer(self, segments: list[Segment], rows: int) -> Answer:
        return (segments, rows) if self._fields is None else (segments, rows, self._fields)

    def _segments(self, outputs: Named) -> list[Segment]:
        try:
            return self._encode(outputs)
        except NotSayable:  # it can be had in another form
            raise
        except BaseException as error:
            raise unsendable(self.service.name, error) from None


def _is_work(array: Array, fields: Fields | None) -> bool:
    """Whether encoding this takes long: many strings, a large copy, or much text."""
    if fields is not None and fields == JSON and array.size >= _VALUES_ASIDE_FROM:
        return True
    if array.nbytes < ASIDE_FROM:
        return False
    return array.dtype.kind in "OSU" or (array.nbytes >= _OFF_LOOP_FROM and not array.flags.c_contiguous)


class Question:
    """A call that takes no inference: ``say`` makes its answer, for a caller who may see these models.

    ``scope`` is what a key must be good for.
    """

    def __init__(
        self,
        say: Callable[[Models], list[Segment]],
        scope: str,
        service: Service | None = None,
        models: Models = None,
    ) -> None:
        self.service = service
        self.scope = scope
        self._say = say
        self._models = models

    def limited(self, *, infer: bool, metadata: bool, models: Models = None) -> Question:
        """The same without models that the caller may not see."""
        return Question(self._say, self.scope, self.service, models)

    def admit(self, size: int) -> None:
        """Whoever asks is answered."""

    def answer(
        self, body: memoryview | bytes, deadline: float | None = None, request_id: str = ""
    ) -> Answer | Coroutine[Any, Any, Answer]:
        """The answer."""
        return self._say(self._models), 0
