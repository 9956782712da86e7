"""A file of API keys: a line for each, as ``graphpipe keys`` writes it and a server reads it.

    # name  hash                scopes          further words
    ci      sha256:9f86d0818... infer,metadata  models=digits,cats expires=2027-01-01T00:00:00Z

A key is 256 random bits, so its hash is a fast one without salt. Slow hashes and salts protect words that people choose,
which can be guessed or looked up in a table; nobody guesses one of 2**256 keys, however fast each guess is. And a hash
that is the same for all lines lets a server find a key's line at once, among thousands.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import quote, unquote

from graphpipe.errors import LoadError

__all__ = [
    "KEY_BYTES_MAX",
    "SCOPES",
    "Key",
    "digest_of",
    "expiry_of",
    "key_of",
    "keys_in",
    "moment",
    "new_key",
    "text_of",
]

# What a key may be good for, in the order in which they are shown.
SCOPES = ("infer", "metadata", "metrics", "admin")
# No longer key is looked at; ours have 46 characters.
KEY_BYTES_MAX = 512

_NAME = re.compile(r"[A-Za-z0-9._@-]{1,64}")
_HASH = re.compile(r"sha256:([0-9a-f]{64})")
_SPAN = re.compile(r"([1-9][0-9]{0,5})([mhd])")
_SECONDS = {"m": 60, "h": 3600, "d": 86400}


@dataclass(frozen=True, slots=True)
class Key:
    """A line. ``models`` is None for a key that may use all of them, ``expires`` (seconds since 1970) for one that lasts."""

    name: str
    digest: bytes
    scopes: frozenset[str]
    models: frozenset[str] | None = None
    expires: float | None = None


def new_key() -> str:
    """A key that nobody has had before. The letters in front tell people, and scanners for secrets, what it is."""
    return f"gp_{secrets.token_urlsafe(32)}"


def digest_of(key: bytes) -> bytes:
    """What is kept of a key: 32 bytes."""
    return hashlib.sha256(key).digest()


def key_of(
    name: str, digest: bytes, scopes: Iterable[str], models: Iterable[str] = (), expires: float | None = None
) -> Key:
    """A key, checked. Raises ValueError, which says what is wrong."""
    if not _NAME.fullmatch(name):
        raise ValueError("a name has 1 to 64 letters, digits and any of . _ @ -")
    scopes, models = frozenset(scopes), frozenset(models)
    if not scopes or not scopes <= set(SCOPES):
        raise ValueError(f"scopes are some of {', '.join(SCOPES)}, with commas and no spaces")
    if "" in models:
        raise ValueError("models are names, with commas and no spaces")
    return Key(name, digest, scopes, models or None, expires)


def text_of(key: Key) -> str:
    """Its line, without the end of one. Names of models are escaped as in a path."""
    words = [key.name, f"sha256:{key.digest.hex()}", ",".join(scope for scope in SCOPES if scope in key.scopes)]
    if key.models is not None:
        words.append(f"models={','.join(quote(model, safe='') for model in sorted(key.models))}")
    if key.expires is not None:
        words.append(f"expires={moment(key.expires)}")
    return " ".join(words)


def moment(seconds: float) -> str:
    """A time in UTC, as the file has it."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def expiry_of(text: str, now: float) -> float:
    """When a key ends: at a date or a time (UTC unless it says otherwise), or so many days, hours or minutes from now.

    Raises ValueError.
    """
    span = _SPAN.fullmatch(text)
    if span is not None:
        return now + int(span[1]) * _SECONDS[span[2]]
    try:
        when = datetime.fromisoformat(text)
        return (when if when.tzinfo is not None else when.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        raise ValueError("a time is 2027-01-01, 2027-01-01T12:00:00Z, or 90m, 12h, 30d from now") from None


def keys_in(text: str, where: str) -> list[Key]:
    """The keys of a file. Raises LoadError, which names the file and the line, and shows nothing of what stands there:
    it may be a key.
    """
    keys: list[Key] = []
    lines: dict[object, int] = {}
    for number, line in enumerate(text.split("\n"), 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        try:
            key = _read(words)
        except ValueError as error:
            raise LoadError(f"{where}: line {number}: {error}") from None
        for what, value in (("name", key.name), ("key", key.digest)):
            before = lines.setdefault((what, value), number)
            if before != number:
                raise LoadError(f"{where}: line {number}: line {before} has the same {what}")
        keys.append(key)
    return keys


def _read(words: list[str]) -> Key:
    if len(words) < 3:
        raise ValueError("expected a name, sha256:HASH and scopes; make lines with: graphpipe keys add")
    hashed = _HASH.fullmatch(words[1])
    if hashed is None:
        raise ValueError("the second word is not sha256: and 64 digits, 0 to f; make lines with: graphpipe keys add")
    further: dict[str, str] = {}
    for word in words[3:]:
        name, _, value = word.partition("=")
        if name not in ("models", "expires") or name in further:
            raise ValueError("behind the scopes come models=NAMES and expires=TIME, each at most once")
        further[name] = value
    # `models=` with nothing behind it is no way to say "all".
    models = [unquote(model) for model in further["models"].split(",")] if "models" in further else []
    expires = None
    if "expires" in further:
        if _SPAN.fullmatch(further["expires"]):
            raise ValueError("expires=TIME is a date or a time, as nobody knows from when a number of days would count")
        expires = expiry_of(further["expires"], 0.0)
    return key_of(words[0], bytes.fromhex(hashed[1]), words[2].split(","), models, expires)
