"""Calls of a protocol whose messages say what they are about: each has an endpoint of its own, made of its message."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from time import perf_counter
from typing import Any, NamedTuple, NoReturn

from numpy.typing import NDArray

from graphpipe.errors import ServiceError, service_error
from graphpipe.server.models.service import Service
from graphpipe.server.protocols.effort import OUTPUT_BYTES, text_bytes
from graphpipe.server.protocols.inference import Inference, Named, rows_of
from graphpipe.server.protocols.jsons import JSON
from graphpipe.server.protocols.lists import NotSayable
from graphpipe.server.protocols.protocol import Answer, Fields
from graphpipe.server.protocols.unsendable import unsendable
from graphpipe.wire import Segment

__all__ = ["ASIDE_FROM", "Form", "InferenceCall", "Models", "Question", "RefusedCall"]

Array = NDArray[Any]
# Those that a caller may see; None: all.
Models = frozenset[str] | None

# Messages of this size and more are unpacked in a thread, where there is something to unpack.
ASIDE_FROM = 32 * 1024
# A value of JSON takes more time than the bytes of its array.
_VALUES_ASIDE_FROM = 2048
# Copying this much on the event loop would be felt by the other callers.
_OFF_LOOP_FROM = 256 * 1024


class Form(NamedTuple):
    """What calls have in common that differ in their tensors alone.

    ``names`` are the inputs', ``outputs`` those that are asked for. ``encode`` makes the answer's bytes, of which ``fields``
    are the head's.
    """

    inference: Inference
    names: Sequence[str]
    outputs: Sequence[str]
    config: str
    encode: Callable[[Named], list[Segment]]
    fields: Fields | None = None


class InferenceCall:
    """A call of a model, which is answered once.

    ``arrays`` are its inputs, or makes them, in a thread where that ``is_work``. The message is held by ``arrays`` alone,
    which is let go as soon as the call is answered.
    """

    scope = "infer"

    __slots__ = ("_arrays", "_form", "_is_work", "service")

    def __init__(self, form: Form, arrays: Callable[[], list[Array]] | list[Array], *, is_work: bool = False) -> None:
        self.service: Service = form.inference.service
        self._form = form
        self._arrays: Callable[[], list[Array]] | list[Array] | None = arrays
        self._is_work = is_work

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
        arrays, self._arrays = self._arrays, None
        assert arrays is not None, "a call is answered twice"
        return self._infer(arrays if isinstance(arrays, list) else arrays(), deadline, request_id)

    async def _answer_aside(self, deadline: float | None, request_id: str) -> Answer:
        arrays = await asyncio.get_running_loop().run_in_executor(None, self._unpacked)
        answer = self._infer(arrays, deadline, request_id)
        del arrays  # the stages hold them now; nobody else may
        return answer if isinstance(answer, tuple) else await answer

    def _unpacked(self) -> list[Array]:
        arrays, self._arrays = self._arrays, None
        assert callable(arrays), "a call is answered twice"
        return arrays()

    def _infer(
        self, arrays: list[Array], deadline: float | None, request_id: str
    ) -> Answer | Coroutine[Any, Any, Answer]:
        rows = rows_of(arrays)
        form = self._form
        outputs = form.inference.infer(form.names, arrays, form.outputs, form.config, deadline, request_id)
        if isinstance(outputs, list):
            return self._encoded(outputs, rows)
        return self._waited(outputs, rows)

    async def _waited(self, outputs: Coroutine[Any, Any, Named], rows: int) -> Answer:
        answer = self._encoded(await outputs, rows)
        return answer if isinstance(answer, tuple) else await answer

    def _encoded(self, outputs: Named, rows: int) -> Answer | Coroutine[Any, Any, Answer]:
        """The outputs as bytes; or a coroutine that encodes them in a thread, if they are much work."""
        began = perf_counter()
        fields = self._form.fields
        if _is_work(outputs, fields):
            return self._encoded_aside(outputs, rows, began)
        segments = self._segments(outputs)
        self.service.meter.encoded(rows, perf_counter() - began)
        return (segments, rows) if fields is None else (segments, rows, fields)

    async def _encoded_aside(self, outputs: Named, rows: int, began: float) -> Answer:
        segments = await asyncio.get_running_loop().run_in_executor(None, self._segments, outputs)
        self.service.meter.encoded(rows, perf_counter() - began)
        fields = self._form.fields
        return (segments, rows) if fields is None else (segments, rows, fields)

    def _segments(self, outputs: Named) -> list[Segment]:
        try:
            return self._form.encode(outputs)
        except NotSayable:  # it can be had in another form
            raise
        except BaseException as error:
            raise unsendable(self.service.name, error) from None


def _is_work(outputs: Named, fields: Fields | None) -> bool:
    """Whether encoding these takes long: many strings or much of them, a large copy, or much text."""
    values = written = copied = 0
    for _, array in outputs:
        written += OUTPUT_BYTES
        values += array.size
        if array.dtype.kind in "OSU":
            written += text_bytes(array)
        elif not array.flags.c_contiguous:
            copied += array.nbytes
    return written >= ASIDE_FROM or copied >= _OFF_LOOP_FROM or (fields == JSON and values >= _VALUES_ASIDE_FROM)


class RefusedCall:
    """A call of a model that does not fit: told only to whoever may call it, for it tells that there is one."""

    scope = "infer"

    def __init__(self, service: Service, error: ServiceError) -> None:
        self.service = service
        self._error = error.code, error.http_status, error.message, error.retry_after_s

    def limited(self, *, infer: bool, metadata: bool, models: Models = None) -> RefusedCall:
        """The same."""
        return self

    def admit(self, size: int) -> None:
        """It takes no place."""

    def answer(self, body: memoryview | bytes, deadline: float | None = None, request_id: str = "") -> NoReturn:
        """Raise what is wrong with it."""
        raise service_error(*self._error)


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
