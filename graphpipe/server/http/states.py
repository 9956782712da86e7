r"""The states of a connection on the hot route, and which may follow which.

    waiting --bytes--> arrived --head--> (body) --whole--> answering --answer--> (sending) --sent--> waiting
                          |        \-- no room: until there is some   \-- refused with bytes to come: discarding, then
                          \-- not hot: handed to aiohttp, and gone         closing; few of them: skipping, then waiting

A connection can be lost at any time: any state but the last can go on to GONE.
"""

from __future__ import annotations

__all__ = [
    "ANSWERING",
    "ARRIVED",
    "BODY",
    "CLOSING",
    "DISCARDING",
    "GONE",
    "ROOM",
    "SENDING",
    "SKIPPING",
    "TRANSITIONS",
    "WAITING",
]

WAITING, ARRIVED, BODY, ROOM, ANSWERING, SENDING, SKIPPING, DISCARDING, CLOSING, GONE = range(10)

TRANSITIONS = {
    WAITING: {ARRIVED, BODY, ROOM, ANSWERING, SKIPPING, DISCARDING, CLOSING},
    ARRIVED: {WAITING, BODY, ROOM, ANSWERING, SKIPPING, DISCARDING},
    BODY: {ROOM, ANSWERING, DISCARDING},
    ROOM: {BODY, ANSWERING, DISCARDING},
    ANSWERING: {SENDING, WAITING},
    SENDING: {WAITING, CLOSING},
    SKIPPING: {WAITING, CLOSING},
    DISCARDING: {CLOSING},
    CLOSING: set(),
    GONE: set(),
}
