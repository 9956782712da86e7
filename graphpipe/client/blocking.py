"""The blocking client: calls on pooled connections, from any number of threads."""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping, Sequence
from time import monotonic
from types import TracebackType
from typing import Any, Literal, TypeVar, overload

from numpy.typing import DTypeLike

from graphpipe.arguments import seconds
from graphpipe.arrays import OutputsAs
from graphpipe.buffers import BufferPool
from graphpipe.client.calls import Array, Reply
from graphpipe.client.connection import Connection
from graphpipe.client.failures import NotSent
from graphpipe.client.http1 import request_head
from graphpipe.client.memory import Tensors, is_possible
from graphpipe.client.options import ANSWER_BYTES_MAX, Options, made_anew, pickled
from graphpipe.client.same_host import SameHost
from graphpipe.client.steps import Calls, Request, Steps
from graphpipe.errors import GraphPipeError
from graphpipe.frames import Frame
from graphpipe.signature import Signature
from graphpipe.wire import MetadataResponse, Segment

__all__ = ["Client"]

T = TypeVar("T")

_IDLE_CONNECTIONS_MAX = 16
_IDLE_BUFFER_BYTES_MAX = 256 << 20


class Client:
    """Calls one model on one server.

    ``url`` is ``http://HOST:PORT``, ``https://...`` or ``unix:/path/to.sock``, with ``/models/NAME`` at the end for
    another model than the first (``unix:/path/to.sock:/models/NAME``). A login in it is sent as Basic, and never shown.
    ``timeout`` is in seconds, for each call as a whole, and is told to the server; ``connect_timeout`` is the part of it
    that a connection may take. Answers larger than ``answer_bytes_max`` are not taken. ``tls`` replaces the default TLS
    context. ``headers`` go with every call, and ``api_key`` as ``Authorization: Bearer``. ``proxy`` is a proxy's URL;
    None stands for the platform's (HTTP_PROXY, HTTPS_PROXY, NO_PROXY), "" for none.

    One client may be used by many threads, and by a child process after fork; a copy, or one that was pickled, has the
    same options and connects anew. A request is sent a second time only if the server closed a reused connection before
    it can have read all of it: a model may not be safe to run twice. After ``close`` a call is a GraphPipeError.

    Calls raise a ServiceError if the server said no (``code``, ``http_status``, ``message``, ``retry_after_s``), and
    NoAnswer if no answer was understood. ``safe_to_retry`` says of each whether the model has surely not run.
    """

    def __init__(
        self,
        url: str,
        timeout: float = 60.0,
        *,
        connect_timeout: float = 30.0,
        answer_bytes_max: int = ANSWER_BYTES_MAX,
        tls: ssl.SSLContext | None = None,
        headers: Mapping[str, str] | None = None,
        api_key: str | None = None,
        proxy: str | None = None,
    ) -> None:
        self._options = Options.of(
            url,
            timeout=timeout,
            connect_timeout=connect_timeout,
            answer_bytes_max=answer_bytes_max,
            tls=tls,
            headers=headers,
            api_key=api_key,
            proxy=proxy,
        )
        self._closed = False
        self._start()

    def _start(self) -> None:
        self._pid = os.getpid()
        # No lock: appending and popping are whole steps, and a child must not find one held by its parent's threads.
        self._idle: list[Connection] = []
        self._buffers = BufferPool(1 << 62, _IDLE_BUFFER_BYTES_MAX)
        possible = is_possible(self._options.address)
        self._same_host = SameHost(self._options, self._buffers) if possible else None
        self._calls = Calls(self._options.address, self._same_host.memory if self._same_host else None)

    @property
    def url(self) -> str:
        """The URL that this client calls."""
        return self._options.address.url

    # --- calls ---

    @overload
    def execute(
        self,
        value: object,
        input_name: str | None = None,
        output_name: str | None = None,
        *,
        config: str | None = "",
        cast: bool = False,
        timeout: float | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Array | Any: ...

    @overload
    def execute(
        self,
        value: object,
        input_name: str | None = None,
        output_name: list[str] | tuple[str, ...] = ...,
        *,
        config: str | None = "",
        cast: bool = False,
        timeout: float | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> list[Array]: ...

    def execute(
        self,
        value: object,
        input_name: str | None = None,
        output_name: str | list[str] | tuple[str, ...] | None = None,
        *,
        config: str | None = "",
        cast: bool = False,
        timeout: float | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Array | list[Array]:
        """Run the model on one input: an array if there is one output, else a list of them.

        ``output_name`` may be a list of names: the answer is then a list, in their order. ``value`` is an array, lists
        and numbers, which take the model's element type, or a frame, whose columns become one tensor ``[n, columns]``.
        ``cast`` allows conversion of an array's numbers too (float64 to float32, say). ``headers`` take the place of the
        client's of the same names.
        """
        return self._run(self._calls.execute(value, input_name, output_name, config, cast), timeout, headers)

    def execute_multi(
        self,
        inputs: Sequence[object],
        input_names: Sequence[str | None] | None = None,
        output_names: Sequence[str | None] | None = None,
        *,
        config: str | None = "",
        cast: bool = False,
        timeout: float | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> list[Array]:
        """Run the model on several inputs: the outputs in the order asked for, repeats included.

        Without names the inputs are the server's default inputs, in order, and its default outputs are answered.
        """
        return self._run(self._calls.execute_multi(inputs, input_names, output_names, config, cast), timeout, headers)

    @overload
    def infer(
        self,
        inputs: Mapping[str, object] | Frame,
        outputs: Sequence[str] | None = None,
        *,
        config: str | None = "",
        cast: bool = False,
        timeout: float | None = None,
        headers: Mapping[str, str] | None = None,
        outputs_as: Literal["numpy"] = "numpy",
        as_frame: Literal[False] = False,
    ) -> dict[str, Array]: ...

    @overload
    def infer(
        self,
        inputs: Mapping[str, object] | Frame,
        outputs: Sequence[str] | None = None,
        *,
        config: str | None = "",
        cast: bool = False,
        timeout: float | None = None,
        headers: Mapping[str, str] | None = None,
        outputs_as: OutputsAs = "numpy",
        as_frame: bool = False,
    ) -> Any: ...

    def infer(
        self,
        inputs: Mapping[str, object] | Frame,
        outputs: Sequence[str] | None = None,
        *,
        config: str | None = "",
        cast: bool = False,
        timeout: float | None = None,
        headers: Mapping[str, str] | None = None,
        outputs_as: OutputsAs = "numpy",
        as_frame: bool = False,
    ) -> Any:
        """Run the model on named inputs: the ``outputs`` asked for by name, or all of the model's defaults.

        A frame's columns are inputs by their names; for a model of one input they are one tensor ``[n, columns]``.
        ``outputs_as="torch"`` gives tensors, ``as_frame=True`` a frame with the index of the one that came.

        Answers carry no names on the wire; without ``outputs`` the model's metadata is fetched once to ask by name.
        """
        steps = self._calls.infer(inputs, outputs, config, cast, outputs_as, as_frame)
        return self._run(steps, timeout, headers)

    def metadata(self, *, timeout: float | None = None, headers: Mapping[str, str] | None = None) -> MetadataResponse:
        """What the model takes and gives, asked anew."""
        return self._run(self._calls.metadata(), timeout, headers)

    @property
    def signature(self) -> Signature:
        """What the model takes and gives: asked when it is first wanted, and whenever ``metadata`` is."""
        return self._run(self._calls.signature(), None, None)

    def empty(self, name: str, shape: int | Sequence[int], dtype: DTypeLike | None = None) -> Array:
        """An array for the input called ``name``, to be filled: its elements are anything. It has the element type that the
        model takes, unless ``dtype`` says another.

        A server on the same Unix socket reads it where it lies: fill it anew when the call has been answered, not before.
        Anywhere else, and after many of them, it is an array like any other.

        Raises InvalidRequest if nobody says the type, and what a call raises where the model is asked for it.
        """
        return self._run(self._calls.empty(name, shape, dtype), None, None)

    # --- connections ---

    def close(self) -> None:
        """Close the idle connections, and the others as their calls end; a call afterwards is an error."""
        self._closed = True
        if self._same_host is not None:
            self._same_host.closed = True
        self.close_idle()

    def close_idle(self) -> None:
        """Close the connections that no call is using; the client stays usable."""
        self._part_from_parent()
        idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()
        if self._same_host is not None:
            self._same_host.close_idle()

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
        return made_anew(type(self), self._options.given)

    def __deepcopy__(self, memo: dict[int, Any]) -> Client:
        return made_anew(type(self), self._options.given)

    def __reduce__(self) -> tuple[Any, ...]:
        return pickled(type(self), self._options.given)

    def _run(self, steps: Steps[T], timeout: float | None, headers: Mapping[str, str] | None) -> T:
        if self._closed:
            raise GraphPipeError(f"this client of {self.url} is closed; make another one")
        deadline = monotonic() + (self._options.timeout if timeout is None else seconds(timeout))
        start = self._options.start(headers)
        try:
            request = next(steps)
            while True:
                request = steps.send(self._call(start, request, deadline))
        except StopIteration as done:
            value: T = done.value
            return value

    def _call(self, start: bytes, request: Request, deadline: float) -> Reply:
        self._part_from_parent()
        if isinstance(request, Tensors):
            if self._same_host is not None:
                reply = self._same_host.call(start, request, deadline, self._put_back)
                if reply is not None:
                    return reply
            segments = request.as_bytes()
        else:
            segments = request
        left_ms = max(1, int((deadline - monotonic()) * 1000))
        head = request_head(start, sum(map(len, segments)), left_ms)
        connection = self._take()
        if connection is not None:
            try:
                return self._call_on(connection, head, segments, deadline)
            except NotSent:
                self._renewed()
        return self._call_on(Connection(self._options, deadline), head, segments, deadline)

    def _call_on(self, connection: Connection, head: bytes, segments: list[Segment], deadline: float) -> Reply:
        try:
            return connection.call(head, segments, deadline, self._buffers)
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
            self._renewed()

    def _renewed(self) -> None:
        """It may be another server by now."""
        if self._same_host is not None:
            self._same_host.memory.may_be_taken()

    def _put_back(self, connection: Connection) -> None:
        if connection.reusable and not self._closed and len(self._idle) < _IDLE_CONNECTIONS_MAX:
            self._idle.append(connection)
        else:
            connection.close()
