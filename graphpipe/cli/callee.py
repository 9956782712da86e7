"""Whoever answers: a server somewhere, or a model loaded into this process. The commands do not care which."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

from graphpipe.errors import ModelFailed, Unreachable
from graphpipe.progress import Progress
from graphpipe.signature import Signature, TensorSpec

__all__ = ["Callee", "elsewhere", "is_server", "loaded", "server_at"]

Outputs = dict[str, NDArray[Any]]
# An input's name ("" where only its place is known) and its value.
Given = tuple[str, object]


class Callee(Protocol):
    """What a command needs of a model."""

    name: str
    version: str
    server: str
    description: str
    signature: Signature

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """What it takes, in the order that unnamed inputs have."""
        ...

    def call(self, inputs: Sequence[Given], outputs: Sequence[str], config: str, cast: bool) -> Outputs:
        """Run it once."""
        ...


def is_server(model: str) -> bool:
    """Whether a text that a command line has for a model is the URL of a server."""
    from graphpipe.backends.remote import BACKEND as REMOTE

    return REMOTE.matches(model)


def server_at(
    url: str, timeout_s: float, api_key: str | None = None, tls_ca: str = "", tls_cert: str = "", tls_key: str = ""
) -> Callee:
    """The model that a server has at a URL. Raises ValueError for what is none, with what to write, and for files that are
    no certificates.
    """
    from graphpipe.client.certificates import is_about_tls, is_secured, tls_context

    if not is_server(url):
        if hint := elsewhere(url):
            raise ValueError(hint)
        if url and Path(url).exists():
            raise ValueError(f"{url} is a file, and no server's URL; to run it here: graphpipe run {url}")
    url = url.removeprefix("remote:")
    tls = tls_context(tls_ca, tls_cert, tls_key, "--tls-")
    if tls is not None and not is_secured(url):
        raise ValueError("--tls-ca, --tls-cert and --tls-key are for a URL that begins with https://")
    try:
        return _Server(url, timeout_s, api_key=api_key, tls=tls)
    except Unreachable as error:
        if not is_about_tls(error):
            raise
        raise Unreachable(f"{error}. Here, --tls-ca and --tls-cert name such files") from error


@contextmanager
def loaded(source: str, options: Mapping[str, Any]) -> Iterator[Callee]:
    """The model of a source, in this process; ``options`` are those of ``graphpipe.load``.

    Raises LoadError, or ValueError for what is somewhere else, with what to write.
    """
    import os
    import sys

    from graphpipe.backends.find import load

    if not Path(source).exists() and (hint := elsewhere(source)):
        raise ValueError(hint)
    # `module:function` is looked for where the command is given, as with `python -m`.
    sys.path.insert(0, os.getcwd())
    with load(source, **options) as model:
        yield _InProcess(model)


def elsewhere(text: str) -> str:
    """What to write in the place of an address that nothing here reads; empty for any other text."""
    text = re.sub(r"(?<=//)[^/]*@", "", text)  # a login is in no message
    scheme, separator, rest = text.partition("://")
    if separator and scheme.lower() in ("grpc", "grpcs", "tcp", "ws", "wss"):
        return f"{text!r}: GraphPipe is spoken over HTTP; write http://{rest}"
    if separator and re.fullmatch(r"[A-Za-z][\w+.-]*", scheme) and scheme.lower() not in ("http", "https"):
        return (
            f"{text!r}: nothing here reads {scheme}://; expected a server's URL (http://HOST:PORT, https://HOST, "
            "unix:/path.sock), or for a model a file, or the http:// or https:// URL of one: download it first"
        )
    if re.fullmatch(r"([\w.-]+|\[[0-9A-Fa-f:.]+\]):\d{1,5}(/.*)?", text):
        return f"{text!r} has no scheme; write http://{text}"
    if re.fullmatch(r"localhost|(\d{1,3}\.){3}\d{1,3}", text):
        return f"{text!r} is no server's URL; write http://{text}:9000, if that is its port"
    return ""


class _Server:
    """A model behind a URL."""

    def __init__(self, url: str, timeout_s: float, **shown: Any) -> None:
        from graphpipe.client.calls import signature_of

        self._url = url
        self._timeout_s = timeout_s
        self._shown = shown
        meta = asyncio.run(self._metadata())
        self.name, self.version, self.server, self.description = meta.name, meta.version, meta.server, meta.description
        self.signature = signature_of(meta)

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        return self.signature.inputs

    def call(self, inputs: Sequence[Given], outputs: Sequence[str], config: str, cast: bool) -> Outputs:
        names = list(outputs) or [spec.name for spec in self.signature.outputs]
        values = asyncio.run(self._execute(inputs, names, config, cast))
        return dict(zip(names, values, strict=False))

    async def _metadata(self) -> Any:
        from graphpipe.client.asyncio_client import AsyncClient

        async with AsyncClient(self._url, self._timeout_s, **self._shown) as client:
            return await client.metadata()

    async def _execute(self, inputs: Sequence[Given], outputs: list[str], config: str, cast: bool) -> Any:
        from graphpipe.client.asyncio_client import AsyncClient

        with Progress("sending") as progress:

            def show(sent: int, to_send: int, received: int, to_receive: int | None) -> None:
                if sent < to_send:
                    progress.update(sent, to_send)
                else:
                    progress.label("receiving")
                    progress.update(received, to_receive)

            async with AsyncClient(self._url, self._timeout_s, progress=show, **self._shown) as client:
                names, values = [name for name, _ in inputs], [value for _, value in inputs]
                return await client.execute_multi(values, names, outputs, config=config, cast=cast)


class _InProcess:
    """A model in this process."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self.name, self.version, self.description, self.server = model.name, model.version, model.description, ""
        self.signature: Signature = model.signature

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        by_name = {spec.name: spec for spec in self.signature.inputs}
        return tuple(by_name.get(name, TensorSpec(name)) for name in self.signature.input_names)

    def call(self, inputs: Sequence[Given], outputs: Sequence[str], config: str, cast: bool) -> Outputs:
        defaults = self.signature.input_names
        names = [name or (defaults[i] if i < len(defaults) else f"input_{i}") for i, (name, _) in enumerate(inputs)]
        values = dict(zip(names, (value for _, value in inputs), strict=True))
        try:
            result: Outputs = self._model.infer(values, list(outputs) or None, config=config, cast=cast)
        except ModelFailed as failed:
            from graphpipe.backends.failure import in_words

            if failed.__cause__ is None:
                raise
            # The model is the caller's own: there is no server's log to look it up in.
            raise ModelFailed(f"{failed.message}: {in_words(failed.__cause__)}") from failed.__cause__
        return result
