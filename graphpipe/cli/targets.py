"""From what a command line has for a target to somebody who can be asked under load."""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from graphpipe.bench.callee import Callee
from graphpipe.bench.in_process import InProcess
from graphpipe.bench.requests import Request, given, synthetic
from graphpipe.bench.server import Server
from graphpipe.cli.callee import elsewhere, is_server
from graphpipe.cli.inputs import values_of
from graphpipe.cli.presets import ImageForm
from graphpipe.signature import Signature, TensorSpec

__all__ = ["refuse_unused", "requests", "shape", "target"]

_IMAGE = ("preset", "mean", "std", "scale", "fit", "size")
# What is said of a request, of a server, and of threads; all else is about loading a model.
_OF_REQUEST = ("inputs", "ask", "config", "cast", "batch", "shape", "seed", "variants", *(f"image_{w}" for w in _IMAGE))
_OF_TLS = ("tls_ca", "tls_cert", "tls_key")
_OF_SERVER = ("timeout_s", "connections", "api_key", "header", *_OF_TLS)


@contextlib.asynccontextmanager
async def target(text: str, asked: Mapping[str, Any]) -> AsyncIterator[Callee]:
    """A server's URL, or a model's source, with what ``asked`` says: the options of ``graphpipe bench`` by name.

    Raises ValueError for what is neither, or cannot be sent; LoadError; the errors of a client.
    """
    about_request = {name: asked[name] for name in _OF_REQUEST}
    if is_server(text):
        server = await _server(
            text.removeprefix("remote:"), about_request, **{name: asked[name] for name in _OF_SERVER}
        )
        try:
            yield server
        finally:
            await server.close()
        return
    with _in_process(text, about_request, asked["threads"], _about_loading(asked)) as model:
        try:
            yield model
        finally:
            await model.close()


def refuse_unused(texts: Sequence[str], asked: Mapping[str, Any]) -> None:
    """Raise ValueError for what is said about a model in this process where all targets are servers, and about
    certificates where TLS is spoken to none.
    """
    from graphpipe.client.certificates import is_secured

    if any(asked[name] for name in _OF_TLS) and not any(is_secured(text.removeprefix("remote:")) for text in texts):
        raise ValueError("--tls-ca, --tls-cert and --tls-key are for a URL that begins with https://")
    said = [name for name, value in {**_about_loading(asked), "threads": asked["threads"]}.items() if value is not None]
    if said and all(map(is_server, texts)):
        raise ValueError(
            f"--{said[0].replace('_', '-')} is about a model in this process; a server has threads and options of its own"
        )


def _about_loading(asked: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in asked.items() if name not in (*_OF_REQUEST, *_OF_SERVER, "threads")}


async def _server(
    url: str,
    about_request: Mapping[str, Any],
    timeout_s: float,
    connections: int,
    api_key: str | None,
    header: Sequence[str],
    **files: str,
) -> Server:
    from graphpipe.client.asyncio_client import AsyncClient
    from graphpipe.client.calls import signature_of
    from graphpipe.client.certificates import is_secured, tls_context
    from graphpipe.client.options import ANSWER_BYTES_MAX, Options

    headers = dict(map(_header, header)) or None
    tls = tls_context(files["tls_ca"], files["tls_cert"], files["tls_key"], "--tls-") if is_secured(url) else None
    async with AsyncClient(url, timeout_s, headers=headers, api_key=api_key, tls=tls) as client:
        signature = signature_of(await client.metadata())
    options = Options.of(
        url, timeout=timeout_s, connect_timeout=min(timeout_s, 30.0), answer_bytes_max=ANSWER_BYTES_MAX, tls=tls,
        headers=headers, api_key=api_key, proxy=None,
    )  # fmt: skip
    return Server(options, options.address.url, requests(signature, signature.inputs, about_request), connections)


@contextlib.contextmanager
def _in_process(source: str, about_request: Mapping[str, Any], threads: int | None, options: Mapping[str, Any]) -> Any:
    import os
    import sys

    from graphpipe.backends.find import loaded
    from graphpipe.backends.options import LoadOptions
    from graphpipe.backends.unused import Said
    from graphpipe.machine import usable_cpus
    from graphpipe.setting import declared_in, read_keywords

    if not Path(source).exists() and (hint := elsewhere(source)):
        raise ValueError(hint)
    sys.path.insert(0, os.getcwd())  # `module:function` is looked for where the command is given
    spoken = {name: value for name, value in options.items() if value is not None}
    backend = spoken.pop("backend", "")
    values = LoadOptions(**read_keywords("bench", declared_in(LoadOptions), spoken))
    said = {name: Said(f"--{name.replace('_', '-')}") for name in spoken}
    # As a server does: several calls run at once, one thread each.
    values = replace(values, intra_threads=values.intra_threads or 1)
    with loaded(source, values, backend, said=said) as model:
        signature = model.signature
        by_name = {spec.name: spec for spec in signature.inputs}
        specs = [by_name.get(name, TensorSpec(name)) for name in signature.input_names]
        count = threads or getattr(model.model, "threads", 0) or usable_cpus()
        # A quick model runs on a server's event loop, one call after the other.
        if threads is None and getattr(model.model, "quick", False):
            count = 1
        yield InProcess(model, f"{source} in process", requests(signature, specs, about_request), count)


def requests(signature: Signature, specs: Sequence[TensorSpec], about: Mapping[str, Any]) -> list[Request]:
    """The requests to send, in turn. Raises ValueError or InvalidRequest for what cannot be one."""
    outputs = [name.strip() for name in about["ask"].split(",") if name.strip()]
    shapes = dict(map(shape, about["shape"]))
    if about["inputs"]:
        if shapes or about["batch"] > 1 or about["variants"] > 1:
            raise ValueError("--batch, --shape and --variants are for what is made up; --input says what is sent")
        images = ImageForm.of(**{what: about[f"image_{what}"] or "" for what in _IMAGE})
        values = values_of(about["inputs"], specs, images, signature.inputs)
        return [given(values, [*specs, *signature.inputs], about["cast"], outputs, about["config"])]
    return [
        synthetic(specs, about["batch"], shapes, about["seed"] + i, outputs, about["config"])
        for i in range(about["variants"])
    ]


def shape(text: str) -> tuple[str, tuple[int, ...]]:
    """What --shape says of an input. Raises ValueError."""
    name, equals, dims = text.rpartition("=")
    words = dims.split(",") if dims else []
    if not equals or not all(re.fullmatch(r"\s*\d{1,10}\s*", word) for word in words):
        raise ValueError(f"--shape: expected NAME=N,N,...; {text!r} came")
    return name, tuple(map(int, words))


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon:
        raise ValueError("--header: expected NAME:VALUE; what came has no colon")
    return name.strip(), value.strip()
