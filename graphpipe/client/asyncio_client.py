"""The asynchronous client: many calls at once on pooled connections, on one event loop."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import Any, Literal, TypeVar, overload

import numpy as np
from numpy.typing import DTypeLike

from graphpipe.arguments import came, seconds, tensors, whole
from graphpipe.arrays import OutputsAs
from graphpipe.buffers import BufferPool
from graphpipe.client.asyncio_connection import AsyncConnection, OnProgress, connect
from graphpipe.client.asyncio_pool import ConnectionPool
from graphpipe.client.calls import Array, Reply
from graphpipe.client.failures import NotSent
from graphpipe.client.http1 import request_head
from graphpipe.client.memory import Memory, Tensors, is_possible, refused
from graphpipe.client.options import ANSWER_BYTES_MAX, Options, made_anew, pickled
from graphpipe.client.steps import Calls, Request, Steps
from graphpipe.errors import GraphPipeError, TimedOut
from graphpipe.frames import Frame, is_frame
from graphpipe.signature import Signature
from graphpipe.wire import MetadataResponse, Segment

__all__ = ["AsyncClient"]

T = TypeVar("T")

_IDLE_BUFFER_BYTES_MAX = 256 << 20
# Encoding or decoding more than this may hold thousands of strings, or copies, that other tasks would feel.
_OFF_LOOP_BYTES = 1 << 20
_OFF_LOOP_ITEMS = 4096


class AsyncClient:
    """Calls one model on one server, from any number of tasks at once.

    The calls, errors and promises are those of Client. At most ``connections_max`` connections are open; further calls
    wait for one, first come first served, and the wait counts towards their ``timeout``. Cancelling a call closes the
    connection that it is on, and touches no other call.

    ``progress``, if given, is called as bytes go: with how many are sent, of how many, and how many are received, of
    how many (None until it is known); the numbers of what is over are 0.

    A client belongs to the event loop that it was first used on; a copy, or one that was pickled, to none yet. Close it,
    or use ``async with``.
    """

    def __init__(
        self,
        url: str,
        timeout: float = 60.0,
        *,
        connections_max: int = 100,
        connect_timeout: float = 30.0,
        answer_bytes_max: int = ANSWER_BYTES_MAX,
        tls: ssl.SSLContext | None = None,
        headers: Mapping[str, str] | None = None,
        api_key: str | None = None,
        proxy: str | None = None,
        progress: OnProgress | None = None,
    ) -> None:
        self._connections_max = whole(connections_max, "connections_max")
        if progress is not None and not callable(progress):
            raise TypeError(f"progress is a function; {came(progress)}")
        self._progress = progress
        self._options = Options.of(
            url,
            timeout=timeout,
            connect_timeout=connect_timeout,
            answer_bytes_max=answer_bytes_max,
            tls=tls,
            headers=headers,
            api_key=api_key,
            proxy=proxy,
            connections_max=connections_max,
            progress=progress,
        )
        address = self._options.address
        self._memory = Memory(self._options.answer_bytes_max) if is_possible(address) else None
        self._calls = Calls(address, self._memory)
        self._buffers = BufferPool(1 << 62, _IDLE_BUFFER_BYTES_MAX)
        self._pool: ConnectionPool | None = None
        self._home: tuple[int, asyncio.AbstractEventLoop] | None = None
        self._closed = False

    @property
    def url(self) -> str:
        """The URL that this client calls."""
        return self._options.address.url

    # --- calls ---

    @overload
    async def execute(
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
    async def execute(
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

    async def execute(
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
        steps = self._calls.execute(value, input_name, output_name, config, cast)
        return await self._run(steps, timeout, headers, _is_work(value, cast))

    async def execute_multi(
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
        inputs = tensors(inputs)
        steps = self._calls.execute_multi(inputs, input_names, output_names, config, cast)
        return await self._run(steps, timeout, headers, any(_is_work(value, cast) for value in inputs))

    @overload
    async def infer(
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
    async def infer(
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

    async def infer(
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
        values = inputs.values() if isinstance(inputs, Mapping) else [inputs]
        return await self._run(steps, timeout, headers, any(_is_work(value, cast) for value in values))

    async def metadata(
        self, *, timeout: float | None = None, headers: Mapping[str, str] | None = None
    ) -> MetadataResponse:
        """What the model takes and gives, asked anew."""
        return await self._run(self._calls.metadata(), timeout, headers, False)

    @property
    async def signature(self) -> Signature:
        """What the model takes and gives, to be awaited: asked when it is first wanted, and whenever ``metadata`` is."""
        return await self._run(self._calls.signature(), None, None, False)

    async def empty(self, name: str, shape: int | Sequence[int], dtype: DTypeLike | None = None) -> Array:
        """An array for the input called ``name``, to be filled; as Client.empty."""
        return await self._run(self._calls.empty(name, shape, dtype), None, None, False)

    # --- connections ---

    async def close(self) -> None:
        """Close the idle connections, and the others as their calls end; a call afterwards is an error."""
        self._closed = True
        if self._memory is not None:
            self._memory.close()
        if (pool := self._own_pool()) is not None:
            await pool.close()

    async def close_idle(self) -> None:
        """Close the connections that no call is using; the client stays usable."""
        if self._memory is not None:
            self._memory.close()
        if (pool := self._own_pool()) is not None:
            await pool.close_idle()

    def _own_pool(self) -> ConnectionPool | None:
        """The connections, if they are on this event loop, in this process."""
        return self._pool if self._home == (os.getpid(), asyncio.get_running_loop()) else None

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"AsyncClient({self.url!r})"

    # A copy, also one in another process, has the same options and connections of its own.

    def __copy__(self) -> AsyncClient:
        return made_anew(type(self), self._options.given)

    def __deepcopy__(self, memo: dict[int, Any]) -> AsyncClient:
        return made_anew(type(self), self._options.given)

    def __reduce__(self) -> tuple[Any, ...]:
        return pickled(type(self), self._options.given)

    async def _run(self, steps: Steps[T], timeout: float | None, headers: Mapping[str, str] | None, work: bool) -> T:
        if self._closed:
            raise GraphPipeError(f"this client of {self.url} is closed; make another one")
        loop = asyncio.get_running_loop()
        deadline = loop.time() + (self._options.timeout if timeout is None else seconds(timeout))
        start = self._options.start(headers)
        reply: Reply | None = None
        while True:
            request, value = await loop.run_in_executor(None, _step, steps, reply) if work else _step(steps, reply)
            if request is None:
                answer: T = value
                return answer
            reply = await self._call(start, request, deadline, work)
            work = work or len(reply.body) >= _OFF_LOOP_BYTES

    async def _call(self, start: bytes, request: Request, deadline: float, work: bool) -> Reply:
        pool = self._pool_here()
        connection: AsyncConnection | None = None
        try:
            async with asyncio.timeout_at(deadline):
                if isinstance(request, Tensors):
                    connection = await pool.take(self._memory is not None and self._memory.is_taken)
                    reply = await self._show(connection, start, request, deadline)
                    if reply is not None:
                        return reply
                    if not connection.reusable:
                        dead, connection = connection, None
                        connection = await pool.replace(dead)
                    segments = await self._away(request.as_bytes, work)
                else:
                    connection = await pool.take()
                    segments = request
                try:
                    return await self._call_on(connection, start, segments, deadline)
                except NotSent:
                    dead, connection = connection, None
                    connection = await pool.replace(dead)
                    return await self._call_on(connection, start, segments, deadline)
        except TimeoutError:
            raise TimedOut(self._what_was_late(connection)) from None
        finally:
            # After any exception an answer may still be on its way; the pool closes what cannot be used again.
            if connection is not None:
                pool.put_back(connection)

    async def _show(self, connection: AsyncConnection, start: bytes, tensors: Tensors, deadline: float) -> Reply | None:
        """The answer to a call whose tensors are shown; None: it has not run, and has to go as bytes."""
        if self._memory is None or not connection.shows:
            return None
        lend = partial(self._memory.lend, tensors)
        loan = await self._away(lend, tensors.bytes_to_copy >= _OFF_LOOP_BYTES)
        if loan is None:
            return None
        try:
            reply = await self._call_on(connection, start + loan.fields, loan.message, deadline, loan.fds)
            if not refused(reply):
                return loan.answered(reply, self.url)
        except NotSent:
            return None
        except BaseException:  # cancelled, say: the server may be at work
            connection.reusable = False
            loan.lose()
            raise
        self._memory.is_not_taken()
        return None

    async def _away(self, work: Callable[[], T], much: bool) -> T:
        """What ``work`` gives, in another thread if it is much."""
        return await asyncio.get_running_loop().run_in_executor(None, work) if much else work()

    async def _ask(self, connection: AsyncConnection) -> None:
        await connection.ask(self._buffers)
        if self._memory is not None and not connection.shows:
            self._memory.is_not_taken()

    async def _call_on(
        self,
        connection: AsyncConnection,
        start: bytes,
        segments: list[Segment],
        deadline: float,
        fds: Sequence[int] = (),
    ) -> Reply:
        left_ms = max(1, int((deadline - asyncio.get_running_loop().time()) * 1000))
        head = request_head(start, sum(map(len, segments)), left_ms)
        connection.on_progress = self._progress
        return await connection.call(head, segments, self._buffers, self._options.answer_bytes_max, fds=fds)

    def _what_was_late(self, connection: AsyncConnection | None) -> str:
        if connection is not None:
            what = "did not finish its answer" if connection.answering else "gave no answer"
            return f"{self.url} {what} in time"
        limit = f"connections_max={self._connections_max}"
        return f"no connection to {self.url} was free, or could be made, in time ({limit})"

    def _pool_here(self) -> ConnectionPool:
        """The connections on this event loop, in this process."""
        here = os.getpid(), asyncio.get_running_loop()
        if self._pool is None or self._home != here:
            if self._home is not None and self._home[0] == here[0] and not self._home[1].is_closed():
                raise RuntimeError(
                    "an AsyncClient belongs to the event loop that it was first used on; make one per loop"
                )
            # A forked child must not talk into its parent's connections; those of a closed loop are gone.
            self._home = here
            lost = None
            if self._memory is not None:
                self._memory.close()  # what is its parent's can be shown to nobody
                lost = self._memory.may_be_taken
            self._pool = ConnectionPool(lambda: connect(self._options), self._connections_max, self._ask, lost)
        return self._pool


def _step(steps: Steps[T], reply: Reply | None) -> tuple[Request | None, Any]:
    """What to send next, or None and what the call gives."""
    try:
        return (next(steps) if reply is None else steps.send(reply)), None
    except StopIteration as done:
        return None, done.value


def _is_work(value: object, cast: bool) -> bool:
    """Whether encoding this takes more than a moment: many strings, a large copy, long lists."""
    if not isinstance(value, np.ndarray):
        return isinstance(value, list | tuple) or is_frame(value)
    if value.dtype.kind in "OSU":
        return value.size > _OFF_LOOP_ITEMS
    return value.nbytes >= _OFF_LOOP_BYTES and (cast or not value.flags.c_contiguous)
