"""A request's life, the same whichever way it came in."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from time import perf_counter
from typing import Any, TypeVar

from graphpipe.errors import DeadlineExceeded, let_go
from graphpipe.server.models.service import Service
from graphpipe.server.numbers.accesslog import Access, AccessLog, Asked, shown_path
from graphpipe.server.numbers.meter import Meter
from graphpipe.server.protocols.protocol import Answer
from graphpipe.server.quotas.quota import Quota
from graphpipe.server.quotas.quotas import Quotas, who_of
from graphpipe.server.stages.turns import PEER
from graphpipe.server.state import State
from graphpipe.server.target import Target
from graphpipe.server.taskless import Taskless

__all__ = ["Exchange", "peer_of"]

T = TypeVar("T")


class Exchange:
    """One request: how long it may take, what of it is under way, and what is counted and written of it.

    It is started when its head is known, at the latest by ``answer``, and then finished (it was answered, well or badly) or
    left (its caller is gone) exactly once. Whoever has one request at a time uses one exchange for all of them. ``peer`` is
    who gets a turn for it, ``caller`` what he is called, if that is known. With ``quotas`` each caller has limits.
    """

    __slots__ = (
        "_access_log",
        "_admit",
        "_began",
        "_bound",
        "_counted",
        "_deadline",
        "_done",
        "_late",
        "_loop",
        "_nobody",
        "_open",
        "_protocol",
        "_quota",
        "_quotas",
        "_service",
        "_state",
        "_timer",
        "_waiting",
        "_who",
        "caller",
        "peer",
    )

    def __init__(
        self,
        state: State,
        access_log: AccessLog,
        nobody: Meter,
        loop: asyncio.AbstractEventLoop,
        quotas: Quotas | None = None,
    ) -> None:
        self._state = state
        self._access_log = access_log
        self._nobody = nobody
        self._loop = loop
        self.peer: Hashable = None
        self.caller = ""
        self._open = False
        self._began = 0.0
        self._deadline: float | None = None
        self._late: Callable[[DeadlineExceeded], None] | None = None
        self._service: Service | None = None
        self._protocol = 0
        self._done: Callable[[Any, BaseException | None], None] | None = None
        self._waiting: Taskless[Any] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._admit: Callable[[int], None] | None = None  # looks at a body whose length nobody knew
        self._quotas = quotas
        self._who: Hashable = None  # by his certificate or address
        self._quota: Quota | None = None  # in which it counts, with so many bytes
        self._counted = 0
        self._bound = False  # whether there is a timer to end, a quota to leave, or a body to look at

    def belongs_to(self, peer: Hashable, caller: str) -> None:
        """Its next request is this one's."""
        self.peer, self.caller, self._who = peer, caller, None

    def start(self, service: Service | None, protocol: int = 0) -> None:
        """A request for this service begins; for None if it reaches none. ``protocol`` is a place in PROTOCOLS."""
        assert not self._open, "an exchange is started while its last request is not over"
        self._open = True
        self._began = 0.0
        self._service, self._protocol = service, protocol
        PEER.set(self.peer)

    def reach(self, target: Target, size: int) -> None:
        """It turns out which service a request that was started is for: its body says so, which has so many bytes.

        Raises as ``enter`` does.
        """
        assert self._open and self._waiting is None, "an exchange reaches a service before it starts, or too late"
        self._service, self._protocol = target.service, target.protocol
        if self._quotas is not None:
            self.enter(target, size)

    def limit(self, timeout_ms: int, late: Callable[[DeadlineExceeded], None]) -> None:
        """From now on its caller waits for so long: when that is over, what is waited for fails, or ``late`` is called."""
        assert self._open, "an exchange is limited that is not started"
        self._late = late
        self._deadline = self._loop.time() + timeout_ms / 1000
        self._timer = self._loop.call_at(self._deadline, self._on_deadline)
        self._bound = True

    def enter(self, target: Target, size: int) -> None:
        """It counts as one of its caller's from now on, with a body of so many bytes; -1: nobody knows, and ``grow`` tells.

        Raises Overloaded or TooLarge if that is more than its caller may have.
        """
        assert self._open, "an exchange enters that is not started"
        if size < 0:
            self._admit, self._bound = target.admit, True
        if target.service is not None:  # what reaches no model costs nothing
            self.come(target.who, size)

    def come(self, who: Hashable, size: int) -> None:
        """The same, of one whose model is not known before all of it is there. It may ``enter`` yet, and counts once."""
        if self._quotas is None:
            return
        if self._quota is not None:
            self.grow(size)
            return
        if who is None:
            who = self._who
            if who is None:
                who = self._who = who_of(self.caller, self.peer)
        now, counted = self._loop.time(), size if size > 0 else 0
        quota = self._quotas.of(who, now)
        quota.enter(counted, now)
        self._quota, self._counted, self._bound = quota, counted, True

    def grow(self, size: int) -> None:
        """Its body has, or announces, so many bytes by now. Raises as ``enter`` does, and what refuses a body like that."""
        if self._admit is not None:
            self._admit(size)
        if self._quota is not None and size > self._counted:
            self._quota.grow(self._counted, size, self._loop.time())
            self._counted = size

    @property
    def waits(self) -> bool:
        """Whether something is under way for it."""
        return self._waiting is not None

    def wait(self, coroutine: Coroutine[Any, Any, T], done: Callable[[T | None, BaseException | None], None]) -> None:
        """Have ``done`` called, once, with what a coroutine gives or raises, unless the caller leaves before."""
        assert self._open, "an exchange waits that is not started"
        assert self._waiting is None, "an exchange waits that waits already"
        self._state.in_flight += 1
        if self._service is not None:
            self._service.hold()
        self._done = done
        self._waiting = waiting = Taskless(coroutine, self._on_end)
        waiting.start()

    def answer(
        self,
        target: Target,
        body: memoryview | bytes,
        timeout_ms: int | None,
        done: Callable[[Answer | None, BaseException | None], None],
        request_id: str = "",
    ) -> Answer | None:
        """The answer to the whole body, where that takes no waiting; else None, and ``done`` is called later.

        That is with the answer or the error: DeadlineExceeded when ``timeout_ms`` are over, counted from ``limit`` if that
        was called. What is wrong with the request may also be raised here.
        """
        if not self._open:
            self._open = True
            self._service, self._protocol = target.service, target.protocol
            if self._quotas is not None:
                self._began = 0.0
                self.enter(target, len(body))
        if target.waits:
            PEER.set(self.peer)
        self._began = perf_counter()
        deadline = self._deadline
        if deadline is None and timeout_ms is not None:
            deadline = self._loop.time() + timeout_ms / 1000
        answer = target.answer(body, deadline, request_id)
        if isinstance(answer, tuple):
            return answer
        del body  # the stages hold it now; nobody else may
        self.wait(answer, done)
        if deadline is not None and self._waiting is not None and self._timer is None:
            self._timer = self._loop.call_at(deadline, self._on_deadline)
            self._bound = True
        return None

    def finish(
        self,
        status: int,
        transport: asyncio.BaseTransport | None,
        bytes_in: int,
        bytes_out: int,
        rows: int,
        asked: Asked,
    ) -> None:
        """It is answered with this status."""
        assert self._open, "an exchange is finished that is over"
        assert self._waiting is None, "an exchange is finished whose answer is under way"
        self._open = False
        if self._bound:
            self._unbind()
        # What was refused before it was whole took no time.
        seconds = perf_counter() - self._began if self._began else 0.0
        service = self._service
        (self._nobody if service is None else service.meter).answered(status, seconds, self._protocol)
        caller = asked.caller
        if caller is not None:
            caller.requests += 1
            if status != 200:
                caller.errors += 1
        if self._access_log.wanted():
            name = "" if service is None else service.name
            self._access_log.write(
                Access(
                    status,
                    asked.method,
                    shown_path(asked.path),
                    name,
                    rows,
                    bytes_in,
                    bytes_out,
                    seconds,
                    _peer(transport),
                    asked.request_id,
                    self.caller if caller is None else caller.name,
                )
            )

    def leave(self) -> None:
        """Its caller is gone: if it is not over, what is under way for it ends, and ``done`` is not called."""
        if not self._open:
            return
        self._open = False
        if self._waiting is not None:
            self._waiting.cancel()
            self._end_waiting()
            self._done = None
        if self._bound:
            self._unbind()
        if self._service is not None:
            self._service.meter.abandoned()

    def _end_waiting(self) -> None:
        self._waiting = None
        self._state.in_flight -= 1
        if self._service is not None:
            self._service.release()

    def _unbind(self) -> None:
        self._bound, self._admit = False, None
        if self._timer is not None:
            self._end_timer()
        if self._quota is not None:
            self._quota.leave(self._counted)
            self._quota = None

    def _end_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._deadline = self._late = None

    def _on_end(self, result: Any, error: BaseException | None) -> None:
        self._end_waiting()
        done, self._done = self._done, None
        assert done is not None
        done(result, error)
        if error is not None:
            let_go(error)  # among its frames are some that know it

    def _on_deadline(self) -> None:
        late = self._late
        self._end_timer()
        error = DeadlineExceeded("the caller's deadline passed before there was an answer")
        if self._waiting is not None:
            self._waiting.cancel()
            self._on_end(None, error)
        elif late is not None:
            late(error)


def peer_of(transport: asyncio.BaseTransport) -> Hashable:
    """Who is at the other end: his address without the port. Of a Unix socket nothing is known: each is a peer by itself.

    None: he has reset the connection already. What he sent may still be there to be read, but his address is not, so nothing
    that he asks for could be counted as his; nor would anybody hear the answer.
    """
    name: Hashable = transport.get_extra_info("peername")
    if isinstance(name, tuple):
        return str(name[0])
    return None if isinstance(transport.get_extra_info("sockname"), tuple) else object()


def _peer(transport: asyncio.BaseTransport | None) -> str:
    name = transport.get_extra_info("peername") if transport is not None else None
    return f"{name[0]}:{name[1]}" if isinstance(name, tuple) else "unix"
