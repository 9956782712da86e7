"""What a way is: two functions for each side of a call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from numpy.typing import NDArray

__all__ = ["Array", "Codec", "Parts", "Way", "joined"]

Array = NDArray[Any]
# Buffers for a gathering write (sendmsg, writev), which sends them one behind the other.
Parts = Sequence[Any]


def joined(parts: Parts) -> bytes:
    """A body as most HTTP and gRPC libraries hand it over: one bytes object."""
    return b"".join(parts)


class Codec(NamedTuple):
    """An array to what is handed to the socket, and what came to an equal array.

    ``received`` makes what a reader is given out of what was sent; it is not timed, for the network does that.
    """

    serialise: Callable[[Array], Parts]
    deserialise: Callable[[Any], Array]
    received: Callable[[Parts], Any] = joined


class Way(NamedTuple):
    """The codecs of a request and of its response; for formats that know neither they are the same."""

    request: Codec
    response: Codec
