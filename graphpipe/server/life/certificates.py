"""The files of TLS: read when a server starts, and again when they are replaced or SIGHUP comes.

They are looked at twice a second and read when they have not changed for one look, so that nobody reads half of one. What
is no pair, cannot be read, or has expired is not taken: the certificate before stays, what is wrong is said once, and the
files are tried again from time to time. New connections have the new certificate, old ones go on with theirs.
"""

from __future__ import annotations

import contextlib
import logging
import os
import ssl
import stat
import threading
from dataclasses import dataclass

from graphpipe.server.http.tls import Handshakes, TlsContext
from graphpipe.server.life.listener import BindError
from graphpipe.server.numbers.fields import with_fields
from graphpipe.server.settings.values import Settings
from graphpipe.words import visible

__all__ = ["LOOK_S", "Certificates"]

log = logging.getLogger("graphpipe.server.life")

# How often somebody is to look.
LOOK_S = 0.5
# Files that cannot be used may be half of a change: they are tried once more after so many looks, and only then is it said.
_SOON = 10
# And then after so many: a certificate may become valid, a folder readable.
_LATER = 60

# OpenSSL's numbers for what is wrong with a certificate's time.
_TIMES = {9: "its certificate is not valid yet", 10: "its certificate has expired"}

_Print = tuple[int, ...] | None


@dataclass(frozen=True, slots=True)
class _Files:
    cert: str
    key: str
    client_ca: str

    def prints(self) -> tuple[_Print, ...]:
        """What tells one state of the files from another. Links are followed, so that it is seen when one is turned."""
        return tuple(_print(path) for path in (self.cert, self.key, self.client_ca) if path)

    def is_lasting(self) -> bool:
        """Whether they can be read more than once: a pipe cannot."""
        return all(each is None or stat.S_ISREG(each[0]) for each in self.prints())

    def __str__(self) -> str:
        return self.cert + (f" and {self.key}" if self.key else "")


class Certificates:
    """A server's certificate, and the authorities of its callers' if there are some. ``context`` is for its listeners,
    ``h2_context`` for one where HTTP/2 alone is spoken, if there is one (``with_h2``): what is offered belongs to a context.

    Whoever has a clock calls ``look`` each ``LOOK_S``. Reading is done aside: a file may be far away.
    ``is_told`` is whether the log hears of it: of several processes with the same files one is enough.
    Raises BindError if the files cannot be used, with one line that says why.
    """

    def __init__(
        self, cert: str, key: str = "", client_ca: str = "", *, is_told: bool = True, with_h2: bool = False
    ) -> None:
        self._files = _Files(cert, key, client_ca)
        self._level = logging.WARNING if is_told else logging.DEBUG
        self.context = TlsContext(ssl.PROTOCOL_TLS_SERVER)
        self.h2_context = TlsContext(ssl.PROTOCOL_TLS_SERVER) if with_h2 else None
        self._known = self._seen = self._files.prints()
        if with_h2 and not self._files.is_lasting():
            raise BindError(f"--grpc-listen has {self._files} read twice, and a pipe can be read once: give files")
        self._take(self._load())
        if self.h2_context is not None:
            self.h2_context.offer("h2")
        if wrong := _time_of(self.context.current, cert):
            log.log(self._level, "%s: %s; callers will refuse it", cert, wrong)
        self._rests = 0  # looks until files that are refused are tried again
        self._refused = ""  # what is wrong with them
        self._said = ""
        self._reading = threading.Lock()
        self._asked = False

    @classmethod
    def of(cls, settings: Settings, *, is_told: bool = True) -> Certificates | None:
        """Those that the settings name. Raises BindError."""
        if not settings.tls_cert:
            return None
        files = settings.tls_cert, settings.tls_key, settings.tls_client_ca
        return cls(*files, is_told=is_told, with_h2=bool(settings.grpc_listen))

    def look(self) -> None:
        """Take up what has been replaced, if something has."""
        if self._reading.locked():
            return
        if self._asked:
            self._read_aside(asked=True)
            return
        now, before = self._files.prints(), self._seen
        self._seen = now
        if now == self._known:
            if not self._refused:
                return
            self._rests -= 1
            if self._rests > 0:
                return
        elif now != before or not self._files.is_lasting():
            return
        self._read_aside(asked=False)

    def reload(self) -> None:
        """Read the files now, changed or not, and say what came of it."""
        self._asked = True
        if not self._reading.locked():
            self._read_aside(asked=True)

    def _read_aside(self, *, asked: bool) -> None:
        self._reading.acquire()
        self._asked = False
        try:
            threading.Thread(target=self._read, args=(asked,), name="reading certificates", daemon=True).start()
        except RuntimeError:  # the machine has no thread to give just now
            self._asked = True
            self._reading.release()

    def _read(self, asked: bool) -> None:
        try:
            self._take_up(asked)
        finally:
            self._reading.release()

    def _take_up(self, asked: bool) -> None:
        prints = self._files.prints()
        if not asked and prints != self._seen:
            return  # somebody is at work on them: the next look sees it
        again = prints == self._known  # they were refused
        try:
            if not self._files.is_lasting():
                raise BindError(f"cannot read {self._files} again: it is no file")
            contexts = self._load()
            if wrong := _time_of(contexts[0], self._files.cert):
                raise BindError(f"cannot use {self._files} for TLS: {wrong}")
        except BindError as error:
            self._refuse(prints, str(error), is_said=asked or again)
            return
        if self._files.prints() != prints:
            return  # and so here
        self._known, self._refused, self._said = prints, "", ""
        self._take(contexts)
        words = "new connections have the certificate that is now in %s"
        log.log(min(self._level, logging.INFO), words, self._files, extra=with_fields(event="certificate"))

    def _load(self) -> list[ssl.SSLContext]:
        """What is in the files at this moment, once for each context. Raises BindError."""
        return [_loaded(self._files) for context in (self.context, self.h2_context) if context is not None]

    def _take(self, contexts: list[ssl.SSLContext]) -> None:
        self.context.current = contexts[0]
        if self.h2_context is not None:
            self.h2_context.current = contexts[1]

    def _refuse(self, prints: tuple[_Print, ...], why: str, *, is_said: bool) -> None:
        self._known, self._refused = prints, why
        self._rests = _LATER if is_said else _SOON
        if is_said and why != self._said:
            self._said = why
            log.log(self._level, "%s; the certificate before it stays", why)


