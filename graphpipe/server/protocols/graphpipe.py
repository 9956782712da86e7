"""The protocol of 2018: FlatBuffers messages, to a service and back.

Decode, find out what is meant, check it against the signature, infer, encode. Knows messages and services, no HTTP.
"""

from __future__ import annotations

import asyncio
import difflib
import logging
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import replace
from functools import partial
from time import perf_counter
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from graphpipe.backends.model import Model
from graphpipe.errors import (
    Forbidden,
    GraphPipeError,
    MalformedMessage,
    ModelFailed,
    NotFound,
    ServiceError,
    TooLarge,
    Unsupported,
)
from graphpipe.server.models.directory import Directory
from graphpipe.server.models.service import Service
from graphpipe.server.numbers.failures import FAILURES
from graphpipe.server.protocols.beside import Beside, copy, encode, places_field, to_copy
from graphpipe.server.protocols.effort import text_bytes
from graphpipe.server.protocols.foreign import body_words, path_words
from graphpipe.server.protocols.path import segments
from graphpipe.server.protocols.protocol import BY_MESSAGE, OCTETS, Answer, Field
from graphpipe.server.protocols.room import NeverRoom, Room
from graphpipe.server.protocols.unsendable import unsendable
from graphpipe.server.stages import Outputs, Request
from graphpipe.signature import Plan, Signature
from graphpipe.version import SERVER
from graphpipe.wire import (
    ErrorInfo,
    InferRequest,
    MetadataRequest,
    MetadataResponse,
    RequestHead,
    Segment,
    decode_request,
    encode_infer_response,
    encode_metadata_response,
    recall_request,
)
from graphpipe.wire.describe import metadata_of
from graphpipe.wire.dtypes import DTYPES

__all__ = ["ERROR_TYPE", "GraphPipe", "GraphPipeEndpoint", "error_body"]

T = TypeVar("T")

log = logging.getLogger("graphpipe.service")

ERROR_TYPE = "application/vnd.graphpipe"

# First segments of paths that are no model's, unless they say which.
_RESERVED = frozenset(("control", "models", "metrics", "livez", "readyz", "v1", "v2"))
# Copying this much on the event loop would be felt by the other callers.
_OFF_LOOP_FROM = 256 * 1024
# So would this of what a caller shows: a thread costs about as much as copying 1 MiB, and as a body those bytes would be
# copied on the loop too.
_COPIED_ASIDE_FROM = 4 << 20
# So would reading this much, if nothing like it was read before: it may be strings, each of which is work.
_READ_ASIDE_FROM = 32 * 1024
_PLANS_MAX = 256
# A model's settings for a call are no place for data.
_CONFIG_CHARACTERS_MAX = 1 << 20
# So small a message may ask for metadata, which is always there; one with a tensor is larger.
_DESCRIPTION_BYTES_MAX = 96
# Whoever writes it, a question for metadata is no larger.
_QUESTION_BYTES_MAX = 1024
_NO_INFERENCE = "this key lacks the scope 'infer', which running a model takes"
# Encoding less than this is a moment, whatever it is.
_MOMENT_BYTES = 8 * 1024


class GraphPipe:
    """Which endpoint a path is."""

    protocol = "graphpipe"

    def __init__(self, directory: Directory, strings_max: int, room: Room) -> None:
        self._directory = directory
        self._strings_max = strings_max
        self._room = room
        self._endpoints: dict[Service, GraphPipeEndpoint] = {}
        directory.on_change.append(self._endpoints.clear)

    def endpoint(self, method: str, path: str, field: Field) -> GraphPipeEndpoint:
        """Whose inference endpoint a path is."""
        return self.served(path)

    def served(self, path: str) -> GraphPipeEndpoint:
        """Whose endpoint an escaped path is. Raises NotFound, which lists the models."""
        first, *rest = segments(path)
        if first == "models" and rest[:1] not in ([], [""]) and rest[1:] in ([], [""]):
            return self.endpoint_of(self._directory.find(rest[0]))
        names = self._directory.names
        if first not in _RESERVED and (len(names) == 1 or (first, rest) == ("", [])):
            return self.endpoint_of(self._directory.first)
        foreign = path_words((first, *rest))
        meant = difflib.get_close_matches((foreign and foreign.model) or (rest or [first])[-1], names, 1)
        hint = f"; did you mean /models/{meant[0]}?" if meant else ""
        whose = f" ({foreign.words})" if foreign else ""
        here = f"POST to / or to /models/NAME: {', '.join(names)}{hint}"
        raise NotFound(f"nothing is served at {path[:200]}{whose}; {here}")

    def endpoint_of(self, service: Service) -> GraphPipeEndpoint:
        """A service's endpoint, which remembers what its callers send."""
        endpoint = self._endpoints.get(service)
        if endpoint is None:
            endpoint = self._endpoints[service] = GraphPipeEndpoint(service, self._strings_max, self._room)
        return endpoint

    def endpoints(self) -> list[GraphPipeEndpoint]:
        """All of them."""
        return [self.endpoint_of(service) for service in self._directory.models]

    def methods(self, path: str) -> tuple[str, ...]:
        """Both: a model is described, or run."""
        return "GET", "POST"

    def error_body(self, error: ServiceError, accept: str) -> tuple[str, bytes]:
        """A message for callers that say they can read it, else text."""
        return error_body(error, accept)


