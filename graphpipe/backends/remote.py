"""Remote models: ``http://host:9000``, ``https://...``, ``unix:/path.sock``. A server is a model.

So ``graphpipe-serve --model http://upstream:9000`` is a proxy, and with batching what the original's
graphpipe-batcher was. Tensors, names and config go through as they came, and nothing is checked here: the upstream
does it, and may be another model tomorrow. Its errors go through with their code and status; only silence gets a new
one, 502 with the upstream's name. A caller's deadline is the upstream's deadline. An upstream that was gone is asked
for its metadata anew when it is back.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphpipe.backends.backend import Backend
from graphpipe.backends.model import Model
from graphpipe.backends.options import LoadOptions
from graphpipe.backends.owned import apart
from graphpipe.backends.upstream import TIMEOUT_S, Shown, Upstream
from graphpipe.client.calls import signature_of
from graphpipe.client.certificates import is_about_tls, is_secured
from graphpipe.errors import (
    DeadlineExceeded,
    Forbidden,
    GraphPipeError,
    InvalidRequest,
    LoadError,
    NoAnswer,
    ServiceError,
    TimedOut,
    Unauthenticated,
    UpstreamFailed,
)
from graphpipe.signature import Signature
from graphpipe.sources.web import is_model_url
from graphpipe.wire import MetadataResponse, encode_metadata_response

__all__ = ["BACKEND", "RemoteModel"]

Array = NDArray[Any]

_VERSION_TIMEOUT_S = 10.0


class RemoteModel:
    """A model on another server. Safe in threads; each call under way has a connection of its own."""

    # Its threads wait: there may be many.
    threads = 64
    shares_memory = False
    kind = "GraphPipe server"

    def __init__(self, upstream: Upstream, options: LoadOptions) -> None:
        self._upstream = upstream
        self._options = options
        self._stale = False
        self._known: MetadataResponse | None = None
        self._learn(self._metadata(None))

    @property
    def signature(self) -> Signature:
        """What the upstream says that it takes and gives."""
        return self._signature

    @property
    def version(self) -> str:
        """The upstream's version; empty if the upstream is no server of ours, whose version says nothing of its
        model.
        """
        return self._version

    @property
    def description(self) -> str:
        """The upstream's description."""
        return self._description

    def infer(
        self,
        inputs: Mapping[str, Array],
        outputs: Sequence[str] | None = None,
        *,
        config: str = "",
        timeout_s: float | None = None,
    ) -> dict[str, Array]:
        """Ask the upstream."""
        if timeout_s is not None and timeout_s <= 0:
            raise DeadlineExceeded(f"the caller's deadline passed before {self._upstream.url} was asked")
        try:
            if self._stale:
                self._learn(self._metadata(timeout_s))
            known = self._default_outputs
            names = list(outputs if outputs is not None else known)
            try:
                values = self._ask(inputs, names, config, timeout_s)
            except InvalidRequest:
                # Its caller may be wrong, or it may have another model than the one we know. Nothing ran.
                self._learn(self._metadata(timeout_s))
                if outputs is not None or self._default_outputs == known:
                    raise
                names = list(self._default_outputs)
                values = self._ask(inputs, names, config, timeout_s)
        except TimedOut as error:
            self._stale = True
            if timeout_s is not None and timeout_s < TIMEOUT_S:
                raise DeadlineExceeded(f"the caller's deadline passed before {self._upstream.url} answered") from error
            raise UpstreamFailed(f"no answer from upstream {self._upstream.url}: {error}") from error
        except NoAnswer as error:
            self._stale = True
            raise UpstreamFailed(f"no answer from upstream {self._upstream.url}: {error}") from error
        except (Unauthenticated, Forbidden) as error:
            # It is not this caller whom the upstream does not know.
            raise UpstreamFailed(
                f"upstream {self._upstream.url} does not let this server in: {error.message}"
            ) from error
        except ServiceError as error:
            _check_that_it_can_pass(error, self._upstream.url)
            raise
        named = dict(zip(names or [f"output_{i}" for i in range(len(values))], values, strict=False))
        for name in self._bools.intersection(named):
            named[name] = named[name].astype(bool)  # an answer bears no mark that it is
        # A message may have two tensors over the same bytes.
        return apart(named, {}) if len(named) > 1 else named

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """An array for an input, of no particular content; where the upstream can be shown memory, in such."""
        return self._upstream.ask(lambda shown: shown.client.empty("", shape, dtype))

    def close(self) -> None:
        """Close the connections."""
        self._upstream.close()

    def _ask(
        self, inputs: Mapping[str, Array], names: Sequence[str], config: str, timeout_s: float | None
    ) -> list[Array]:
        return self._upstream.ask(
            lambda shown: shown.client.execute_multi(
                list(inputs.values()), list(inputs), list(names), config=config, timeout=timeout_s
            )
        )

    def _metadata(self, timeout_s: float | None) -> MetadataResponse:
        return self._upstream.ask(lambda shown: shown.client.metadata(timeout=timeout_s))

    def current_version(self) -> str:
        """What the upstream serves at this moment: its version with all else that its metadata says, asked anew.

        Equal texts stand for equal answers to equal requests; empty if the upstream's version says nothing of its model.
        As whom it is asked is part of it: another may get other answers, or none.

        Raises a GraphPipeError if it cannot be asked.
        """

        def ask(shown: Shown) -> tuple[MetadataResponse, str]:
            return shown.client.metadata(timeout=_VERSION_TIMEOUT_S), shown.who

        try:
            meta, who = self._upstream.ask(ask)
        except NoAnswer:
            self._stale = True
            raise
        self._learn(meta)
        if not _version_of(meta):
            return ""
        version = f"{meta.version} {hashlib.sha256(encode_metadata_response(meta)).hexdigest()}"
        return f"{version} {who}" if who else version

    def _learn(self, meta: MetadataResponse) -> None:
        self._stale = False
        if meta == self._known:
            return  # whoever keeps what follows from the signature may go on
        signature = replace(signature_of(meta), variadic=True)
        self._signature = signature.with_defaults(self._options.inputs, self._options.outputs)
        # Of one that takes any number of tensors nobody knows the outputs: echo.
        any_number = any(spec.repeated for spec in signature.inputs)
        self._default_outputs = () if any_number else self._signature.output_names
        self._bools = frozenset(spec.name for spec in signature.outputs if spec.dtype == np.bool_)
        self._version = _version_of(meta)
        self._description = meta.description
        self._known = meta


