"""Inference: a request's JSON to an answer's."""

from __future__ import annotations

from collections.abc import Coroutine
from functools import partial
from typing import Any

from graphpipe.errors import InvalidRequest, MalformedMessage
from graphpipe.server.models.service import Service
from graphpipe.server.protocols.call import Form, InferenceCall
from graphpipe.server.protocols.inference import Inference
from graphpipe.server.protocols.jsons import ASIDE_FROM, JSON, aside, read
from graphpipe.server.protocols.protocol import Answer
from graphpipe.server.protocols.room import UNLIMITED, Room
from graphpipe.server.protocols.tensorflow_serving.answer import classes, columns, rows, values
from graphpipe.server.protocols.tensorflow_serving.examples import examples_in
from graphpipe.server.protocols.tensorflow_serving.request import Asked, predict_in, signature_name_in
from graphpipe.server.protocols.tensorflow_serving.signatures import CLASSIFY, REGRESS, check_method, check_name

__all__ = ["VERBS", "Infer", "Served"]

VERBS = ("predict", "classify", "regress")


class Served:
    """What all requests to one service share."""

    def __init__(self, service: Service, strings_max: int, room: Room = UNLIMITED) -> None:
        self.service = service
        self.inference = Inference(service)
        self.strings_max = strings_max
        self.room = room


class Infer:
    """Requests to one service with one of the VERBS."""

    scope = "infer"

    def __init__(self, served: Served, verb: str) -> None:
        self.service: Service = served.service
        self._served = served
        self._verb = verb

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
        if len(body) >= ASIDE_FROM:
            return self._answer_aside(body, deadline, request_id)
        return self._call(self._asked(body)).answer(b"", deadline, request_id)

    async def _answer_aside(self, body: memoryview | bytes, deadline: float | None, request_id: str) -> Answer:
        """The same with a thread for what may be long: a million numbers or strings."""
        reading = aside(self._asked, body)
        del body
        asked = await reading
        call = self._call(asked)
        del asked  # the call holds the inputs now, until it has them read; nobody else may
        answer = call.answer(b"", deadline, request_id)
        return answer if isinstance(answer, tuple) else await answer

    def _call(self, asked: Asked) -> InferenceCall:
        encode = {"classify": classes, "regress": values}.get(self._verb, rows if asked.in_rows else columns)
        form = Form(self._served.inference, asked.names, (), "", encode, JSON)
        return InferenceCall(form, partial(list, asked.arrays))

    def _asked(self, body: memoryview | bytes) -> Asked:
        """What a request's JSON asks."""
        request = read(body)
        if type(request) is not dict:
            raise MalformedMessage("the request is no JSON object")
        model, signature = self.service.model, self._served.inference.signature
        check_name(model, signature_name_in(request))
        if self._verb == "predict":
            return predict_in(request, signature, self._served.strings_max, self._served.room)
        check_method(model, CLASSIFY if self._verb == "classify" else REGRESS)
        if len(signature.input_names) != 1:
            raise InvalidRequest(f"the model has {len(signature.input_names)} inputs, and examples are one")
        return examples_in(request, signature.input_names[0], self._served.strings_max, self._served.room)
