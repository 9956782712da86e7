"""Inference: a request's bytes to an answer's. What follows from a JSON that callers repeat is remembered."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from time import perf_counter
from typing import Any

from numpy.typing import NDArray

from graphpipe.errors import InvalidRequest
from graphpipe.server.models.service import Service
from graphpipe.server.protocols.inference import Inference, Named, rows_of
from graphpipe.server.protocols.jsons import ASIDE_FROM, aside, read
from graphpipe.server.protocols.lists import NotSayable
from graphpipe.server.protocols.open_inference.answer import LENGTH_FIELD, encoded, is_work
from graphpipe.server.protocols.open_inference.request import Asked, asked_in
from graphpipe.server.protocols.protocol import Answer
from graphpipe.server.protocols.room import UNLIMITED, Room
from graphpipe.server.protocols.unsendable import unsendable

__all__ = ["Infer", "Served"]

Array = NDArray[Any]

_REMEMBERED_MAX = 256
_REMEMBERED_BYTES_MAX = 8 * 1024


class Served:
    """What all requests to one service share."""

    def __init__(self, service: Service, strings_max: int, room: Room = UNLIMITED) -> None:
        self.service = service
        self.inference = Inference(service)
        self.strings_max = strings_max
        self.room = room
        self.remembered: dict[bytes, Asked] = {}


class Infer:
    """Requests to one service whose JSON has ``json_bytes``, and tensors behind it; None: all of the body is JSON."""

    scope = "infer"

    def __init__(self, served: Served, version: str, json_bytes: int | None) -> None:
        self.service: Service = served.service
        self._served = served
        self._version = version
        self._json_bytes = json_bytes

    def limited(self, *, infer: bool, metadata: bool, models: frozenset[str] | None = None) -> Infer:
        """The same: whether a key may infer here has been looked at."""
        return self

    def admit(self, size: int) -> None:
        """Raise Overloaded if a request of ``size`` bytes need not be read, as it would be refused in any case."""
        self.service.stage.admit()

    def answer(
        self, body: memoryview | bytes, deadline: float | None = None, request_id: str = ""
    ) -> Answer | Coroutine[Any, Any, Answer]:
        """The answer to a request's body, or a coroutine that gives it where that takes waiting."""
        if self.service.at_once is None:
            self.service.stage.admit()
        size = len(body)
        json_bytes = size if self._json_bytes is None else self._json_bytes
        if json_bytes > size:
            raise InvalidRequest(f"{LENGTH_FIELD} is {json_bytes}, and the body has {size} bytes")
        if type(body) is not bytes:
            body = memoryview(body).toreadonly()
        text, behind = body[:json_bytes], body[json_bytes:]
        if json_bytes >= ASIDE_FROM:
            return self._answer_aside(text, behind, deadline, request_id)
        asked = self._asked(text, len(behind))
        if not asked.is_plain and len(behind) >= ASIDE_FROM:
            return self._taken_aside(asked, behind, deadline, request_id)
        return self._infer(asked, asked.arrays(behind, self._served.room), deadline, request_id)

    def _asked(self, text: memoryview | bytes, behind: int) -> Asked:
        """What a request's JSON asks."""
        remembered = self._served.remembered
        # Nobody's JSON that is as long as a tensor comes again.
        key = bytes(text) if len(text) <= _REMEMBERED_BYTES_MAX else b""
        asked = remembered.get(key)
        if asked is None or asked.behind != behind:
            asked = asked_in(read(text), behind, self._served.strings_max)
            # One with a name of its own is the last of its kind.
            if key and asked.id is None and all(tensor.data is None for tensor in asked.tensors):
                if len(remembered) >= _REMEMBERED_MAX:
                    remembered.clear()
                remembered[key] = asked
        return asked

    async def _answer_aside(
        self, text: memoryview | bytes, behind: memoryview | bytes, deadline: float | None, request_id: str
    ) -> Answer:
        """The same with a thread for what may be long: a million numbers or strings."""
        taking = aside(self._taken, text, behind)
        del text, behind  # the inputs hold what they need of it; nobody else may
        asked, arrays = await taking
        answer = self._infer(asked, arrays, deadline, request_id)
        del arrays
        return answer if isinstance(answer, tuple) else await answer

    def _taken(self, text: memoryview | bytes, behind: memoryview | bytes) -> tuple[Asked, list[Array]]:
        asked = asked_in(read(text), len(behind), self._served.strings_max)
        # Lists of numbers take ten times their arrays' memory: they are gone before the model is waited for.
        return asked._replace(tensors=()), asked.arrays(behind, self._served.room)

    async def _taken_aside(
        self, asked: Asked, behind: memoryview | bytes, deadline: float | None, request_id: str
    ) -> Answer:
        arrays = await asyncio.get_running_loop().run_in_executor(None, asked.arrays, behind, self._served.room)
        del behind
        answer = self._infer(asked, arrays, deadline, request_id)
        del arrays
        return answer if isinstance(answer, tuple) else await answer

    def _infer(
        self, asked: Asked, arrays: list[Array], deadline: float | None, request_id: str
    ) -> Answer | Coroutine[Any, Any, Answer]:
        rows = rows_of(arrays)
        outputs = self._served.inference.infer(
            asked.names, arrays, asked.outputs, config=asked.config, deadline=deadline, request_id=request_id
        )
        if isinstance(outputs, list):
            return self._encoded(asked, outputs, rows)
        return self._waited(asked, outputs, rows)

    async def _waited(self, asked: Asked, outputs: Coroutine[Any, Any, Named], rows: int) -> Answer:
        answer = self._encoded(asked, await outputs, rows)
        return answer if isinstance(answer, tuple) else await answer

    def _encoded(self, asked: Asked, outputs: Named, rows: int) -> Answer | Coroutine[Any, Any, Answer]:
        """The outputs as bytes; or a coroutine that encodes them in a thread, if they are much work."""
        if is_work(asked, outputs):
            return self._encoded_aside(asked, outputs, rows)
        began = perf_counter()
        answer = self._encode(asked, outputs, rows)
        self.service.meter.encoded(rows, perf_counter() - began)
        return answer

    async def _encoded_aside(self, asked: Asked, outputs: Named, rows: int) -> Answer:
        began = perf_counter()
        answer = await asyncio.get_running_loop().run_in_executor(None, self._encode, asked, outputs, rows)
        self.service.meter.encoded(rows, perf_counter() - began)
        return answer

    def _encode(self, asked: Asked, outputs: Named, rows: int) -> Answer:
        try:
            segments, fields = encoded(asked, self.service.name, self._version, outputs)
        except NotSayable:
            raise
        except BaseException as error:
            raise unsendable(self.service.name, error) from None
        return segments, rows, fields