def _version_of(meta: MetadataResponse) -> str:
    """The version of the model, where it is one: other servers write there what they like."""
    return meta.version if meta.server.startswith("graphpipe/") else ""


def _check_that_it_can_pass(error: ServiceError, url: str) -> None:
    """The upstream's refusal is our answer: the same words, code and status, unless that status is no refusal's.

    Raises UpstreamFailed for what is none at all.
    """
    if 300 <= error.http_status < 400:
        raise UpstreamFailed(f"upstream {url} does not answer itself: {error.message}") from error
    if error.http_status < 300:
        error.http_status = type(error).http_status


def _matches(source: str) -> bool:
    if source.startswith(("remote:", "unix:")):
        return True
    return source.startswith(("http://", "https://")) and not is_model_url(source)


def _open(source: str, options: LoadOptions) -> Model:
    url = source.removeprefix("remote:")
    upstream = Upstream(url, options)
    try:
        return RemoteModel(upstream, options)
    except (GraphPipeError, ValueError) as error:
        upstream.close()
        raise LoadError(f"{url}: {error}{_what_to_say(error, options)}") from error


def _what_to_say(error: Exception, options: LoadOptions) -> str:
    """The options that would have helped, for whoever has not heard of them."""
    if isinstance(error, Unauthenticated) and not options.upstream_api_key_file:
        return "; --upstream-api-key-file names the file that has it"
    return ". Here, --upstream-tls-ca and --upstream-tls-cert name such files" if is_about_tls(error) else ""


_USED = ("inputs", "outputs", "upstream_api_key_file")
_USED_BY_TLS = ("upstream_tls_ca", "upstream_tls_cert", "upstream_tls_key")


def _uses(source: str) -> tuple[str, ...]:
    return (*_USED, *_USED_BY_TLS) if is_secured(source.removeprefix("remote:")) else _USED


BACKEND = Backend("remote", _matches, _open, uses=_uses)
