"""What systemd is told of a server that it has started (Type=notify): ready, alive, stopping.

A line to a socket that the environment names; nothing where it names none. See sd_notify(3).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import MutableMapping

__all__ = ["Notifier"]


class Notifier:
    """Tells the one who started this process. Belongs to the process that was started, not to its workers."""

    def __init__(self, address: str = "", watchdog_s: float = 0.0) -> None:
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self._watchdog_s = watchdog_s

    @classmethod
    def of(cls, environment: MutableMapping[str, str]) -> Notifier:
        """As the environment says, and nobody whom this process starts is told the same."""
        address = environment.pop("NOTIFY_SOCKET", "")
        usec, pid = environment.pop("WATCHDOG_USEC", ""), environment.pop("WATCHDOG_PID", "")
        meant = usec.isdigit() and pid in ("", str(os.getpid()))
        return cls(address, int(usec) / 1e6 if address and meant else 0.0)

    def ready(self, url: str) -> None:
        """Requests are welcome."""
        self._tell(f"READY=1\nSTATUS=serving at {url}")

    def stopping(self) -> None:
        """It has begun to end."""
        self._tell("STOPPING=1\nSTATUS=finishing what is in flight")

    def keep_alive(self) -> None:
        """Say from now on that this event loop turns, twice in the time after which it would be taken for dead."""
        if self._watchdog_s:
            self._tell("WATCHDOG=1")
            asyncio.get_running_loop().call_later(self._watchdog_s / 2, self.keep_alive)

    def _tell(self, lines: str) -> None:
        if not self._address:
            return
        # Whoever does not listen is not waited for.
        with (
            contextlib.suppress(OSError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as to,
        ):
            to.sendto(lines.encode(), self._address)
