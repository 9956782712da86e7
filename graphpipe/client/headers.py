"""A request's head but for what differs between calls: our own headers, and those that a caller brings.

No header is sent twice: a call's takes the place of its client's, and a client's that of ours.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from graphpipe.arguments import a_kind, came
from graphpipe.client.address import Address
from graphpipe.errors import InvalidRequest
from graphpipe.version import __version__

__all__ = ["Headers", "own_headers"]

_OURS = {
    "User-Agent": f"graphpipe-python/{__version__}",
    # Errors come as messages to those who ask for them; compression would cost more than it saves.
    "Accept": "application/vnd.graphpipe, application/octet-stream, */*;q=0.1",
    "Accept-Encoding": "identity",
    "Content-Type": "application/octet-stream",
}
# These frame the message, or are said by the call itself.
_NOT_TO_SET = frozenset(
    (
        "accept-encoding", "connection", "content-encoding", "content-length", "expect", "graphpipe-memory",
        "graphpipe-memory-answer", "graphpipe-timeout-ms", "host", "keep-alive", "proxy-connection", "te", "trailer",
        "transfer-encoding", "upgrade",
    )
)  # fmt: skip
_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_NOT_IN_VALUES = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


class Headers:
    """What the requests of one client begin with."""

    __slots__ = ("_address", "_more", "_own", "_target", "start")

    def __init__(self, address: Address, own: Mapping[str, str], target: str, more: str = "") -> None:
        self._address = address
        self._more = more  # lines for a proxy
        self._target = target
        self._own = {} if address.login is None else {"Authorization": f"Basic {address.login}"}
        self._own = _merged(self._own, own)
        self.start = self._start(self._own)

    def with_own(self, own: Mapping[str, str]) -> bytes:
        """The start of a request that has headers of its own."""
        return self._start(_merged(self._own, own))

    def _start(self, own: Mapping[str, str]) -> bytes:
        lines = "".join(f"{name}: {value}\r\n" for name, value in _merged(_OURS, own).items())
        return f"POST {self._target} HTTP/1.1\r\nHost: {self._address.host_header}\r\n{self._more}{lines}".encode(
            "latin-1"
        )


def own_headers(given: Any, api_key: Any = None) -> dict[str, str]:
    """A caller's headers, checked; ``api_key`` goes into Authorization unless that is among them.

    Raises InvalidRequest for what is no header, or would change where a request ends.
    """
    if given is not None and not isinstance(given, Mapping):
        raise InvalidRequest(f"headers is a dict of values by name; {came(given)}")
    found: dict[str, str] = {}
    for name, value in (given or {}).items():
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise InvalidRequest(f"{name!r} cannot be a header's name")
        if name.lower() in _NOT_TO_SET:
            raise InvalidRequest(f"the header {name} cannot be set: the client says it itself")
        if not isinstance(value, str):
            raise InvalidRequest(f"the value of the header {name} is a text; {a_kind(value)} came")
        # The value may be a secret: it is not shown.
        if _NOT_IN_VALUES.search(value) or not _is_latin(value):
            raise InvalidRequest(f"the value of the header {name} has characters that no header can have")
        found = _merged(found, {name: value.strip(" \t")})
    if api_key is not None:
        if not isinstance(api_key, str) or not re.fullmatch(r"[\x21-\x7e]+", api_key):
            raise InvalidRequest("api_key is a text of visible characters")
        found = _merged({"Authorization": f"Bearer {api_key}"}, found)
    return found


def _merged(first: Mapping[str, str], second: Mapping[str, str]) -> dict[str, str]:
    """Both, the second's in the place of the first's of the same name, however that is spelt."""
    names = {name.lower() for name in second}
    return {name: value for name, value in first.items() if name.lower() not in names} | dict(second)


def _is_latin(text: str) -> bool:
    try:
        text.encode("latin-1")
    except UnicodeEncodeError:
        return False
    return True
