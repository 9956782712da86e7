"""The hot route: inference requests without surprises, from socket to service with as little as possible between.

One ``Connection`` per socket (``connection.py``); this is what they share: the targets that heads ask for, a scratch
buffer, heads of answers, the inbox and outbox of a turn of the loop. Every other request, and every odd one, is handed
with its connection to aiohttp, which knows all of HTTP (``odd.py``).

Time is counted in ticks by one sweep over all connections, since a timer for each would cost more than a small request.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Hashable
from functools import partial

from graphpipe.buffers import POOLED_FROM
from graphpipe.errors import NotFound, ServiceError, Unsupported
from graphpipe.memory.segment import available
from graphpipe.server.exchange import Exchange
from graphpipe.server.http.admission import Admission
from graphpipe.server.http.codings import takes_gzip
from graphpipe.server.http.connection import Connection
from graphpipe.server.http.cors import has_origin
from graphpipe.server.http.head import Head, accepted_codings, cut, field_of, parse
from graphpipe.server.http.heads import Heads
from graphpipe.server.http.keys import Keys, authorizations_in, is_page
from graphpipe.server.http.memory import Sharing
from graphpipe.server.http.refusal import error_headers, response_head
from graphpipe.server.http.request import Request
from graphpipe.server.http.shared import TICK_S, Member, Successor, TurnTaker
from graphpipe.server.numbers.accesslog import AccessLog
from graphpipe.server.numbers.counters import Counters
from graphpipe.server.numbers.families import PLACES
from graphpipe.server.protocols.dialects import Dialects
from graphpipe.server.protocols.graphpipe import ERROR_TYPE
from graphpipe.server.protocols.protocol import OCTETS, Fields
from graphpipe.server.quotas.quotas import Quotas
from graphpipe.server.settings.values import Settings
from graphpipe.server.stages.turns import by_turns
from graphpipe.server.state import State
from graphpipe.server.target import Target

__all__ = ["Hub"]

_SCRATCH_BYTES = 256 * 1024

# Heads of answers and refusals that are remembered for a moment.
_ANSWER_HEADS_MAX = 256
# So many requests are answered in one turn of the loop where several peers ask for more.
_TURN_REQUESTS_MAX = 64


class Hub:
    """What the connections of one server share, and the factory of their protocols."""

    def __init__(
        self,
        dialects: Dialects,
        admission: Admission,
        settings: Settings,
        state: State,
        counters: Counters,
        access_log: AccessLog,
        fallback: Callable[[], asyncio.Protocol],
        keys: Keys | None = None,
        quotas: Quotas | None = None,
    ) -> None:
        self.nobody = counters.meter("")  # counts what reached no model
        self._access_log = access_log
        self.admission = admission
        self.state = state
        self.fallback = fallback
        self.h2: Callable[[], Successor] | None = None  # where gRPC is spoken
        held_max = settings.in_flight_cap()
        self.sharing = Sharing(held_max, held_max) if available() else None  # where memory can be passed
        self.tick = 0
        self.connections: set[Member] = set()
        self._peers: Counter[Hashable] = Counter()
        self._heads: Heads[Request] = Heads()
        self._keys = keys
        self._quotas = quotas
        self.forget_heads()
        self.requests = self._heads.young
        self.scratch = memoryview(bytearray(_SCRATCH_BYTES))
        self._dialects = dialects
        self.settings = settings
        self._compresses = settings.compress_answers  # which aiohttp's way does
        self._has_pages = bool(settings.allow_origin)  # whose browsers are answered there too
        self.age_max_s = settings.connection_age_max_s
        self._connections_max = settings.connections_cap()
        self._loop = asyncio.get_running_loop()
        self._inbox: list[TurnTaker] = []
        self._outbox: list[tuple[TurnTaker, bytes]] = []
        self._turn_is_due = False
        self.ok_heads: dict[int | tuple[int, Fields], bytes] = {}
        self._refusals: dict[tuple[Hashable, ...], tuple[bytes, int]] = {}
        self.on_tick: Callable[[], None] = lambda: None
        self._sweeper = self._loop.call_later(TICK_S, self._sweep)

    def __call__(self) -> Connection:
        return Connection(self, self.exchange())

    def exchange(self) -> Exchange:
        """For the requests of a connection, or of one of its streams."""
        return Exchange(self.state, self._access_log, self.nobody, self._loop, self._quotas)

    def open(self, connection: Member) -> int:
        """A connection is there. How many there are beyond the limit."""
        self.connections.add(connection)
        self._peers[connection.peer] += 1
        return self.state.connections() - self._connections_max

    def leave(self, connection: Member) -> None:
        """It is gone, or somebody else's."""
        if connection in self.connections:
            self.connections.discard(connection)
            self._peers[connection.peer] -= 1
            if not self._peers[connection.peer]:
                del self._peers[connection.peer]

    def request(self, head: bytes) -> Request | None:
        """What a head asks for; None if it is not a hot one. ``requests`` has what is often asked for."""
        core, passing = cut(head)
        request = self._heads.find(core)
        if request is None:
            parsed = parse(core)
            if parsed is None or (self._compresses and takes_gzip(accepted_codings(core))):
                return None
            if self._has_pages and has_origin(core):
                return None
            target = self._target(parsed, core)
            if target is None:
                return None
            size = parsed.length if parsed.shown is None else parsed.length + parsed.shown.size
            small = 0 <= size < POOLED_FROM and size <= self.admission.body_bytes_max and parsed.shown is None
            request = Request(parsed, target, small, parsed.length, size)
            if target.service is not None:
                self._heads.saw(core, request)
        if passing is None:
            return request
        return Request(passing.joined(request.head), request.target, request.small, request.length, request.size)

    def _target(self, head: Head, core: bytes) -> Target | None:
        """Where a request goes, or what refuses it; None if its path leads nowhere. Finds out whose it is."""
        dialect = self._dialects.at(head.path)
        try:
            if self._keys is None:
                return Target.of(dialect.endpoint("POST", head.path, partial(field_of, core)), dialect.protocol)
            if is_page(head.path):
                return None
            grant = self._keys.grant(authorizations_in(core))
            head.caller = grant.caller
            find = partial(dialect.endpoint, "POST", head.path, partial(field_of, core))
            return grant.target(find, dialect.protocol, head.length)
        except (NotFound, Unsupported):
            return None
        except ServiceError as error:
            return Target.refusing(error, dialect.protocol)

    def forget_heads(self) -> None:
        """What a path means, or who may ask for it, may have changed."""
        self._heads.forget()
        self._heads.expect(len(self._keys) if self._keys is not None else 0)

    def ok_head(self, length: int, fields: Fields = ()) -> bytes:
        """The head of a good answer of ``length`` bytes. ``ok_heads`` has those of this moment, GraphPipe's by the length
        alone.
        """
        key = (length, fields) if fields else length
        head = self.ok_heads.get(key)
        if head is None:
            if len(self.ok_heads) >= _ANSWER_HEADS_MAX:
                self.ok_heads.clear()
            (_, kind), *more = fields or OCTETS
            head = self.ok_heads[key] = response_head(200, kind, length, dict(more))
        return head

    def take_soon(self, connection: TurnTaker) -> None:
        """Look at what arrived when this turn of the loop has read from all sockets.

        Reading, answering and writing by turns costs half as much again as doing each for all connections at once: the
        kernel and Python drive each other out of the processor's caches, and a write wakes its reader, who gets in the
        way of the rest where cores are few. Where there is but one connection, nobody is waited for.
        """
        if not self._turn_is_due:
            if len(self.connections) == 1:
                self._take(connection)
                return
            self._turn_is_due = True
            self._loop.call_soon(self._turn)
        self._inbox.append(connection)

    def take_next(self, connection: TurnTaker) -> None:
        """Look at what arrived before the last answer was out, in a turn of the loop to come."""
        self._inbox.append(connection)
        if not self._turn_is_due:
            self._turn_is_due = True
            self._loop.call_soon(self._turn)

    def write_soon(self, connection: TurnTaker, answer: bytes) -> None:
        """Write a small answer when this turn of the loop has made all of its answers."""
        if not self._turn_is_due:
            if len(self.connections) == 1:
                self._write(connection, answer)
                return
            self._turn_is_due = True
            self._loop.call_soon(self._turn)
        self._outbox.append((connection, answer))

    def _turn(self) -> None:
        inbox, self._inbox = self._inbox, []
        if len(inbox) > _TURN_REQUESTS_MAX and len(self._peers) > 1:
            inbox = self._shared_out(inbox)
        for connection in inbox:
            self._take(connection)
        outbox, self._outbox = self._outbox, []
        self._turn_is_due = bool(self._inbox)
        for connection, answer in outbox:
            self._write(connection, answer)

    def _shared_out(self, inbox: list[TurnTaker]) -> list[TurnTaker]:
        """What is looked at in this turn: the first of every peer, then the second. The others have the next one."""
        inbox = by_turns(inbox, _peer)
        self._inbox = inbox[_TURN_REQUESTS_MAX:]
        self._loop.call_soon(self._turn)
        return inbox[:_TURN_REQUESTS_MAX]

    def _take(self, connection: TurnTaker) -> None:
        try:
            connection.take()
        except BaseException as error:  # a bug, which must not cost the others their answers
            connection.give_up(error)

    def _write(self, connection: TurnTaker, answer: bytes) -> None:
        try:
            connection.write_small(answer)
        except BaseException as error:
            connection.give_up(error)

    def place_of(self, path: str) -> int:
        """As one of which protocol counts what is refused at a path: its place in PROTOCOLS."""
        return PLACES[self._dialects.at(path).protocol]

    def refusal(self, error: ServiceError, head: Head, keep_alive: bool) -> tuple[bytes, int]:
        """The answer that says no, and how many bytes of it are its body.

        Those of an overload are all alike, and remembered for a moment.
        """
        dialect = self._dialects.at(head.path)
        said = (dialect.protocol, error.http_status, error.message, error.retry_after_s)
        key = (*said, head.wants_message, head.request_id, head.is_old, keep_alive)
        answer = self._refusals.get(key)
        if answer is None:
            content_type, body = dialect.error_body(error, ERROR_TYPE if head.wants_message else "")
            headers = error_headers(error)
            if head.request_id:
                headers["X-Request-Id"] = head.request_id
            if not keep_alive:
                headers["Connection"] = "close"
            elif head.is_old:
                headers["Connection"] = "keep-alive"
            answer = response_head(error.http_status, content_type, len(body), headers) + body, len(body)
            if len(self._refusals) >= _ANSWER_HEADS_MAX:
                self._refusals.clear()
            self._refusals[key] = answer
        return answer

    def drain(self, silent_s: float = 0.0) -> None:
        """Close the connections on which nothing is under way; those that never said anything after ``silent_s``."""
        for connection in list(self.connections):
            connection.close_if_idle(silent_s)

    def close(self) -> None:
        """End the sweep and abort what is left."""
        self._sweeper.cancel()
        for connection in list(self.connections):
            connection.abort()

    def _sweep(self) -> None:
        self._sweeper = self._loop.call_later(TICK_S, self._sweep)
        self.tick += 1
        self.ok_heads.clear()  # they carry the date
        self._refusals.clear()
        self.on_tick()
        for connection in list(self.connections):
            connection.check(self.tick)


def _peer(connection: TurnTaker) -> Hashable:
    return connection.peer