def error_body(error: ServiceError, accept: str) -> tuple[str, bytes]:
    """Content type and body of a refusal: a message for callers that say they can read it, else text."""
    if ERROR_TYPE in accept.lower():
        return ERROR_TYPE, b"".join(encode_infer_response([], [ErrorInfo(error.code, error.message)]))
    return "text/plain; charset=utf-8", f"{error.message}\n".encode("utf-8", "replace")


class GraphPipeEndpoint:
    """One service, answering messages with messages. What its callers repeat is remembered here."""

    scope = BY_MESSAGE

    def __init__(self, service: Service, strings_max: int, room: Room) -> None:
        self.service = service
        self._strings_max = strings_max
        self._room = room
        self._model, self._at_once = service.model, service.at_once  # looked at for each request
        self._signature = service.model.signature
        self._plans: dict[RequestHead, tuple[Plan, int]] = {}
        self.metadata = _metadata(service.name, service.model)
        self._metadata_bytes = encode_metadata_response(self.metadata)
        self._limited: dict[bool, GraphPipeEndpoint] = {}

    def limited(self, *, infer: bool, metadata: bool, models: frozenset[str] | None = None) -> GraphPipeEndpoint:
        """The same for a caller who may ask for one of these alone: it raises Forbidden for the other."""
        if infer and metadata:
            return self
        limited = self._limited.get(infer)
        if limited is None:
            kind = _ForInference if infer else _ForMetadata
            limited = self._limited[infer] = kind(self.service, self._strings_max, self._room)
        return limited

    def answer(
        self, body: memoryview | bytes, deadline: float | None = None, request_id: str = ""
    ) -> Answer | Coroutine[Any, Any, Answer]:
        """The answer to a request's body, or a coroutine that gives it where that takes waiting.

        ``deadline`` is loop time, ``request_id`` for the log. The arrays that the model gets borrow ``body``.

        Raises ServiceError for whatever is wrong with the request, the model or the load, here or in the coroutine.
        """
        if self._at_once is None:
            # Under overload this is the way of nearly all of them, so it is a short one.
            self.admit(len(body))
        if type(body) is not bytes:
            body = memoryview(body).toreadonly()
        message = recall_request(body)
        if message is None:
            if len(body) >= _READ_ASIDE_FROM:
                return self._answer_aside(body, deadline, request_id)
            read = self._decode(body)
            if not isinstance(read, InferRequest):
                return self._describe()
            message = read
        plan, rows = self._planned(message.head)
        if not plan.plain and len(body) >= _OFF_LOOP_FROM:
            return self._answer_aside(body, deadline, request_id)
        request = Request(plan.inputs(message.inputs), plan.outputs, message.head.config, deadline, 0.0, request_id)
        if self._at_once is None:
            return self._infer(request, rows)
        return self._encoded(self._at_once(request), request.outputs, rows)

    async def answer_beside(
        self, beside: Beside, body: memoryview | bytes, deadline: float | None = None, request_id: str = ""
    ) -> Answer:
        """The same for a request whose caller shows memory beside it.

        Nothing is kept in mind of such requests but how their messages are read.
        """
        self.admit(len(body) + beside.size)
        self.service.meter.add("graphpipe_shown_bytes", beside.size)
        body = memoryview(body).toreadonly()
        if len(body) >= _READ_ASIDE_FROM:
            message = await _in_thread(partial(self._decode, body, beside.tensors))
        else:
            message = self._decode(body, beside.tensors)
        del body  # the inputs hold it now; nobody else may
        if not isinstance(message, InferRequest):
            return await self._describe()
        plan, rows = self._planned(message.head)
        arrays = message.inputs
        copied = to_copy(beside, arrays, message.head, all_of_it=self.service.rereads)
        shown = [arrays[i] for i in beside.tensors.keys() - copied]
        pairs = beside.settle(arrays, copied)
        is_much = sum([ours.nbytes for ours, _ in pairs]) >= _COPIED_ASIDE_FROM
        await _in_thread(partial(copy, pairs)) if is_much else copy(pairs)
        is_much = not plan.plain and sum([array.nbytes for array in arrays]) >= _OFF_LOOP_FROM
        inputs = await _in_thread(partial(plan.inputs, arrays)) if is_much else plan.inputs(arrays)
        arrays.clear()
        request = Request(inputs, plan.outputs, message.head.config, deadline, 0.0, request_id)
        del message, inputs
        outputs = await self.service.stage.infer(request)
        given = [outputs[name] for name in request.outputs] if request.outputs else list(outputs.values())
        del request, outputs
        began = perf_counter()
        places = beside.places(given)
        fields = (*OCTETS, *places_field(places, given)) if places else ()
        is_much = sum([array.nbytes for array in given]) >= _COPIED_ASIDE_FROM or any(map(_is_work, given))
        if not is_much and any(np.may_share_memory(array, each) for array in given for each in shown):
            # Who has brought them here knows them until this turn of the loop is over, and would seem to keep them.
            await asyncio.sleep(0)
        try:
            made = partial(encode, beside, given, places, shown)
            segments = await _in_thread(made) if is_much else made()
        except BaseException as error:
            raise unsendable(self.service.name, error) from None
        self.service.meter.encoded(rows, perf_counter() - began)
        return segments, rows, fields

    def _decode(
        self, body: memoryview | bytes, elsewhere: Mapping[int, memoryview] | None = None
    ) -> InferRequest | MetadataRequest:
        """A message that is read for the first time. Raises MalformedMessage, Unsupported, TooLarge or Overloaded."""
        try:
            return decode_request(body, strings_max=self._strings_max, hold=self._room.hold, elsewhere=elsewhere)
        except NeverRoom:
            raise
        except TooLarge as error:
            raise TooLarge(f"{error.message} (--strings-max)") from None
        except (MalformedMessage, Unsupported):
            # First bytes of something else may look like a message of a kind to come.
            if words := body_words(body):
                raise MalformedMessage(words) from None
            raise

    async def _answer_aside(self, body: memoryview | bytes, deadline: float | None, request_id: str) -> Answer:
        """The same with a thread for what may be long: a large message may hold a million strings, or have to be cast."""
        loop = asyncio.get_running_loop()
        message = await loop.run_in_executor(None, self._decode, body)
        del body  # the inputs hold it now; nobody else may
        if not isinstance(message, InferRequest):
            return await self._describe()
        plan, rows = self._planned(message.head)
        inputs = await loop.run_in_executor(None, plan.inputs, message.inputs)
        request = Request(inputs, plan.outputs, message.head.config, deadline, 0.0, request_id)
        return await self._infer(request, rows)

    async def _infer(self, request: Request, rows: int) -> Answer:
        answer = self._encoded(await self.service.stage.infer(request), request.outputs, rows)
        return answer if isinstance(answer, tuple) else await answer

    def _encoded(self, outputs: Outputs, names: tuple[str, ...], rows: int) -> Answer | Coroutine[Any, Any, Answer]:
        """The outputs as bytes; or a coroutine that encodes them in a thread, if they are much work."""
        began = perf_counter()
        try:
            arrays = [outputs[name] for name in names] if names else list(outputs.values())
            for array in arrays:
                if (array.nbytes > _MOMENT_BYTES or array.dtype.hasobject) and _is_work(array):
                    return self._encoded_aside(arrays, rows)
            segments = encode_infer_response(arrays)
        except BaseException as error:
            raise unsendable(self.service.name, error) from None
        self.service.meter.encoded(rows, perf_counter() - began)
        return segments, rows

    async def _encoded_aside(self, arrays: list[NDArray[Any]], rows: int) -> Answer:
        began = perf_counter()

        def encode() -> list[Segment]:
            try:
                return encode_infer_response(arrays)
            except BaseException as error:
                raise unsendable(self.service.name, error) from None

        segments = await asyncio.get_running_loop().run_in_executor(None, encode)
        self.service.meter.encoded(rows, perf_counter() - began)
        return segments, rows

    def admit(self, size: int) -> None:
        """Raise Overloaded if a request of ``size`` bytes need not be read, as it would be refused in any case."""
        if size > _DESCRIPTION_BYTES_MAX:
            self.service.stage.admit()

    async def _describe(self) -> Answer:
        version = self.metadata.version
        ask = getattr(self._model, "current_version", None)
        if ask is not None:
            # What is known of an upstream may be over by now, and whoever asks may be about to rely on it.
            def say() -> str:
                try:
                    ask()
                    return str(getattr(self._model, "version", ""))
                except GraphPipeError as error:
                    log.info("the upstream of model %r does not say what it serves: %s", self.service.name, error)
                    return ""
                except BaseException as error:
                    raise self._silent(error) from None

            version = await asyncio.get_running_loop().run_in_executor(None, say)
        if self._shown() is not self._signature or version != self.metadata.version:
            self._renew(version)
        segments: list[Segment] = [self._metadata_bytes]
        return segments, 0

    def _shown(self) -> Signature:
        """What the model says at this moment that it takes and gives."""
        try:
            return self._model.signature
        except BaseException as error:
            raise self._silent(error) from None

    def _silent(self, error: BaseException) -> ModelFailed:
        FAILURES.tell(log, "model %r failed as it was asked what it is", self.service.name, error=error)
        return ModelFailed(
            f"model {self.service.name!r} does not say what it takes and gives; the server's log has the cause"
        )

    def _renew(self, version: str | None = None) -> None:
        """Forget what followed from the signature: the model behind a remote model was replaced by another."""
        try:
            signature, metadata = self._model.signature, _metadata(self.service.name, self._model)
            if version is not None:
                metadata = replace(metadata, version=version)
            encoded = encode_metadata_response(metadata)
        except BaseException as error:
            raise self._silent(error) from None
        self._signature, self.metadata, self._metadata_bytes = signature, metadata, encoded
        self._plans.clear()

    def _planned(self, head: RequestHead) -> tuple[Plan, int]:
        """What a request's head means, and how many rows it asks for."""
        try:
            shown = self._model.signature
        except BaseException as error:
            raise self._silent(error) from None
        if shown is not self._signature:
            self._renew()
        return self._plans.get(head) or self._plan(head)

    def _plan(self, head: RequestHead) -> tuple[Plan, int]:
        if len(head.config) > _CONFIG_CHARACTERS_MAX:
            raise TooLarge(
                f"config has {len(head.config):,} characters, and at most {_CONFIG_CHARACTERS_MAX:,} are taken; "
                "send data as a tensor"
            )
        plan = self._signature.plan(
            [DTYPES[t] or np.dtype("V0") for t in head.types],
            head.shapes,
            head.input_names,
            head.output_names,
            cast=self.service.cast,
            ignore_extra_inputs=self.service.ignore_extra_inputs,
            bools=head.bools,
        )
        # What came first decides: inputs of different lengths have no rows in common anyway.
        rows = head.shapes[0][0] if head.shapes and head.shapes[0] else 1
        if head.is_remembered:  # others never come again, and may be large
            if len(self._plans) >= _PLANS_MAX:
                self._plans.clear()
            self._plans[head] = plan, rows
        return plan, rows


