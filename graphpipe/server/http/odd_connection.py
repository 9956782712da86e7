"""A connection that aiohttp has: its protocol, and what a stranger may expect of ours on it as well.

What the parser refuses is answered in our words, and counted; a good request in front of it is answered first. A head has
one limit for all of it, and so much time. A caller whose sending side is closed gets his answer.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Hashable
from typing import Any, cast

from aiohttp import HttpVersion11, web
from aiohttp.http_exceptions import HttpProcessingError, InvalidURLError, LineTooLong

from graphpipe.errors import MalformedMessage, ServiceError, service_error
from graphpipe.server.exchange import peer_of
from graphpipe.server.http.aiohttp_log import AIOHTTP_LOG
from graphpipe.server.http.head import HEAD_BYTES_MAX, asked_in
from graphpipe.server.http.leaver import Leaver
from graphpipe.server.http.refusal import HEAD_TOO_LARGE, NOT_SPOKEN, TLS_TO_PLAIN
from graphpipe.server.numbers.failures import FAILURES
from graphpipe.server.settings.values import Settings

__all__ = ["OddConnection", "OddServer"]

log = logging.getLogger("graphpipe.front")

# A packet is looked through for so many heads. What comes after them is read as one.
_HEADS_MAX = 64
# How often it is asked whether a caller who sends no more is there.
_ASK_S = 0.5
# After a refusal, what still comes is read and dropped for so long, and until nothing comes for the second time.
_DISCARD_S = 2.0
_QUIET_S = 0.1
# A record of a handshake, in any version of TLS: no request begins with it.
_TLS_HELLO = b"\x16\x03"

Refuse = Callable[[web.BaseRequest, ServiceError], web.StreamResponse]


class OddServer(web.Server):
    """Makes the protocols. ``handler`` answers requests, ``refuse`` makes an answer of an error and counts it."""

    def __init__(
        self,
        handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]],
        refuse: Refuse,
        settings: Settings,
    ) -> None:
        super().__init__(
            handler,
            # Who hangs up takes the work along that was under way for it.
            handler_cancellation=True,
            access_log=None,
            logger=AIOHTTP_LOG,
            # A compressed body is undone by ours alone, which is limited, counted, and not on the loop (coder.py).
            auto_decompress=False,
            keepalive_timeout=settings.keepalive_timeout_s,
            # What arrives while a connection waits to be closed is thrown away, not read for long.
            lingering_time=1.0,
            # Our own limit is reached before any of these.
            max_line_size=HEAD_BYTES_MAX,
            max_field_size=HEAD_BYTES_MAX,
            max_headers=HEAD_BYTES_MAX // 4,
        )
        self.refuse = refuse
        self.head_timeout_s = settings.head_timeout_s

    def __call__(self) -> OddConnection:
        return OddConnection(self, loop=self._loop, **self._kwargs)


class OddConnection(web.RequestHandler):
    """One of these connections."""

    def __init__(self, server: OddServer, **options: Any) -> None:
        super().__init__(server, **options)
        self._server = server
        self._asked = self._answered = 0
        self._head_bytes = 0
        self._first_line = b""  # of the last head, as it comes, with what comes in the same packet
        self._is_unreadable = False  # that head
        self._head_timer: asyncio.TimerHandle | None = None
        self._body: Any = None  # the last request's
        self._refusal: ServiceError | None = None  # what is wrong, where that is known better than by the parser
        self._refused = False
        self._quiet = False
        self._leaver: Leaver | None = None
        self._ask: asyncio.TimerHandle | None = None
        self.peer: Hashable = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.peer = peer_of(transport)
        self._time_head()  # whoever comes has something to say
        if self.peer is None:
            cast(asyncio.Transport, transport).abort()

    def connection_lost(self, exc: BaseException | None) -> None:
        for timer in (self._head_timer, self._ask):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    # --- what comes in ---

    def data_received(self, data: bytes) -> None:
        self._quiet = False
        # Head by head, so that what is wrong in one takes none of those before it along.
        heads = data.split(b"\r\n\r\n", _HEADS_MAX)
        last = heads.pop()
        for head in heads:
            self._feed(head + b"\r\n\r\n")
        if last or not heads:
            self._feed(last)

    def _feed(self, data: bytes) -> None:
        if data and (self._refused or self._refusal is not None):
            return  # dropped; without data the parser goes on with what it has
        if self._body is None or self._body.is_eof():
            if not self._head_bytes and data.startswith(_TLS_HELLO):
                # Nobody reads the answer: the caller's TLS makes a "wrong version number" of it.
                FAILURES.tell(log, TLS_TO_PLAIN, error=MalformedMessage(TLS_TO_PLAIN), cause=str, level=logging.INFO)
                self._refuse_head(400, TLS_TO_PLAIN)
                return
            self._keep_first_line(data)
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES_MAX:
                self._refuse_head(431, HEAD_TOO_LARGE)
                return
        came = len(self._messages)
        super().data_received(data)
        if len(self._messages) > came and self._body is not None and not self._body.is_eof():
            # What cannot be understood is the body's that is on its way. aiohttp would have it waited for.
            broken = self._messages.pop()[0]
            self._body.set_exception(getattr(broken, "exc", None) or ConnectionError("the body broke off"))
            self._refused = True
        elif len(self._messages) > came:
            self._asked += len(self._messages) - came
            self._is_unreadable = getattr(self._messages[-1][0], "exc", None) is not None
            self._head_bytes = 0
            self._body = self._messages[-1][1]
            if self._head_timer is not None:
                self._head_timer.cancel()
                self._head_timer = None
        elif self._head_bytes and self._head_timer is None:
            self._time_head()

    def _keep_first_line(self, data: bytes) -> None:
        if self._is_unreadable:
            return  # what comes after it is nobody's head
        if not self._head_bytes:
            self._first_line = b""
        if b"\n" not in self._first_line:
            self._first_line += data[:HEAD_BYTES_MAX]

    def asked_for(self) -> tuple[str, str]:
        """The method and the path of a head that the parser refused, from its first line; empty where that has none."""
        return asked_in(self._first_line)

    def _time_head(self) -> None:
        self._head_timer = self._loop.call_later(self._server.head_timeout_s, self._on_head_timeout)

    def _on_head_timeout(self) -> None:
        self._head_timer = None
        if not self._head_bytes:
            if self._asked == 0:  # not a word: nothing to answer
                self.force_close()
        else:
            self._refuse_head(408, f"the head did not come within {self._server.head_timeout_s:g} s (--head-timeout-s)")

    def _refuse_head(self, status: int, message: str) -> None:
        """Answer so in its turn, after the requests that came before."""
        self._refusal = service_error(0, status, message)
        self._asked += 1
        super().data_received(b"\0")  # which is no part of any head: here the parser stops

    def eof_received(self) -> bool:  # type: ignore[override]  # asyncio wants to know, aiohttp never does
        transport = self.transport
        if (
            transport is None
            or transport.get_extra_info("sslcontext") is not None  # TLS ends both ways at once
            or self._asked == self._answered
            or not self._body.is_eof()
        ):
            return False
        self._leaver = Leaver(transport, knows_interim=True)
        self._ask = self._loop.call_later(_ASK_S, self._ask_whether_he_is_there)
        return True

    def _ask_whether_he_is_there(self) -> None:
        request = self._current_request
        transport = self.transport
        if transport is None or self._leaver is None:
            return
        if request is not None and request.writer.output_size == 0:
            self._leaver.knows_interim = request.version >= HttpVersion11
            if self._leaver.is_gone():
                transport.abort()
                return
        self._ask = self._loop.call_later(_ASK_S, self._ask_whether_he_is_there)

    # --- what goes out ---

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The answer to what is no request, or to one that was answered by an exception."""
        if request.writer.output_size > 0:
            raise ConnectionError("the answer has begun already")
        self._refused = True
        request._version = HttpVersion11  # nobody knows the caller's
        return self._server.refuse(request, self._refusal or _words(status, exc))

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        is_whole = request.content.is_eof()
        done = await super().finish_response(request, resp, start_time)
        self._answered += 1
        if not is_whole and not resp.keep_alive:  # what still comes is read, and nothing more is said
            self._say_no_more()
        if self._refused:
            await self._discard()
        elif self._leaver is not None and self._answered == self._asked:
            self.close()
        return done

    async def _discard(self) -> None:
        """Read on: closing while something comes would destroy the answer."""
        self._say_no_more()
        until = self._loop.time() + _DISCARD_S
        quiet = 0
        while quiet < 2 and self._loop.time() < until:
            self._quiet = True
            await asyncio.sleep(_QUIET_S)
            quiet = quiet + 1 if self._quiet else 0

    def _say_no_more(self) -> None:
        if self.transport is not None and self.transport.can_write_eof():
            self.transport.write_eof()  # he need not wait for the end of his own words


def _words(status: int, error: BaseException | None) -> ServiceError:
    """What the parser found, as an error of ours."""
    if not isinstance(error, HttpProcessingError):
        return service_error(0, status, "the server failed on this request; its log has the cause")
    if isinstance(error, LineTooLong):
        return service_error(0, 431, HEAD_TOO_LARGE)
    if isinstance(error, InvalidURLError):
        return service_error(0, 400, "the target of the request is no URL")
    words = error.message
    if "HTTP version" in words or words.startswith("Pause on PRI"):
        return service_error(0, 505, NOT_SPOKEN)
    # What follows the first words are bytes of the request.
    lines = [
        line.strip() for line in words.splitlines() if line.strip() and not line.lstrip().startswith(("b'", 'b"', "^"))
    ]
    return service_error(0, 400, f"this is not a request in HTTP/1.1: {' '.join(lines)[:200].rstrip(':')}")
