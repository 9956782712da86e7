"""A connection that speaks HTTP/2: frames in, streams to whoever takes them, frames out.

The only file that knows the library below, which has framing, header compression and the states of streams, and no socket.
What it leaves open is decided here: how much may be on its way in (windows are opened by who takes the data, so that a
caller is slowed down where memory is short), whose turn it is on the way out (a piece of every stream's answer, then of the
next one's), how long anything may take, and what is too much of frames that cost the caller nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Hashable
from typing import Protocol, cast

from ngh2 import (
    Configuration,
    Connection,
    ConnectionClosed,
    DataReceived,
    ErrorCode,
    NGH2Error,
    PingReceived,
    Priority,
    RequestReceived,
    Role,
    Setting,
    SettingsReceived,
    StreamClosed,
    StreamReset,
    TrailersReceived,
    WindowUpdated,
)

from graphpipe.errors import MalformedMessage
from graphpipe.server.exchange import peer_of
from graphpipe.server.http.admission import Admission
from graphpipe.server.http.h2_stream import Begin, Headers, Stream
from graphpipe.server.http.shared import TICK_S
from graphpipe.server.http.tls import caller_of
from graphpipe.server.numbers.failures import FAILURES
from graphpipe.server.settings.values import PROGRESS_BYTES_PER_S, Settings
from graphpipe.server.state import State
from graphpipe.wire import Segment

__all__ = ["H2Connection", "Shared"]

log = logging.getLogger("graphpipe.front")

# Requests that are under way at once on one connection; a further one is refused.
_STREAMS_MAX = 128
# What comes of a request before anybody has looked at it.
_WINDOW = 64 * 1024 - 1
# All streams together: nothing that their own windows do not say.
_WINDOW_ALL = 2**31 - 1
# Of fields the library takes so much before it ends the connection; a call is refused much earlier.
_HEADERS_BYTES_MAX = 64 * 1024
_HEADERS_MAX = 256
# Resets: so many at once, and so many a second. A caller whose deadlines pass sends one for each.
_RESETS = (1000, 200)
# In one tick, of frames that cost nothing to send: what honest callers come nowhere near.
_SETTINGS_MAX = 32
_PINGS_MAX = 1000
_UPDATES_MAX = 2000
# A window may be opened for every so many bytes that were sent, and so often for each request, besides.
_UPDATE_BYTES = 1024
_UPDATES = 4
# Of that, so much may be left for later: who has paused opens his windows for all at once that came meanwhile.
_UPDATES_LEFT_MAX = 1 << 16
# What is read at once when more is held already than may be.
_LITTLE = 4 * 1024

# Up to here an answer is one piece, and needs no turn.
_JOIN_MAX = 32 * 1024
# Frame by frame with the answers that are under way beside it, whatever its caller thinks of their order.
_BY_TURNS = Priority(urgency=3, incremental=True)
# What is given to the transport at once.
_CHUNK = 128 * 1024

# After a last word, what still comes is read and dropped for so long: closing at once would destroy the word.
_DISCARD_S = 2.0
# While more is held than may be, an answer may make no progress for no longer than this.
_PRESSED_S = 2.0
# Over the limit of connections, so many are told so; further ones are cut.
_TOLD_MAX = 64


class Shared(Protocol):
    """What a connection knows of what it shares with the others."""

    scratch: memoryview
    tick: int
    state: State
    settings: Settings
    age_max_s: float
    admission: Admission

    def open(self, connection: H2Connection) -> int:
        """A connection is there. How many there are beyond the limit: it is to say so then, and to go."""
        ...

    def leave(self, connection: H2Connection) -> None:
        """It is gone."""
        ...


class H2Connection(asyncio.BufferedProtocol):
    """One caller's connection. ``begin`` has a handler for each of its streams."""

    transport: asyncio.Transport

    def __init__(self, shared: Shared, begin: Begin) -> None:
        self._shared = shared
        self._begin = begin
        self._h2 = Connection(
            Role.SERVER,
            Configuration(
                auto_window_update=False,
                max_inbound_header_list_size=_HEADERS_BYTES_MAX,
                max_inbound_header_count=_HEADERS_MAX,
                stream_reset_rate_limit=_RESETS,
            ),
        )
        self._streams: dict[int, Stream] = {}
        self._ready: list[Stream] = []
        self._uncounted: list[tuple[Stream, int]] = []  # small answers, which mostly are out at once
        self._sending: deque[Stream] = deque()  # whose answers are not wholly with the library
        self._refused: list[int] = []  # answered in a word while the request still comes
        self._last = 0
        self._greeted = self._noticed = self._going = self._over = False
        self._paused = False
        self._mark = 0  # what was left when writing paused, or was looked at last
        self._flush_is_due = self._flushing = self._receiving = False
        self._since = self._born = self._stalled = shared.tick
        self._settings = self._pings = self._updates = self._sent = self._begun = 0  # in this tick
        self._updates_left = 0  # from ticks before
        self.peer: Hashable = None
        self.caller = ""

    # --- the transport's calls ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        is_tls = transport.get_extra_info("sslcontext") is not None
        self.transport.set_write_buffer_limits(high=1 if is_tls else 0)
        self.peer = peer_of(transport)
        if self.peer is None:
            self.abort()
            return
        if is_tls:
            self.caller = caller_of(transport)
        self._h2.initiate_connection(
            {
                Setting.MAX_CONCURRENT_STREAMS: _STREAMS_MAX,
                Setting.INITIAL_WINDOW_SIZE: _WINDOW,
                Setting.MAX_HEADER_LIST_SIZE: _HEADERS_BYTES_MAX,
                Setting.NO_RFC7540_PRIORITIES: 1,
            }
        )
        self._h2.set_local_window_size(_WINDOW_ALL)
        over = self._shared.open(self)
        if over > 0:
            self._end(ErrorCode.ENHANCE_YOUR_CALM, b"as many connections are open as may be (--connections-max)")
        if over > _TOLD_MAX:
            self.abort()
        self._flush()

    def get_buffer(self, sizehint: int) -> memoryview:
        scratch = self._shared.scratch
        return scratch[:_LITTLE] if self._shared.admission.is_full else scratch

    def buffer_updated(self, count: int) -> None:
        self.receive(self._shared.scratch[:count])

    def receive(self, data: memoryview | bytes) -> None:
        """Look at what has come."""
        if self._over:
            return
        self._receiving = True
        try:
            self._h2.receive_data(data)
        except NGH2Error as error:
            self._look()
            self._end(ErrorCode.ENHANCE_YOUR_CALM, str(error).encode()[:200], is_broken=True)
        else:
            self._look()
            self._answer()
        finally:
            self._receiving = False
        self._flush()

    def _answer(self) -> None:
        """Answer what is whole by now, and still wanted."""
        if not self._ready:
            return
        ready, self._ready = self._ready, []
        for stream in ready:
            if (handler := stream.handler) is not None:
                try:
                    handler.answer()
                except BaseException as error:
                    self._give_up_on(stream, error)

    def eof_received(self) -> bool:
        """He sends no more, so he reads no more either: without window updates nothing could be sent to him."""
        return False

    def connection_lost(self, error: Exception | None) -> None:
        self._over = True
        self._shared.leave(self)
        for stream in list(self._streams.values()):
            self._closed(stream)
        self._sending.clear()

    def pause_writing(self) -> None:
        self._paused = True
        self._stalled, self._mark = self._shared.tick, self.transport.get_write_buffer_size()

    def resume_writing(self) -> None:
        self._paused = False
        self._flush()

    # --- what came ---

    def _look(self) -> None:
        for event in self._h2.events():
            if isinstance(event, DataReceived):
                self._data(event)
            elif isinstance(event, RequestReceived):
                self._request(event)
            elif isinstance(event, WindowUpdated):
                self._updates += 1
            elif isinstance(event, (StreamClosed, StreamReset)):
                if (stream := self._streams.get(event.stream_id)) is not None:
                    self._closed(stream)
            elif isinstance(event, TrailersReceived):
                if (stream := self._streams.get(event.stream_id)) is not None:
                    self._ended(stream)
            elif isinstance(event, PingReceived):
                self._pings += 1
            elif isinstance(event, SettingsReceived):
                self._settings += 1
                self._greeted = True
            elif isinstance(event, ConnectionClosed):
                self._end(None, is_broken=event.error_code != ErrorCode.NO_ERROR)
        if (
            self._pings > _PINGS_MAX
            or self._settings > _SETTINGS_MAX
            or self._updates > _UPDATES_MAX + self._updates_due()
        ):
            self._end(ErrorCode.ENHANCE_YOUR_CALM, b"more frames without content than anybody needs")

    def _updates_due(self) -> int:
        """So many updates of windows are owed to what was sent and asked."""
        return self._updates_left + _UPDATES * self._begun + self._sent // _UPDATE_BYTES

    def _request(self, event: RequestReceived) -> None:
        self._last = number = event.stream_id
        stream = self._streams[number] = Stream(self, number)
        self._begun += 1
        try:
            stream.handler = self._begin(stream, event.headers)
        except BaseException as error:  # a bug, which must not cost the others their answers
            self._give_up_on(stream, error)
            return
        if event.end_stream:
            self._ended(stream)

    def _data(self, event: DataReceived) -> None:
        number, data = event.stream_id, event.data
        stream = self._streams.get(number)
        if stream is None or stream.handler is None:
            self.acknowledge(number, len(data))
            return
        if data:
            try:
                stream.handler.data(data)
            except BaseException as error:
                self._give_up_on(stream, error)
            if stream.unread is None:
                self.acknowledge(number, len(data))
            else:
                stream.unread += len(data)
        if event.end_stream:
            self._ended(stream)

    def _ended(self, stream: Stream) -> None:
        stream.has_ended = True
        if (handler := stream.handler) is not None:
            try:
                handler.end()
            except BaseException as error:
                self._give_up_on(stream, error)

    def _closed(self, stream: Stream) -> None:
        """It is over, whoever ended it."""
        self._streams.pop(stream.id, None)
        if not self._streams:
            self._since = self._shared.tick
        handler, stream.handler, stream.is_over = stream.handler, None, True
        if stream.unread and not self._over:
            stream.let_go()  # or as much less would come of all others
        if stream.held:
            stream.drop()
            self._shared.admission.hold(-stream.held)
            stream.holds(0, 0)
        if handler is not None:
            try:
                handler.gone()
            except BaseException as error:
                FAILURES.tell(log, "a stream's end failed", error=error)

    def _give_up_on(self, stream: Stream, error: BaseException) -> None:
        FAILURES.tell(log, "a stream is cut", error=error)
        self.reset(stream, ErrorCode.INTERNAL_ERROR)

    # --- for streams ---

    def answer_soon(self, stream: Stream) -> None:
        """Have the handler's ``answer`` called when all that has come was looked at: the next frame may take it back."""
        self._ready.append(stream)
        if not self._receiving:
            self._answer()

    def acknowledge(self, number: int, count: int) -> None:
        """So much of a stream has been taken: as much may come again."""
        try:
            self._h2.acknowledge_received_data(count, number)
        except (NGH2Error, ValueError):  # it is over
            return

    def widen(self, number: int, size: int, unread: int) -> None:
        """Have ``size`` bytes come on a stream; ``unread`` ones had not been acknowledged."""
        try:
            if size > _WINDOW:
                self._h2.set_local_window_size(size, stream_id=number)
        except NGH2Error:  # it is over
            return
        if unread:
            self.acknowledge(number, unread)
        self._flush_soon()

    def respond(self, stream: Stream, headers: Headers, segments: list[Segment], trailers: Headers) -> None:
        """Send an answer, in turn with those of others."""
        if stream.is_over or self._over:
            return
        number, h2 = stream.id, self._h2
        length = sum(map(len, segments))
        try:
            h2.send_response(number, headers)
            if length <= _JOIN_MAX:
                h2.send_data(number, b"".join(segments))
                h2.send_trailers(number, trailers)
                self._uncounted.append((stream, length))
            else:
                h2.set_stream_priority(number, _BY_TURNS, ignore_client_signal=True)
                stream.queue(segments, trailers)
                self._sending.append(stream)
                self._count(stream, length)
        except NGH2Error:  # it is over, and that will be told
            return
        if not self._receiving:
            self._flush_soon()

    def refuse(self, stream: Stream, headers: Headers, body: bytes = b"") -> None:
        """Send an answer of a few words."""
        if stream.is_over or self._over:
            return
        try:
            self._h2.send_response(stream.id, headers, end_stream=not body)
            if body:
                self._h2.send_data(stream.id, body, end_stream=True)
        except NGH2Error:
            return
        stream.let_go()
        stream.holds(len(body), self._shared.tick)
        self._shared.admission.hold(len(body))
        if not stream.has_ended:
            self._refused.append(stream.id)
        self._flush_soon()

    def reset(self, stream: Stream, code: int) -> None:
        """Break a stream off."""
        if self._over:
            return
        stream.let_go()
        try:
            self._h2.reset_stream(stream.id, code)
        except NGH2Error:
            return
        self._flush_soon()

    def cancel(self, stream: Stream) -> None:
        """Break a stream off."""
        self.reset(stream, ErrorCode.CANCEL)

    # --- what goes out ---

    def _count(self, stream: Stream, length: int) -> None:
        """So much of an answer is here until the stream is over."""
        stream.holds(length, self._shared.tick)
        self._shared.admission.hold(length)

    def _flush_soon(self) -> None:
        """Once for all that is answered in this turn of the loop."""
        if not (self._flush_is_due or self._receiving):
            self._flush_is_due = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_is_due = False
        if self._over or self._flushing:
            return
        self._flushing = True
        try:
            while not (self._paused or self._over):
                if self._sending:
                    self._feed()
                data = self._h2.data_to_send(_CHUNK)
                if data:
                    self._sent += len(data)
                    self.transport.write(data)
                    if len(data) == _CHUNK or self._sending:
                        continue
                if not self._refused:
                    break
                # Only now: with a reset the library drops what it has not sent of a stream.
                refused, self._refused = self._refused, []
                for number in refused:
                    if number in self._streams:
                        self._h2.reset_stream(number, ErrorCode.NO_ERROR)
            self._look()
            if self._uncounted:
                uncounted, self._uncounted = self._uncounted, []
                for stream, length in uncounted:
                    if not stream.is_over:
                        self._count(stream, length)
        except NGH2Error as error:
            self._end(ErrorCode.INTERNAL_ERROR, str(error).encode()[:200], is_broken=True)
        finally:
            self._flushing = False
        if self._going and not self._streams and not self._over:
            self._close()

    def _feed(self) -> None:
        """Have the library take the next piece of the answer whose turn it is, and whose caller takes one."""
        sending = self._sending
        for _ in range(len(sending)):
            stream = sending.popleft()
            if stream.is_over:
                continue
            if self._h2.queued_body_size(stream.id):
                sending.append(stream)
                continue
            piece, is_last = stream.next_piece()
            try:
                self._h2.send_data(stream.id, piece)
                if is_last:
                    self._h2.send_trailers(stream.id, stream.trailers)
                else:
                    sending.append(stream)
            except NGH2Error:  # it is over
                continue
            return

    # --- the end ---

    def _end(self, code: int | None, why: bytes = b"", *, is_broken: bool = False) -> None:
        """The last word, and what is still to come is dropped. ``code`` is None where it has been said."""
        if self._over:
            return
        try:
            if code is not None and not is_broken:
                self._h2.send_goaway(code, last_stream_id=self._last, debug_data=why)
            while data := self._h2.data_to_send(_CHUNK):
                self.transport.write(data)
        except NGH2Error:
            is_broken = True
        if code is not None and is_broken:
            self.transport.write(_goaway(self._last, code, why))
        if code is None and not is_broken:
            self.transport.close()
        self._over = True
        self._since = self._shared.tick
        if why:
            error = MalformedMessage(why.decode("ascii", "replace"))
            message = "a caller of HTTP/2 is sent away: %s"
            FAILURES.tell(log, message, error.message, error=error, cause=str, level=logging.INFO)
        for stream in list(self._streams.values()):
            self._closed(stream)
        self._sending.clear()
        if self.transport.can_write_eof() and not self.transport.is_closing():
            self.transport.write_eof()  # it need not wait for the end of its own words

    def _close(self) -> None:
        """Nothing is under way: say so, and close."""
        try:
            self._h2.send_goaway(ErrorCode.NO_ERROR, last_stream_id=self._last)
            while data := self._h2.data_to_send(_CHUNK):
                self.transport.write(data)
        except NGH2Error:
            pass
        self._over = True
        self._since = self._shared.tick
        self.transport.close()

    def _go(self) -> None:
        """Take no more requests; those that are under way are answered yet."""
        if not self._going and not self._over:
            self._going = True
            try:
                self._h2.send_goaway(ErrorCode.NO_ERROR, last_stream_id=self._last)
            except NGH2Error:
                return
            self._flush()

    def _notice(self) -> None:
        """Say that it will be over soon: new requests should go elsewhere, and are answered yet."""
        if not self._noticed and not self._over:
            self._noticed = True
            try:
                self._h2.send_shutdown_notice()
            except NGH2Error:
                return
            self._flush()

    # --- time ---

    def check(self, tick: int) -> None:
        """End what has taken too long; called with every tick."""
        self._updates_left = min(_UPDATES_LEFT_MAX, max(0, self._updates_due() - self._updates))
        self._settings = self._pings = self._updates = self._sent = self._begun = 0
        shared, settings = self._shared, self._shared.settings
        idle_s = (tick - self._since) * TICK_S
        if self._over:
            if idle_s > _DISCARD_S:  # over TLS he was to say that he has understood
                waits = self._paused or self.transport.is_closing()
                self.transport.abort() if waits else self.transport.close()
            return
        for stream in list(self._streams.values()):
            if stream.held:
                self._check_sending(stream, tick)
            elif stream.handler is not None:
                try:
                    stream.handler.check(tick)
                except BaseException as error:
                    self._give_up_on(stream, error)
        if self._paused and self._stands_still(tick):
            log.info("a caller did not read its answers for %g s (--send-timeout-s)", self._send_limit_s())
            self.abort()
        elif not self._streams and idle_s > (
            settings.keepalive_timeout_s if self._greeted else settings.head_timeout_s
        ):
            self._close()
        elif self._noticed and not shared.state.draining:  # for its age: whoever had not heard of it then has now
            self._go()
        elif shared.state.draining or (shared.age_max_s and (tick - self._born) * TICK_S > shared.age_max_s):
            self._notice()

    def _send_limit_s(self) -> float:
        limit_s = self._shared.settings.send_timeout_s
        return min(limit_s, _PRESSED_S) if self._shared.admission.is_full else limit_s  # he keeps others out

    def _stands_still(self, tick: int) -> bool:
        """Whether what the transport has does not get less."""
        waited_s = (tick - self._stalled) * TICK_S
        if waited_s <= self._send_limit_s():
            return False
        left = self.transport.get_write_buffer_size()
        moved, self._stalled, self._mark = self._mark - left, tick, left
        return moved < PROGRESS_BYTES_PER_S * waited_s

    def _check_sending(self, stream: Stream, tick: int) -> None:
        if stream.waited_s(tick) <= self._send_limit_s():
            return
        pace = stream.progress(stream.unsent + self._h2.queued_body_size(stream.id), tick)
        if pace is not None and pace < PROGRESS_BYTES_PER_S:
            log.info("a caller did not read an answer (--send-timeout-s)")
            self.reset(stream, ErrorCode.CANCEL)

    def close_if_idle(self, idle_s: float = 0.0) -> None:
        """Take no more requests, and close when none is under way; before the first word only after ``idle_s``."""
        if not self._greeted and (self._shared.tick - self._born) * TICK_S < idle_s:
            return
        self._go()
        if not self._streams and not self._over:
            self._close()

    def give_up(self, error: BaseException) -> None:
        """Something went wrong that should not have."""
        FAILURES.tell(log, "a connection is cut", error=error)
        self.abort()

    def abort(self) -> None:
        """Close now, whatever is under way."""
        self.transport.abort()


def _goaway(last: int, code: int, why: bytes) -> bytes:
    """The frame, where the library is past making one."""
    return (
        (8 + len(why)).to_bytes(3, "big")
        + b"\x07\x00"
        + bytes(4)
        + last.to_bytes(4, "big")
        + code.to_bytes(4, "big")
        + why
    )