class _ForInference(GraphPipeEndpoint):
    """For callers who may not ask what a model is."""

    async def _describe(self) -> Answer:
        raise Forbidden("this key lacks the scope 'metadata', which asking what a model takes and gives takes")


class _ForMetadata(GraphPipeEndpoint):
    """For callers who may not run it. What is too large to be a question is not read."""

    def admit(self, size: int) -> None:
        if size > _QUESTION_BYTES_MAX:
            raise Forbidden(_NO_INFERENCE)

    def _planned(self, head: RequestHead) -> tuple[Plan, int]:
        raise Forbidden(_NO_INFERENCE)


async def _in_thread(function: Callable[[], T]) -> T:
    return await asyncio.get_running_loop().run_in_executor(None, function)


def _is_work(array: NDArray[Any]) -> bool:
    """Whether encoding this takes long: many strings, long ones, or a large copy."""
    if array.dtype.kind in "OSU":
        return text_bytes(array) > _MOMENT_BYTES
    return array.nbytes >= _OFF_LOOP_FROM and not array.flags.c_contiguous


def _metadata(name: str, model: Model) -> MetadataResponse:
    version, description = str(getattr(model, "version", "")), str(getattr(model, "description", ""))
    return metadata_of(name, model.signature, version=version, server=SERVER, description=description)
