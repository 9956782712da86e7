"""TLS for callers who know that it is spoken here, and words for those who do not.

Plain HTTP at such an address would get nothing but a closed connection ("empty reply from server"). It gets a 400 in plain
HTTP: OpenSSL says what it saw, and as long as a handshake asks for more, the event loop sends whatever it has to say.
"""

from __future__ import annotations

import logging
import ssl
from typing import Any

from graphpipe.errors import MalformedMessage
from graphpipe.server.http.refusal import PLAIN_TO_TLS, response_head
from graphpipe.server.numbers.failures import FAILURES

__all__ = ["TlsContext"]

log = logging.getLogger("graphpipe.front")


class _Handshaking(ssl.SSLObject):
    """One connection's TLS."""

    _outgoing: ssl.MemoryBIO
    _is_answered = False

    def do_handshake(self) -> None:
        if self._is_answered:  # he has read it, or says more: there is nothing to talk about
            raise ssl.SSLError(ssl.SSL_ERROR_SSL, PLAIN_TO_TLS)
        try:
            super().do_handshake()
        except ssl.SSLError as error:
            if error.reason != "HTTP_REQUEST":
                raise
            FAILURES.tell(log, PLAIN_TO_TLS, error=MalformedMessage(PLAIN_TO_TLS), cause=str, level=logging.INFO)
            self._is_answered = True
            body = f"{PLAIN_TO_TLS}\n".encode()
            head = response_head(400, "text/plain; charset=utf-8", len(body), {"Connection": "close"})
            self._outgoing.write(head + body)
            raise ssl.SSLWantReadError from None  # sends that, and waits until he closes or the handshake's time is over


class TlsContext(ssl.SSLContext):
    """A context whose connections do that."""

    sslobject_class = _Handshaking

    def wrap_bio(self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, *args: Any, **more: Any) -> ssl.SSLObject:
        wrapped = super().wrap_bio(incoming, outgoing, *args, **more)
        assert isinstance(wrapped, _Handshaking)
        wrapped._outgoing = outgoing
        return wrapped
