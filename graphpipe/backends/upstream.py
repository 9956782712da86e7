"""A server behind this one: who we are to it, and whom we take it for.

Key and certificates come from files. They are looked at while requests come, and taken up when they have changed; where
the upstream refuses what we show, they are read at once, and it is asked once more if they say something else by now.
Files that cannot be used change nothing: what was read before stays.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import ssl
import stat
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import TypeVar

from graphpipe.backends.options import LoadOptions
from graphpipe.client import Client
from graphpipe.client.certificates import is_secured, tls_context
from graphpipe.errors import GraphPipeError, LoadError, ServiceError, TimedOut, Unauthenticated, Unreachable

__all__ = ["TIMEOUT_S", "Shown", "Upstream"]

log = logging.getLogger("graphpipe.upstream")

T = TypeVar("T")

TIMEOUT_S = 60.0
# How often the files are looked at, where somebody asks.
_LOOK_S = 0.5
_KEY_BYTES_MAX = 8192

_Stamp = tuple[int, ...] | None


@dataclass(frozen=True, slots=True)
class Shown:
    """What the upstream is asked with. ``who`` tells one caller from another, and is empty for anybody."""

    client: Client
    who: str = ""
    key: str = field(default="", repr=False)


class Upstream:
    """The server at a URL, asked with what the options name. Safe in threads. Raises LoadError for what cannot be used."""

    def __init__(self, url: str, options: LoadOptions) -> None:
        self._given = url
        self._options = options
        files = (options.upstream_api_key_file, options.upstream_tls_ca, options.upstream_tls_cert,
                 options.upstream_tls_key)  # fmt: skip
        self._files = tuple(path for path in files if path)
        self._stamps = self._now()
        self._shown = self._read()
        _warn_of_open(options.upstream_api_key_file)
        self._looked_at = self._read_at = monotonic()
        self._looking = threading.Lock()
        self._closed = False

    @property
    def url(self) -> str:
        """Its URL, without a login."""
        return self._shown.client.url

    def ask(self, question: Callable[[Shown], T]) -> T:
        """What it answers. Raises what ``question`` does; no error has the key in it."""
        shown = self._shown
        try:
            shown = self._look()
            try:
                return question(shown)
            except (Unauthenticated, Unreachable) as error:  # nothing ran
                if isinstance(error, TimedOut) or not self._reads_another(shown):
                    raise
                shown = self._shown
            return question(shown)
        except GraphPipeError as error:
            _hide(error, shown.key)
            raise

    def close(self) -> None:
        """Close the connections."""
        self._closed = True
        self._shown.client.close()

    def _look(self) -> Shown:
        """What to ask with at this moment."""
        if self._files and monotonic() - self._looked_at >= _LOOK_S and self._looking.acquire(blocking=False):
            try:  # whoever comes meanwhile goes on with what there is: a file may be far away
                self._looked_at = monotonic()
                stamps = self._now()
                if stamps != self._stamps:
                    self._take_up(stamps)
            finally:
                self._looking.release()
        return self._shown

    def _reads_another(self, refused: Shown) -> bool:
        """Whether there is something else to ask with than what was refused."""
        if not self._files:
            return False
        with self._looking:
            stamps = self._now()
            # Who is refused all the time does not read all the time.
            if self._shown is refused and (stamps != self._stamps or monotonic() - self._read_at >= _LOOK_S):
                self._take_up(stamps)
        return self._shown is not refused

    def _take_up(self, stamps: tuple[_Stamp, ...]) -> None:
        changed, self._stamps, self._read_at = stamps != self._stamps, stamps, monotonic()
        try:
            read = self._read()
        except LoadError as error:
            if changed:
                log.warning("%s; what was read before stays in force", error)
            return
        before = self._shown
        if not changed and read.who == before.who:
            read.client.close()
            return
        self._shown = read
        log.info("upstream %s is asked with what is now in %s", read.client.url, " and ".join(self._files))
        # Calls under way end on their connections, which are closed when the last of them lets go of the client.
        before.client.close_idle()
        if self._closed:
            read.client.close()

    def _now(self) -> tuple[_Stamp, ...]:
        return tuple(_stamp(path) for path in self._files)

    def _read(self) -> Shown:
        options = self._options
        key = _key_in(options.upstream_api_key_file)
        tls = self._tls()
        try:
            client = Client(self._given, timeout=TIMEOUT_S, tls=tls, api_key=key or None)
        except ValueError as error:
            raise LoadError(str(error)) from None
        return Shown(client, self._who(key), key)

    def _tls(self) -> ssl.SSLContext | None:
        """The context of the files; None where there are none. Raises LoadError."""
        if not is_secured(self._given):
            return None
        options = self._options
        try:
            return tls_context(
                options.upstream_tls_ca, options.upstream_tls_cert, options.upstream_tls_key, "--upstream-tls-"
            )
        except ValueError as error:
            raise LoadError(str(error)) from None

    def _who(self, key: str) -> str:
        cert = self._options.upstream_tls_cert
        if not key and not cert:
            return ""
        try:
            parts = [key.encode(), Path(cert).read_bytes() if cert else b""]
        except OSError as error:
            raise LoadError(f"--upstream-tls-cert {cert}: {error.strerror or error}") from None
        told_apart = b"".join(len(part).to_bytes(8, "big") + part for part in parts)
        return hashlib.blake2b(told_apart, person=b"upstream").hexdigest()


def _key_in(path: str) -> str:
    """The key that a file has; empty where no file is named. Raises LoadError, which never has what is in the file."""
    if not path:
        return ""
    where = f"--upstream-api-key-file {path}"
    try:
        with open(path, "rb") as file:
            content = file.read(_KEY_BYTES_MAX + 1)
    except OSError as error:
        raise LoadError(f"{where}: {error.strerror or error}") from None
    words = content.split()
    if len(words) != 1 or len(content) > _KEY_BYTES_MAX or not re.fullmatch(rb"[\x21-\x7e]+", words[0]):
        raise LoadError(
            f"{where}: expected a key as `graphpipe keys add` prints it, of visible characters, and no more"
        )
    return words[0].decode("ascii")


def _warn_of_open(path: str) -> None:
    if path and os.name == "posix" and os.stat(path).st_mode & (stat.S_IROTH | stat.S_IWOTH):
        log.warning("%s is open to everybody on this machine, and has a key in it: chmod o-rw %s", path, path)


def _stamp(path: str) -> _Stamp:
    """What changes when a file does, or when a link on the way to it is turned; None if it is not there."""
    try:
        file = os.stat(path)
    except OSError:
        return None
    return file.st_mtime_ns, file.st_ctime_ns, file.st_size, file.st_ino, file.st_dev


def _hide(error: GraphPipeError, key: str) -> None:
    """Take the key out of an error: an upstream may have answered with what it was sent."""
    if not key or key not in str(error):
        return
    words = str(error).replace(key, "[key]")
    error.args = (words,)
    if isinstance(error, ServiceError):
        error.message = words
    error.__cause__ = error.__context__ = None
