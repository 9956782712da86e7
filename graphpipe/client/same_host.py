"""Calls of the blocking client to a server on the same host, which pass their tensors as memory.

Only a connection that the server agreed to do so on can: others lose descriptors on the way, or may. So these calls have
connections of their own. Whatever speaks against it, before anything has run, the call goes as bytes, and the caller does not
hear of it.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from time import monotonic
from typing import Any

import numpy as np

from graphpipe.client.calls import Array, Reply
from graphpipe.client.connection import Connection
from graphpipe.client.failures import NotSent
from graphpipe.client.http1 import request_head
from graphpipe.client.memory import Memory, Tensors
from graphpipe.client.options import Options
from graphpipe.errors import NoAnswer, Unreachable
from graphpipe.memory.segment import available

__all__ = ["SameHost"]

_PROTOCOL = "graphpipe-memory/1"
_IDLE_CONNECTIONS_MAX = 16
# A server that is asked and says nothing is not waited for longer than this.
_ASKING_S = 5.0


class SameHost:
    """The calls by memory of one client; ``memory`` is what they show. Safe in threads."""

    def __init__(self, options: Options) -> None:
        self.memory = Memory(options.answer_bytes_max)
        self._options = options
        self._idle: list[Connection] = []

    @classmethod
    def of(cls, options: Options) -> SameHost | None:
        """None where no memory can be passed: over TCP, and on systems that have no such memory."""
        return cls(options) if options.address.unix_path and hasattr(socket, "send_fds") and available() else None

    def call(self, start: bytes, tensors: Tensors, deadline: float) -> Reply | None:
        """The answer to a call, or None: it has not run, and is to go as bytes.

        Raises what Connection.call raises.
        """
        if not self.memory.is_taken:
            return None
        connection = self._take(deadline)
        if connection is None:
            return None
        ...
