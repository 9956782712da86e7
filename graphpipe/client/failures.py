"""What it means that no answer came, and the words for it: the same for every client."""

from __future__ import annotations

import os
import socket
import ssl
import struct

from graphpipe.client.address import Address
from graphpipe.client.proxy import Proxy
from graphpipe.errors import NoAnswer, TimedOut, Unreachable, let_go

__all__ = ["NotSent", "never_arrived", "not_in_time", "refused_late", "unanswered", "unreachable"]


class NotSent(NoAnswer):
    """A reused connection was closed before the server can have read the request: it did not run."""


# OpenSSL's numbers for what is wrong with a certificate.
_NOT_YET, _EXPIRED, _OTHER_HOST, _OTHER_ADDRESS = 9, 10, 62, 64
_SELF_SIGNED = 18
_UNKNOWN_SIGNER = (_SELF_SIGNED, 19, 20, 21)


def unanswered(address: Address, *, used: bool, may_send_again: bool) -> NoAnswer:
    """The error of a connection that was closed without an answer.

    ``used``: it had been used before; ``may_send_again``: and the server cannot have read the whole request.
    """
    if may_send_again:
        return NotSent(f"{address.url} closed the connection before it read the request")
    hint = ""
    if not used and not address.tls and not address.unix_path:
        hint = "; if TLS is spoken there, its URL begins with https://"
    return NoAnswer(f"{address.url} closed the connection without an answer{hint}")


def unreachable(address: Address, proxy: Proxy | None, error: OSError) -> Unreachable:
    """The error of a connection that could not be made, be it to the server or to the proxy before it."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return Unreachable(f"no connection to {address.url}: {_of_certificate(address, error)}")
    if isinstance(error, ssl.SSLError):
        return Unreachable(f"no connection to {address.url}: {_of_handshake(error)}")
    reason = error.strerror or str(error)
    if proxy is not None:
        return Unreachable(
            f"no connection to {address.url} by way of the proxy {proxy.shown}: {reason}; is a proxy running there? "
            "proxy='' goes without one"
        )
    return Unreachable(f"no connection to {address.url}: {reason}; is a server running there?")


def refused_late(address: Address, error: BaseException | None) -> Unreachable | None:
    """The error of a connection that ended with a server's no to the caller's certificate, if it did. In TLS 1.3 that comes
    when the handshake is over for the caller: of what he has sent since then, nothing was read.
    """
    if not isinstance(error, ssl.SSLError) or not _wants_another(error):
        return None
    refused = unreachable(address, None, error)
    refused.__cause__ = let_go(error)
    return refused


def _wants_another(error: ssl.SSLError) -> bool:
    """Whether it is about the caller's certificate."""
    reason = error.reason or ""
    return "ALERT" in reason and ("CERT" in reason or "UNKNOWN_CA" in reason)


def _of_certificate(address: Address, error: ssl.SSLCertVerificationError) -> str:
    """Why a server's certificate is not believed, and what would make it so."""
    said = error.verify_message.rstrip(".")
    if error.verify_code in (_OTHER_HOST, _OTHER_ADDRESS):
        return f"its certificate is for another host than {address.host!r}; call it by a name that the certificate has"
    if error.verify_code == _EXPIRED:
        return "its certificate has expired; the server needs a new one (or this machine's clock is wrong)"
    if error.verify_code == _NOT_YET:
        return "its certificate is not valid yet; is this machine's clock right?"
    if error.verify_code in _UNKNOWN_SIGNER:
        whose = "it signed itself" if error.verify_code == _SELF_SIGNED else "nobody signed it whom this machine trusts"
        return (
            f"its certificate is not trusted: {whose} ({said}); name the file with the authority's certificate: "
            "tls=ssl.create_default_context(cafile='ca.pem'), or SSL_CERT_FILE=ca.pem in the environment"
        )
    return f"its certificate is not trusted: {said}"


def _of_handshake(error: ssl.SSLError) -> str:
    """Why there is no TLS with a server."""
    if error.reason in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG", "HTTP_REQUEST"):
        return "what answers there does not speak TLS; does its URL begin with http://?"
    words = (error.reason or str(error)).replace("_", " ").lower()
    # In TLS 1.2 the word for having none is that for having nothing in common.
    if _wants_another(error) or error.reason == "SSLV3_ALERT_HANDSHAKE_FAILURE":
        wants = "wants" if _wants_another(error) else "may want"
        words += (
            f"; it {wants} a certificate of the caller that it trusts: load_cert_chain() of the context that is tls="
        )
    return f"TLS failed: {words}"


class _NotInTime(Unreachable, TimedOut):
    """No connection could be made in time."""


def not_in_time(address: Address, proxy: Proxy | None) -> Unreachable:
    """The error of a connection that was not made in time: Unreachable, and TimedOut."""
    who = address.url if proxy is None else f"{address.url}, or the proxy {proxy.shown} before it,"
    return _NotInTime(f"{who} did not accept a connection in time")


def never_arrived(fd: int, bytes_sent_before: int, error: Exception | None) -> bool:
    """Whether a server that closed a connection cannot have read the whole of its last request.

    TCP: what its kernel has not acknowledged, its program cannot have read. The kernel says how far that goes when it
    closes the connection in order; a reset (``error``) does not, and may follow a request that was read. Unix sockets:
    a reset says that something was left unread.
    """
    reset = isinstance(error, ConnectionResetError)
    if not hasattr(socket, "TCP_INFO") or fd < 0:
        return False
    try:
        with socket.socket(fileno=os.dup(fd)) as view:
            if view.family == socket.AF_UNIX or reset:
                return reset and view.family == socket.AF_UNIX
            info = view.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 128)
    except OSError:
        return False
    # tcpi_bytes_acked; the connection's own first acknowledgement counts as one.
    return len(info) == 128 and int(struct.unpack_from("<Q", info, 120)[0]) <= bytes_sent_before + 1
