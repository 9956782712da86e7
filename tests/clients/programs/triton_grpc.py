"""tritonclient.grpc, and with ``aio`` as the way tritonclient.grpc.aio: python triton_grpc.py HOST:PORT [aio]"""

from __future__ import annotations

import asyncio
import inspect
import sys
from typing import Any

import tritonclient.grpc as blocking
import tritonclient.grpc.aio as aio
from asking import (
    ASKS,
    HUGE,
    MANY,
    NEXT,
    NUMBERS,
    PAIR,
    PARAMETERS,
    RECORDED,
    SHAPES,
    SLOW,
    TYPES,
    Ask,
    datatype_of,
    say,
    told,
)
from google.protobuf.json_format import MessageToDict
from tritonclient.utils import InferenceServerException

RUNNER = asyncio.Runner()
IS_AIO = sys.argv[2:] == ["aio"]


async def connected(url: str) -> Any:
    return aio.InferenceServerClient(url)


def call(client: Any, name: str, *args: Any, **kwargs: Any) -> Any:
    answer = getattr(client, name)(*args, **kwargs)
    return RUNNER.run(answer) if inspect.isawaitable(answer) else answer


def inputs_of(ask: Ask) -> list[Any]:
    inputs = []
    for name, array in ask.inputs.items():
        each = blocking.InferInput(name, list(array.shape), datatype_of(array))
        each.set_data_from_numpy(array)
        each.set_shape(list(ask.shapes.get(name, array.shape)))
        each._input.datatype = ask.said.get(name, each._input.datatype)
        inputs.append(each)
    return inputs


def infer(client: Any, ask: Ask, way: str, *, names_outputs: bool = True, **more: Any) -> None:
    outputs = [blocking.InferRequestedOutput(name) for name in ask.outputs] if names_outputs else None
    more = {"model_version": ask.version, "outputs": outputs, "request_id": ask.id, **more}
    try:
        result = call(client, "infer", ask.model, inputs_of(ask), **more)
    except InferenceServerException as error:
        say(ask.subject, ask.name, way, error=error.message(), status=error.status())
        return
    answer = result.get_response()
    arrays = {each.name: told(result.as_numpy(each.name)) for each in answer.outputs}
    types = {each.name: each.datatype for each in answer.outputs}
    about = {key: getattr(answer, key) for key in ("id", "model_name", "model_version")}
    say(ask.subject, ask.name, way, outputs=arrays, types=types, **about)


def page(client: Any, name: str, *args: Any) -> None:
    question = name + "".join(f" {arg}" for arg in args)
    try:
        answer = call(client, name, *args)
    except InferenceServerException as error:
        say("pages", question, "grpc", error=error.message(), status=error.status())
        return
    if not isinstance(answer, bool):
        answer = MessageToDict(answer, preserving_proto_field_name=True)
    say("pages", question, "grpc", answer=answer)


def main(url: str) -> None:
    client = RUNNER.run(connected(url)) if IS_AIO else blocking.InferenceServerClient(url)
    for ask in ASKS:
        infer(client, ask, "raw")
    for ask in [*TYPES, *SHAPES, *MANY]:
        infer(client, ask, "unnamed", names_outputs=False)
    for coding in ("gzip", "deflate"):
        for ask in [*SHAPES, MANY[0], MANY[4]]:
            infer(client, ask, coding, compression_algorithm=coding)
    pages(client)
    if not RECORDED:
        infer(client, SLOW, "raw", client_timeout=0.5)
    infer(client, NEXT, "raw", client_timeout=30.0)
    infer(client, HUGE, "raw")
    call(client, "close")


def pages(client: Any) -> None:
    page(client, "is_server_live")
    page(client, "is_server_ready")
    page(client, "is_model_ready", "simple")
    page(client, "is_model_ready", "simple", "1")
    page(client, "is_model_ready", "nobody")
    page(client, "is_model_ready", "simple", "7")
    page(client, "get_server_metadata")
    page(client, "get_model_metadata", "simple")
    page(client, "get_model_metadata", "simple", "1")
    page(client, "get_model_metadata", "mixed")
    page(client, "get_model_metadata", "nobody")
    page(client, "get_model_repository_index")
    page(client, "get_inference_statistics", "simple")
    page(client, "get_inference_statistics")
    page(client, "load_model", "simple")
    page(client, "unload_model", "simple")
    page(client, "get_model_config", "simple")
    page(client, "get_system_shared_memory_status")
    page(client, "register_system_shared_memory", "region", "/nowhere", 64)
    page(client, "get_cuda_shared_memory_status")
    page(client, "get_trace_settings", "simple")
    page(client, "get_log_settings")
    parameters = {"priority": 2, "timeout": 1_000_000, "parameters": {"mine": "x", "number": 3}}
    infer(client, PARAMETERS, "raw", **parameters)
    for name, inputs, outputs in (
        ("classification", PAIR, [blocking.InferRequestedOutput("OUTPUT0", class_count=2)]),
        ("input-twice", {"INPUT0": NUMBERS}, None),
    ):
        given = inputs_of(Ask("errors", name, "simple", inputs, []))
        try:
            call(client, "infer", "simple", given * (3 - len(given)), outputs=outputs)
            say("errors", name, "raw", answer="none expected")
        except InferenceServerException as error:
            say("errors", name, "raw", error=error.message(), status=error.status())


if __name__ == "__main__":
    main(sys.argv[1])
