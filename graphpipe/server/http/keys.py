"""Who asks, and what he may: API keys, from a file that is watched.

A key is looked at when a head is seen for the first time. A head that is remembered holds the key, so a good one costs the
hot route nothing; when the file changes, or a key's time is over, remembered heads are forgotten. Strangers' heads are
remembered by nobody. What a key is missing is said, and what there is for others is not: a model that a key may not use,
and one that does not exist, have one answer.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import os
import re
import stat
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from graphpipe.errors import Forbidden, LoadError, NotFound, Unauthenticated
from graphpipe.keyfile import KEY_BYTES_MAX, SCOPES, Key, digest_of, keys_in
from graphpipe.server.numbers.caller import Caller
from graphpipe.server.numbers.counters import Counters
from graphpipe.server.protocols.path import segments
from graphpipe.server.protocols.protocol import BY_MESSAGE, Endpoint
from graphpipe.server.target import Target

__all__ = ["ANYBODY", "NOBODY", "OPEN", "SCOPE_OF", "Grant", "Keys", "authorizations_in", "check_key_file", "is_page"]

E = TypeVar("E", bound=Endpoint)

log = logging.getLogger("graphpipe.keys")

# What whoever keeps a server running asks: for these pages nobody needs a key.
OPEN = frozenset(
    (
        ("livez",),
        ("readyz",),
        ("control", "is_alive"),
        ("control", "is_ready"),
        ("v2", "health", "live"),
        ("v2", "health", "ready"),
    )
)
# And what a key must be good for, for the others.
SCOPE_OF = {
    ("metrics",): "metrics",
    ("control", "client_count"): "metrics",
    ("control", "shutdown"): "admin",
    ("models",): "metadata",
}

# Of a head that the hot route has read: there is no other way to write such a field in it.
_AUTHORIZATION = re.compile(rb"\r\nauthorization:[ \t]*([^\r\n]*)", re.IGNORECASE)
_BEARER = re.compile(rb"bearer +([A-Za-z0-9._~+/-]+=*)[ \t]*", re.IGNORECASE)
# How often the file is looked at: a key that is revoked is to be refused within a second, on a busy machine too.
_LOOK_S = 0.2
# A file that was written to so short a time ago may have been written to again since, at the same time by its clock.
_SETTLED_S = 1.0

_HOW = "send Authorization: Bearer KEY (api_key= of our clients)"
_NOT_THIS_MODEL = "this key may not use what is asked for here, if there is such a thing"


@dataclass(frozen=True, slots=True)
class Grant:
    """What somebody may do. ``models`` is None where that is all of them, ``caller`` where he has no name."""

    scopes: frozenset[str]
    models: frozenset[str] | None = None
    caller: Caller | None = None

    def need(self, scope: str) -> None:
        """Raise Forbidden without this scope."""
        if scope not in self.scopes:
            raise _lacks(scope)

    def endpoint(self, find: Callable[[], E]) -> E:
        """What ``find`` gives. Raises what it raises, or Forbidden."""
        is_any = "infer" in self.scopes or "metadata" in self.scopes
        try:
            endpoint = find()
        except NotFound:
            if not is_any:  # what there is, is not for him to know
                raise _lacks_both() from None
            if self.models is None:
                raise
            raise Forbidden(_NOT_THIS_MODEL) from None  # as if there were one
        if endpoint.scope and not is_any:
            raise _lacks_both()
        if self.models is not None and endpoint.service is not None and endpoint.service.name not in self.models:
            raise Forbidden(_NOT_THIS_MODEL)
        return endpoint

    def target(self, find: Callable[[], Endpoint], protocol: str, length: int = 0) -> Target:
        """Where a request goes, whose body has so many bytes (-1: nobody knows).

        ``find`` gives the endpoint, in the words of a protocol. Raises what it raises, or Forbidden.
        """
        infer, metadata = "infer" in self.scopes, "metadata" in self.scopes
        endpoint = self.endpoint(find)
        if endpoint.scope == BY_MESSAGE:
            if not infer and (not metadata or length < 0):  # without a length, it could be read to its end for nothing
                raise _lacks("infer")
        elif endpoint.scope and endpoint.scope not in self.scopes:
            raise _lacks(endpoint.scope)
        if not infer or not metadata or (self.models is not None and endpoint.service is None):
            endpoint = endpoint.limited(infer=infer, metadata=metadata, models=self.models)
        return Target.of(endpoint, protocol, self.caller)


# Where no keys are asked for, and of somebody who has shown none.
ANYBODY = Grant(frozenset(SCOPES))
NOBODY = Grant(frozenset(), frozenset())


class Keys:
    """The keys of a file, which is watched from ``watch`` on. Belongs to one event loop.

    ``on_change`` functions are called when other keys are good than were before. Raises LoadError for a file that cannot be
    read; later on, the keys that were read before stay in force.
    """

    def __init__(self, path: str, counters: Counters) -> None:
        self._path = path
        self._counters = counters
        self.on_change: list[Callable[[], None]] = []
        self._grants: dict[bytes, tuple[Key, Grant]] = {}
        self._expiries: list[float] = []  # to come
        self._trouble = ""  # with the file, as it was told last
        self._timer: asyncio.TimerHandle | None = None
        self._reading = False
        self._stamp = _stamp(path)
        self._text: str | None = None  # None: it could not be read
        self._text, keys = _read(path)
        self._use(keys or [])

    def __len__(self) -> int:
        return len(self._grants)

    def grant(self, authorizations: Sequence[bytes]) -> Grant:
        """What somebody may do whose head has these Authorization fields. Raises Unauthenticated."""
        if not authorizations:
            raise Unauthenticated(f"a key is missing; {_HOW}")
        if len(authorizations) > 1:
            raise Unauthenticated(f"one Authorization field is expected, and {len(authorizations)} came; {_HOW}")
        bearer = _BEARER.fullmatch(authorizations[0])
        if bearer is None or len(bearer[1]) > KEY_BYTES_MAX:
            raise Unauthenticated(f"Authorization has no key that could be one; {_HOW}")
        # Looked up by what the key is hashed to, which nobody can steer: how long that takes tells nothing of other keys.
        digest = digest_of(bearer[1])
        key, grant = self._grants.get(digest, _NO_KEY)
        if not hmac.compare_digest(key.digest, digest) or (key.expires is not None and time.time() >= key.expires):
            raise Unauthenticated("the key is not, or no longer, one of this server's; ask its operator for another")
        return grant

    def watch(self) -> None:
        """Look from now on, until ``close``, whether a key's time is over, and whether the file has changed."""
        self._timer = asyncio.get_running_loop().call_later(_LOOK_S, self.watch)
        self._look()

    def close(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        now = time.time()
        if self._expiries and now >= self._expiries[0]:
            self._expiries = [at for at in self._expiries if at > now]
            self._tell()
        stamp = _stamp(self._path)
        if self._reading or (stamp == self._stamp and (stamp is None or abs(now - stamp[0] / 1e9) > _SETTLED_S)):
            return
        # In a thread, since a disk may take its time.
        reader = threading.Thread(target=self._read_again, args=(asyncio.get_running_loop(),), name="keys", daemon=True)
        try:
            reader.start()
        except RuntimeError:  # the machine has none to give just now: it is tried again
            return
        self._stamp, self._reading = stamp, True

    def _read_again(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            text, keys = _read(self._path, self._text)
            why = ""
        except LoadError as error:
            text, keys, why = "", None, str(error)
        except Exception as error:  # whatever it is, it must not be the last time that somebody looks
            text, keys, why = "", None, f"--api-key-file {self._path}: {type(error).__name__}"
        try:
            loop.call_soon_threadsafe(self._take, text, keys, why)
        except RuntimeError:  # the loop is closed: nobody asks any more
            return

    def _take(self, text: str, keys: list[Key] | None, why: str) -> None:
        self._reading = False
        if why:
            if why != self._trouble:
                log.error("%s; the keys that were read before stay in force", why)
            self._trouble, self._text = why, None
        elif keys is not None:
            self._text = text
            self._use(keys)
            log.info("%s has %d keys now", self._path, len(keys))
            self._tell()

    def _use(self, keys: Sequence[Key]) -> None:
        self._trouble = ""
        self._grants = {
            key.digest: (key, Grant(key.scopes, key.models, self._counters.caller(key.name))) for key in keys
        }
        now = time.time()
        self._expiries = sorted(key.expires for key in keys if key.expires is not None and key.expires > now)

    def _tell(self) -> None:
        for changed in self.on_change:
            changed()


# Stands where no key is found, so that one that is there and one that is not take the same way.
_NO_KEY = Key("", bytes(32), frozenset()), NOBODY


def authorizations_in(head: bytes) -> list[bytes]:
    """The Authorization fields of a hot request's head."""
    return [field.rstrip(b" \t") for field in _AUTHORIZATION.findall(head)]


def is_page(path: str) -> bool:
    """Whether a path is a page's, and no model's."""
    page = segments(path)
    return page in OPEN or page in SCOPE_OF


def check_key_file(path: str) -> None:
    """Raise LoadError for a file of keys that no server could start with; warn of one that is open to everybody."""
    _read(path)
    if os.name == "posix" and os.stat(path).st_mode & (stat.S_IROTH | stat.S_IWOTH):
        log.warning(
            "%s is open to everybody on this machine; its hashes are nobody's business: chmod o-rw %s", path, path
        )


def _lacks(scope: str) -> Forbidden:
    return Forbidden(f"this key lacks the scope {scope!r}, which this takes")


def _lacks_both() -> Forbidden:
    return Forbidden("this key lacks the scope 'infer' or 'metadata', which this takes")


def _read(path: str, known: str | None = None) -> tuple[str, list[Key] | None]:
    """A file's text and its keys; None where the text is ``known``."""
    where = f"--api-key-file {path}"
    try:
        with open(path, encoding="utf-8-sig") as file:
            text = file.read()
    except OSError as error:
        raise LoadError(f"{where}: {error.strerror or error}") from None
    except ValueError:
        raise LoadError(f"{where}: this is not text in UTF-8") from None
    return text, None if text == known else keys_in(text, where)


def _stamp(path: str) -> tuple[int, int, int, int] | None:
    """What changes when a file does; None if it is not there."""
    try:
        file = os.stat(path)
    except OSError:
        return None
    return file.st_mtime_ns, file.st_size, file.st_ino, file.st_dev
