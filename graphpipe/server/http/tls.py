"""TLS for callers who know that it is spoken here, and words for those who do not.

Plain HTTP at such an address would get nothing but a closed connection ("empty reply from server"). It gets a 400 in plain
HTTP: OpenSSL says what it saw, and as long as a handshake asks for more, the event loop sends whatever it has to say. So
does a caller whose certificate is refused get TLS's own word for that, which event loops forget to send.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import ssl
from collections.abc import Mapping, Sequence
from typing import Any

from graphpipe.errors import MalformedMessage
from graphpipe.server.http.refusal import PLAIN_TO_TLS, response_head
from graphpipe.server.numbers.failures import FAILURES
from graphpipe.words import visible

__all__ = ["Handshakes", "TlsContext", "caller_in", "caller_of"]

log = logging.getLogger("graphpipe.front")

# Of a handshake that fails for one of these, the caller is told why, by an alert.
_TOLD = ("PEER_DID_NOT_RETURN_A_CERTIFICATE", "CERTIFICATE_VERIFY_FAILED", "UNSUPPORTED_PROTOCOL")
# A name is shown up to here; of a longer one, the rest is a digest, so that no two are one.
_NAME_MAX = 100
_DIGEST = 16
# RFC 4514's names for the parts of a subject; all others have their own.
_SHORT = {
    "commonName": "CN",
    "countryName": "C",
    "domainComponent": "DC",
    "localityName": "L",
    "organizationName": "O",
    "organizationalUnitName": "OU",
    "stateOrProvinceName": "ST",
    "streetAddress": "STREET",
    "userId": "UID",
}


class _Handshaking(ssl.SSLObject):
    """One connection's TLS."""

    _outgoing: ssl.MemoryBIO
    _over: ssl.SSLError | None = None

    def do_handshake(self) -> None:
        if self._over is not None:  # he has read it, or says more: there is nothing to talk about
            raise self._over
        try:
            super().do_handshake()
        except ssl.SSLError as error:
            if error.reason == "HTTP_REQUEST":
                FAILURES.tell(log, PLAIN_TO_TLS, error=MalformedMessage(PLAIN_TO_TLS), cause=str, level=logging.INFO)
                body = f"{PLAIN_TO_TLS}\n".encode()
                head = response_head(400, "text/plain; charset=utf-8", len(body), {"Connection": "close"})
                self._outgoing.write(head + body)
            elif error.reason in _TOLD:
                why = visible(str(getattr(error, "verify_message", "")) or error.reason.replace("_", " ").lower())
                message = "a caller is refused at the TLS handshake: %s"
                FAILURES.tell(log, message, why, error=error, cause=str, level=logging.INFO)
            else:
                raise
            self._over = ssl.SSLError(ssl.SSL_ERROR_SSL, error.reason)
            raise ssl.SSLWantReadError from None  # sends that, and waits until he closes or the handshake's time is over


class Handshakes(ssl.SSLContext):
    """A context whose connections do that, with one certificate."""

    sslobject_class = _Handshaking

    def wrap_bio(self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, *args: Any, **more: Any) -> ssl.SSLObject:
        wrapped = super().wrap_bio(incoming, outgoing, *args, **more)
        assert isinstance(wrapped, _Handshaking)
        wrapped._outgoing = outgoing
        return wrapped


class TlsContext(ssl.SSLContext):
    """What a listener has for all its life: each new connection gets the context that is current when it comes.

    A context of OpenSSL's cannot have its certificate exchanged: it keeps one for each kind of key, and half of a pair
    where the other half is wrong. So a new pair is a new context.
    """

    _current: ssl.SSLContext
    _protocols: Sequence[str] = ()

    @property
    def current(self) -> ssl.SSLContext:
        """For the next connection."""
        return self._current

    @current.setter
    def current(self, context: ssl.SSLContext) -> None:
        if self._protocols:
            context.set_alpn_protocols(list(self._protocols))
        self._current = context

    def offer(self, *protocols: str) -> None:
        """Say which protocols are spoken, to whoever asks (ALPN): the first that he speaks too is taken."""
        self._protocols = protocols
        self.current = self._current

    def wrap_bio(self, *args: Any, **more: Any) -> ssl.SSLObject:
        return self.current.wrap_bio(*args, **more)


def caller_of(transport: asyncio.BaseTransport | None) -> str:
    """What whoever is at the other end is called; empty if he had to show no certificate."""
    return caller_in(transport.get_extra_info("peercert")) if transport is not None else ""


def caller_in(certificate: Mapping[str, Any] | None) -> str:
    """What a caller is called, by a certificate as ``getpeercert()`` gives it: the subject's common name, else its first
    other name, else all of the subject as RFC 4514 has it. One line of at most 100 characters; empty without a certificate.
    """
    if not certificate:
        return ""
    subject = certificate.get("subject", ())
    named = [value for part in subject for kind, value in part if kind == "commonName" and value]
    others = [value for _, value in certificate.get("subjectAltName", ()) if value and isinstance(value, str)]
    name = (named or others or [_distinguished(subject)])[0]
    shown = visible(name)
    if len(shown) > _NAME_MAX:
        digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGEST]
        shown = f"{shown[: _NAME_MAX - _DIGEST - 3]}...{digest}"
    return shown or f"serial {certificate.get('serialNumber', '')}"


def _distinguished(subject: Any) -> str:
    """RFC 4514: the last part first."""
    return ",".join(
        "+".join(f"{_SHORT.get(kind, kind)}={_escaped(value)}" for kind, value in part) for part in reversed(subject)
    )


def _escaped(value: str) -> str:
    text = "".join(f"\\{char}" if char in '",+;<>\\' else char for char in value)
    if text.startswith(("#", " ")):
        text = f"\\{text}"
    return f"{text[:-1]}\\ " if len(value) > 1 and text.endswith(" ") else text
