"""tritonclient.http, and with ``aio`` as the way tritonclient.http.aio: python triton_http.py HOST:PORT [aio]"""

from __future__ import annotations

import asyncio
import inspect
import sys
import time
from typing import Any

import tritonclient.http as blocking
import tritonclient.http.aio as aio
from asking import (
    ASKS,
    HUGE,
    MANY,
    NEXT,
    NO_NUMBER,
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
from tritonclient.utils import InferenceServerException

RUNNER = asyncio.Runner()
IS_AIO = sys.argv[2:] == ["aio"]


async def connected(url: str, **options: Any) -> Any:
    return aio.InferenceServerClient(url, **options)


def client(url: str, **options: Any) -> Any:
    if IS_AIO:
        return RUNNER.run(connected(url, **({"conn_timeout": options["network_timeout"]} if options else {})))
    return blocking.InferenceServerClient(url, **options)


def call(client: Any, name: str, *args: Any, **kwargs: Any) -> Any:
    answer = getattr(client, name)(*args, **kwargs)
    return RUNNER.run(answer) if inspect.isawaitable(answer) else answer


def inputs_of(ask: Ask, binary: bool) -> list[Any]:
    inputs = []
    for name, array in ask.inputs.items():
        each = blocking.InferInput(name, list(array.shape), datatype_of(array))
        each.set_data_from_numpy(array, binary_data=binary)
        each.set_shape(list(ask.shapes.get(name, array.shape)))
        each._datatype = ask.said.get(name, each._datatype)
        inputs.append(each)
    return inputs


def infer(
    asking: Any, ask: Ask, way: str, *, sends_binary: bool = True, wants_binary: bool | None = None, **more: Any
) -> None:
    """``wants_binary`` None names no output at all."""
    outputs = None
    if wants_binary is not None:
        outputs = [blocking.InferRequestedOutput(name, binary_data=wants_binary) for name in ask.outputs]
    try:
        result = call(
            asking,
            "infer",
            ask.model,
            inputs_of(ask, sends_binary),
            model_version=ask.version,
            outputs=outputs,
            request_id=ask.id,
            **more,
        )
    except InferenceServerException as error:
        say(ask.subject, ask.name, way, error=error.message(), status=error.status())
        return
    answer = result.get_response()
    arrays = {each["name"]: told(result.as_numpy(each["name"])) for each in answer["outputs"]}
    types = {each["name"]: each["datatype"] for each in answer["outputs"]}
    about = {key: answer.get(key) for key in ("id", "model_name", "model_version")}
    say(ask.subject, ask.name, way, outputs=arrays, types=types, **about)


def page(asking: Any, name: str, *args: Any, **more: Any) -> None:
    try:
        say("pages", name + "".join(f" {arg}" for arg in args), "http", answer=call(asking, name, *args, **more))
    except InferenceServerException as error:
        say("pages", name + "".join(f" {arg}" for arg in args), "http", error=error.message(), status=error.status())


def main(url: str) -> None:
    asking = client(url)
    for ask in ASKS:
        infer(asking, ask, "binary", wants_binary=True)
        if ask.json:
            infer(asking, ask, "json", sends_binary=False, wants_binary=False)
    for ask in [*TYPES, *SHAPES, *MANY]:
        infer(asking, ask, "unnamed")
        if ask.json:
            infer(asking, ask, "json-in", sends_binary=False, wants_binary=True)
            infer(asking, ask, "json-out", wants_binary=False)
    infer(asking, NO_NUMBER, "json-out", wants_binary=False)
    for coding in ("gzip", "deflate"):
        for ask in [*SHAPES, MANY[0], MANY[4]]:
            infer(asking, ask, f"{coding}-in", wants_binary=True, request_compression_algorithm=coding)
            infer(asking, ask, f"{coding}-out", wants_binary=True, response_compression_algorithm=coding)
            both = {"request_compression_algorithm": coding, "response_compression_algorithm": coding}
            infer(asking, ask, f"{coding}-json", sends_binary=False, wants_binary=False, **both)
    pages(asking)
    if not RECORDED:
        deadlines(url)
    infer(asking, HUGE, "json", sends_binary=False, wants_binary=False)
    infer(asking, HUGE, "binary", wants_binary=True)
    call(asking, "close")


def pages(asking: Any) -> None:
    page(asking, "is_server_live")
    page(asking, "is_server_ready")
    page(asking, "is_model_ready", "simple")
    page(asking, "is_model_ready", "simple", "1")
    page(asking, "is_model_ready", "nobody")
    page(asking, "is_model_ready", "simple", "7")
    page(asking, "get_server_metadata")
    page(asking, "get_model_metadata", "simple")
    page(asking, "get_model_metadata", "simple", "1")
    page(asking, "get_model_metadata", "mixed")
    page(asking, "get_model_metadata", "nobody")
    page(asking, "get_model_repository_index")
    page(asking, "get_inference_statistics", "simple")
    page(asking, "get_inference_statistics")
    page(asking, "load_model", "simple")
    page(asking, "unload_model", "simple")
    page(asking, "get_model_config", "simple")
    page(asking, "get_system_shared_memory_status")
    page(asking, "register_system_shared_memory", "region", "/nowhere", 64)
    page(asking, "get_cuda_shared_memory_status")
    page(asking, "get_trace_settings", "simple")
    page(asking, "get_log_settings")
    classified = [blocking.InferRequestedOutput("OUTPUT0", class_count=2)]
    whole = Ask("errors", "classification", "simple", PAIR, ["OUTPUT0"])
    parameters = {"priority": 2, "timeout": 1_000_000, "parameters": {"mine": "x", "number": 3}}
    try:
        call(asking, "infer", "simple", inputs_of(whole, True), outputs=classified)
        say("errors", "classification", "binary", answer="none expected")
    except InferenceServerException as error:
        say("errors", "classification", "binary", error=error.message(), status=error.status())
    infer(asking, PARAMETERS, "binary", wants_binary=True, **parameters)
    twice = Ask("errors", "input-twice", "simple", {"INPUT0": NUMBERS}, ["OUTPUT0"])
    try:
        call(asking, "infer", "simple", inputs_of(twice, True) * 2)
        say("errors", "input-twice", "binary", answer="none expected")
    except InferenceServerException as error:
        say("errors", "input-twice", "binary", error=error.message(), status=error.status())


def deadlines(url: str) -> None:
    """A caller who gives up, and one who comes after."""
    impatient = client(url, network_timeout=0.5)
    began = time.monotonic()
    try:
        infer(impatient, SLOW, "binary", wants_binary=True)
    except Exception as error:  # each transport has its own
        say("deadlines", "gives-up", "binary", error=type(error).__name__, seconds=time.monotonic() - began)
    call(impatient, "close")
    patient = client(url)
    infer(patient, NEXT, "binary", wants_binary=True)
    call(patient, "close")


if __name__ == "__main__":
    main(sys.argv[1])