def _print(path: str) -> _Print:
    try:
        file = os.stat(path)
    except OSError:
        return None
    return file.st_mode, file.st_dev, file.st_ino, file.st_size, file.st_mtime_ns, file.st_ctime_ns


def _loaded(files: _Files) -> ssl.SSLContext:
    """A context of what is in the files at this moment. Raises BindError."""
    context = Handshakes(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    try:
        context.load_cert_chain(files.cert, files.key or None, _nobody_knows)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise BindError(f"cannot use {files} for TLS: {_words(error)}") from None
    if files.client_ca:
        try:
            context.load_verify_locations(files.client_ca)
        except OSError as error:
            words = f"cannot use {files.client_ca} for callers' certificates (--tls-client-ca): {_words(error)}"
            raise BindError(words) from None
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _nobody_knows() -> str:
    # Otherwise OpenSSL asks at the terminal, and everybody waits.
    raise ValueError("the key is encrypted, and nobody is there to say its password; openssl pkey writes it without")


def _words(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        if error.reason == "KEY_VALUES_MISMATCH":
            return "the key is not the certificate's"
        if error.reason == "NO_CERTIFICATE_OR_CRL_FOUND":
            return "it has no certificate in PEM"
    return visible(getattr(error, "strerror", None) or str(error))


def _time_of(context: ssl.SSLContext, cert: str) -> str:
    """What is wrong with the certificate's time, if something is: found out as a caller finds out, by a handshake."""
    caller = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    caller.check_hostname = False
    caller.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    to_caller, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    try:
        caller.load_verify_locations(cert)
        ours = caller.wrap_bio(to_caller, to_server)
        theirs = context.wrap_bio(to_server, to_caller, server_side=True)
        for side in (ours, theirs, ours):
            with contextlib.suppress(ssl.SSLWantReadError):
                side.do_handshake()
    except ssl.SSLCertVerificationError as error:
        return _TIMES.get(error.verify_code, "")  # what else a caller may have against it is his to say
    except OSError:
        return ""
    return ""
