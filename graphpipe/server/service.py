"""From the bytes of a request to the bytes of its answer, whatever carried them.

Decode, find out what is meant, check it against the signature, infer, encode. Knows messages and stages, no HTTP.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphpipe import __version__
from graphpipe.backends.model import Model
from graphpipe.errors import GraphPipeError, ModelFailed, NotFound, ServiceError
from graphpipe.server.counters import Meter
from graphpipe.server.stages import Request, Stage
from graphpipe.signature import Plan, Signature, TensorSpec
from graphpipe.wire import (
    ErrorInfo,
    InferRequest,
    IOMetadata,
    MetadataResponse,
    RequestHead,
    Segment,
    decode_request,
    encode_infer_response,
    encode_metadata_response,
)
from graphpipe.wire.dtypes import DTYPES, type_of

__all__ = ["SERVER", "Service", "encode_error"]

log = logging.getLogger("graphpipe.service")

SERVER = f"graphpipe/{__version__}"

# Checking or copying this much on the event loop would be felt by the other callers.
_OFF_LOOP_FROM = 256 * 1024
_PLANS_MAX = 256
# So small a message may ask for metadata, which is always there; one with a tensor is larger.
_DESCRIPTION_BYTES_MAX = 96
# Encoding less than this is a moment, whatever it is.
_MOMENT_BYTES = 8 * 1024


@dataclass(slots=True)
class Service:
    """One model behind its stages, answering bytes with bytes."""

    name: str
    model: Model
    stage: Stage
    cast: bool
    ignore_extra_inputs: bool
    metadata: MetadataResponse
    meter: Meter
    _metadata_bytes: bytes
    _signature: Signature
    _plans: dict[RequestHead, tuple[Plan, int]]

    @classmethod
    def of(
        cls,
        name: str,
        model: Model,
        stage: Stage,
        meter: Meter,
        *,
        cast: bool = False,
        ignore_extra_inputs: bool = False,
    ) -> Service:
        """The service of ``model``, whose first stage is ``stage``."""
        metadata = _metadata(name, model)
        encoded = encode_metadata_response(metadata)
        return cls(name, model, stage, cast, ignore_extra_inputs, metadata, meter, encoded, model.signature, {})

    async def answer(self, body: memoryview, deadline: float | None = None) -> tuple[list[Segment], int]:
        """The answer to a request's body, as segments, and the number of rows that were asked for.

        ``deadline`` is loop time. The arrays that the model gets borrow ``body``.

        Raises ServiceError for whatever is wrong with the request, the model or the load.
        """
        if len(body) < _OFF_LOOP_FROM:
            message = decode_request(body.toreadonly())
        else:
            # Numbers take microseconds at any size, but nobody knows yet that these are not a million strings.
            message = await asyncio.get_running_loop().run_in_executor(None, decode_request, body.toreadonly())
        if not isinstance(message, InferRequest):
            return [await self._current_metadata()], 0
        if self.model.signature is not self._signature:
            self._renew()
        plan, rows = self._plans.get(message.head) or self._plan(message.head)
        if len(body) >= _OFF_LOOP_FROM and not plan.plain:
            inputs = await asyncio.get_running_loop().run_in_executor(None, plan.inputs, message.inputs)
        else:
            inputs = plan.inputs(message.inputs)
        outputs = await self.stage.infer(Request(inputs, plan.outputs, message.head.config, deadline))
        began = perf_counter()
        try:
            wanted = [outputs[name] for name in plan.outputs] if plan.outputs else list(outputs.values())
            for array in wanted:
                if array.nbytes > _MOMENT_BYTES and _is_work(array):
                    segments = await asyncio.get_running_loop().run_in_executor(None, encode_infer_response, wanted)
                    break
            else:
                segments = encode_infer_response(wanted)
        except ServiceError as error:
            # The caller did nothing wrong: the model gave what cannot travel.
            raise _unsendable(self.name, error) from None
        except Exception:
            log.exception("model %r gave what is not an array", self.name)
            raise ModelFailed(f"model {self.name!r} failed on this input; the server's log has the cause") from None
        self.meter.encoded(rows, perf_counter() - began)
        return segments, rows

    def admit(self, size: int) -> None:
        """Raise Overloaded if a request of ``size`` bytes need not be read, as it would be refused in any case."""
        if size > _DESCRIPTION_BYTES_MAX:
            self.stage.admit()

    async def _current_metadata(self) -> bytes:
        version = self.metadata.version
        ask = getattr(self.model, "current_version", None)
        if ask is not None:
            # What is known of an upstream may be over by now, and whoever asks may be about to rely on it.
            try:
                await asyncio.get_running_loop().run_in_executor(None, ask)
                version = str(getattr(self.model, "version", ""))
            except GraphPipeError as error:
                log.info("the upstream of model %r does not say what it serves: %s", self.name, error)
                version = ""
        if self.model.signature is not self._signature or version != self.metadata.version:
            self._renew(version)
        return self._metadata_bytes

    def _renew(self, version: str | None = None) -> None:
        """Forget what followed from the signature: the model behind a remote model was replaced by another."""
        self._signature = self.model.signature
        self.metadata = _metadata(self.name, self.model)
        if version is not None:
            self.metadata = replace(self.metadata, version=version)
        self._metadata_bytes = encode_metadata_response(self.metadata)
        self._plans.clear()

    def _plan(self, head: RequestHead) -> tuple[Plan, int]:
        plan = self.model.signature.plan(
            [DTYPES[t] or np.dtype("V0") for t in head.types],
            head.shapes,
            head.input_names,
            head.output_names,
            cast=self.cast,
            ignore_extra_inputs=self.ignore_extra_inputs,
        )
        # What came first decides: inputs of different lengths have no rows in common anyway.
        rows = head.shapes[0][0] if head.shapes and head.shapes[0] else 1
        if head.is_remembered:  # others never come again, and may be large
            if len(self._plans) >= _PLANS_MAX:
                self._plans.clear()
            self._plans[head] = plan, rows
        return plan, rows

    def close(self) -> None:
        """Give back what the stages hold."""
        self.stage.close()


def find(services: Mapping[str, Service], name: str) -> Service:
    """The service of a model by name. Raises NotFound, which lists the names."""
    service = services.get(name)
    if service is None:
        raise NotFound(f"there is no model {name!r}; there are {', '.join(map(repr, services))}")
    return service


def encode_error(error: ServiceError) -> bytes:
    """An error as the body of an answer, for clients that can read it."""
    return b"".join(encode_infer_response([], [ErrorInfo(error.code, error.message)]))


def _is_work(array: NDArray[Any]) -> bool:
    """Whether encoding this takes long: many strings, or a large copy."""
    if array.dtype.kind in "OSU":
        return True
    return array.nbytes >= _OFF_LOOP_FROM and not array.flags.c_contiguous


def _unsendable(name: str, error: ServiceError) -> ServiceError:
    failed = ModelFailed(f"model {name!r} gave an answer that cannot travel: {error.message}")
    failed.code = error.code if error.http_status == 413 else failed.code
    return failed


def _metadata(name: str, model: Model) -> MetadataResponse:
    signature = model.signature
    return MetadataResponse(
        name=name,
        version=str(getattr(model, "version", "")),
        server=SERVER,
        description=str(getattr(model, "description", "")),
        inputs=_ios(signature.inputs, signature.input_names),
        outputs=_ios(signature.outputs, signature.output_names),
    )


def _ios(specs: Sequence[TensorSpec], names: Sequence[str]) -> tuple[IOMetadata, ...]:
    by_name = {spec.name: spec for spec in specs}
    return tuple(_io(by_name.get(name, TensorSpec(name))) for name in names)


def _io(spec: TensorSpec) -> IOMetadata:
    shape = tuple(d if isinstance(d, int) else -1 for d in spec.shape or ())
    words = [spec.description] if spec.description else []
    if spec.shape is None:
        words += [] if "any shape" in spec.description else ["any shape"]
    elif any(isinstance(d, str) for d in spec.shape):
        words.append(f"[{', '.join('?' if d is None else str(d) for d in spec.shape)}]")
    if spec.dtype == np.bool_:
        words.append("bool, as 0 and 1")
    return IOMetadata(spec.name, "; ".join(words), shape, type_of(spec.dtype))
