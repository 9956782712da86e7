"""The blocking client: calls on pooled connections, from any number of threads."""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping, Sequence
from time import monotonic
from types import TracebackType
from typing import Any, TypeVar

from graphpipe.arguments import seconds, whole
from graphpipe.buffers import BufferPool
from graphpipe.client.address import Address
from graphpipe.client.calls import Array, Reply
from graphpipe.client.connection import Connection
from graphpipe.client.copies import made_anew, pickled, tls_context
from graphpipe.client.failures import NotSent
from graphpipe.client.http1 import request_head
from graphpipe.client.steps import Calls, Steps
from graphpipe.wire import MetadataResponse, Segment

__all__ = ["Client"]

T = TypeVar("T")

_IDLE_CONNECTIONS_MAX = 16
_IDLE_BUFFER_BYTES_MAX = 256 << 20


class Client:
    """Calls one model on one server.

    ``url`` is ``http://HOST:PORT``, ``https://...`` or ``unix:/path/to.sock``, with ``/models/NAME`` at the end for
    another model than the first (``unix:/path/to.sock:/models/NAME``). ``timeout`` is in seconds, for each call as a
    whole, and is told to the server. Answers larger than ``response_bytes_max`` are not taken. ``tls`` replaces the
    default TLS context.

    One client may be used by many threads, and by a child process after fork; a copy, or one that was pickled, has the
    same options and connects anew. A request is sent a second time only if
    the server closed a reused connection before it can have read all of it: a model may not be safe to run twice.

    Calls raise a ServiceError if the server said no (``code``, ``http_status``, ``message``), and NoAnswer if no answer
    was understood.
    """

    def __init__(
        self,
        url: str,
        timeout: float = 60.0,
        *,
        response_bytes_max: int = 2**31 - 1,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._address = Address.of(url)
        self._timeout = seconds(timeout)
        self._response_bytes_max = whole(response_bytes_max, "response_bytes_max")
        self._tls = tls_context(tls, self._address)
        self._options = {"url": url, "timeout": timeout, "response_bytes_max": response_bytes_max, "tls": tls}
        self._start()

    def _start(self) -> None:
        self._pid = os.getpid()
        # No lock: appending and popping are whole steps, and a child must not find one held by its parent's threads.
        self._idle: list[Connection] = []
        self._closed = False
        self._buffers = BufferPool(1 << 62, _IDLE_BUFFER_BYTES_MAX)
        self._calls = Calls(self._address)

    @property
    def url(self) -> str:
        """The URL that this client calls."""
        return self._address.url

    # --- calls ---

    def execute(
        self,
        value: object,
        input_name: str | None = None,
        output_name: str | None = None,
        *,
        config: str = "",
        cast: bool = False,
        timeout: float | None = None,
    ) -> Array | list[Array]:
        """Run the model on one input: an array if there is one output, else a list of them.

        ``value`` is an array, or lists and numbers, which take the model's element type. ``cast`` allows conversion of
        an array's numbers too (float64 to float32, say).
        """
        return self._run(self._calls.execute(value, input_name, output_name, config, cast), timeout)

    def execute_multi(
        self,
        inputs: Sequence[object],
        input_names: Sequence[str | None] | None = None,
        output_names: Sequence[str | None] | None = None,
        *,
        config: str | None = "",
        cast: bool = False,
        timeout: float | None = None,
    ) -> list[Array]:
        """Run the model on several inputs: the outputs in the order asked for, repeats included.

        Without names the inputs are the server's default inputs, in order, and its default outputs are answered.
        """
        return self._run(self._calls.execute_multi(inputs, input_names, output_names, config, cast), timeout)

    def infer(
        self,
        inputs: Mapping[str, object],
        outputs: Sequence[str] | None = None,
        *,
        config: str = "",
        cast: bool = False,
        timeout: float | None = None,
    ) -> dict[str, Array]:
        """Run the model on named inputs: the ``outputs`` asked for by name, or all of the model's defaults.

        Answers carry no names on the wire; without ``outputs`` the model's metadata is fetched once to ask by name.
        """
        return self._run(self._calls.infer(inputs, outputs, config, cast), timeout)

    def metadata(self, *, timeout: float | None = None) -> MetadataResponse:
        """What the model takes and gives, asked anew."""
        return self._run(self._calls.metadata(), timeout)

    # --- connections ---

    def close(self) -> None:
        """Close the idle connections; calls under way finish."""
        self._part_from_parent()
        self._closed = True
        idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Client({self.url!r})"

    # A copy, also one in another process, has the same options and connections of its own.

    def __copy__(self) -> Client:
        return made_anew(type(self), self._options)

    def __deepcopy__(self, memo: dict[int, Any]) -> Client:
        return made_anew(type(self), self._options)

    def __reduce__(self) -> tuple[Any, ...]:
        return pickled(type(self), self._options)

    def _run(self, steps: Steps[T], timeout: float | None) -> T:
        deadline = monotonic() + (self._timeout if timeout is None else seconds(timeout))
        try:
            segments = next(steps)
            while True:
                segments = steps.send(self._call(segments, deadline))
        except StopIteration as done:
            value: T = done.value
            return value

    def _call(self, segments: list[Segment], deadline: float) -> Reply:
        self._part_from_parent()
        left_ms = max(1, int((deadline - monotonic()) * 1000))
        head = request_head(self._address, sum(map(len, segments)), left_ms)
        connection = self._take()
        if connection is not None:
            try:
                return self._call_on(connection, head, segments, deadline)
            except NotSent:
                pass
        return self._call_on(Connection(self._address, deadline, self._tls), head, segments, deadline)

    def _call_on(self, connection: Connection, head: bytes, segments: list[Segment], deadline: float) -> Reply:
        try:
            return connection.call(head, segments, deadline, self._buffers, self._response_bytes_max)
        finally:
            # After any exception, a KeyboardInterrupt too, an answer may still be on its way: never reuse.
            self._put_back(connection)

    def _part_from_parent(self) -> None:
        # A forked child must not talk into its parent's connections.
        if self._pid != os.getpid():
            self._start()

    def _take(self) -> Connection | None:
        while True:
            try:
                connection = self._idle.pop()
            except IndexError:
                return None
            if connection.still_open():
                return connection
            connection.close()

    def _put_back(self, connection: Connection) -> None:
        if connection.reusable and not self._closed and len(self._idle) < _IDLE_CONNECTIONS_MAX:
            self._idle.append(connection)
        else:
            connection.close()
