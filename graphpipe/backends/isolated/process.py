"""One process of an isolated model, seen from outside: how it is started, what it is told, and what its end was."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import struct
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from time import monotonic

from graphpipe.backends.isolated.frames import DESCRIPTORS_MAX, Frames, Kind
from graphpipe.backends.isolated.hello import Order
from graphpipe.backends.isolated.output import Output

__all__ = ["Lane", "Process"]

_TIMEVAL = struct.Struct("@ll")
# Who looks at /proc/PID/statm multiplies by this.
_PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096


class Lane:
    """Our end of a pair of sockets; carries one call at a time."""

    __slots__ = ("frames", "is_cut", "number", "process", "timeout_s")

    def __init__(self, process: Process, end: socket.socket) -> None:
        self.process = process
        self.frames = Frames(end, writable=True)
        self.timeout_s: float | None = None
        self.number = 0  # of the call
        self.is_cut = False

    def cut(self) -> None:
        """Only a part of a call was sent. That it is all is seen on the other side, which then ends the lane."""
        self.is_cut = True
        with contextlib.suppress(OSError):
            self.frames.socket.shutdown(socket.SHUT_WR)

    def set_timeout(self, seconds: float) -> None:
        """How long each step of sending and receiving may take; one that takes longer raises BlockingIOError or
        TimeoutError.

        It is the kernel that waits: to ask first, as Python's own timeouts do, costs each step another call of it. But
        in the thread where signals are handled the kernel would begin to wait anew after each of them.
        """
        if threading.get_ident() == threading.main_thread().ident:
            self.frames.socket.settimeout(seconds)
            self.timeout_s = None
            return
        if seconds != self.timeout_s:
            if self.timeout_s is None:
                self.frames.socket.setblocking(True)
            whole = int(seconds)
            wait = _TIMEVAL.pack(whole, max(1, int((seconds - whole) * 1e6)))
            self.frames.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, wait)
            self.frames.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, wait)
            self.timeout_s = seconds


class Process:
    """A child, from its start to its end. To be used by the keeper's thread, but for what is said otherwise.

    ``busy`` counts the calls under way. ``over`` is set, by then for all threads, when it has ended and ``epitaph`` says
    how; ``lanes`` are then closed for both sides. ``command`` is the command line that starts it, made from the number of
    its socket.
    """

    # Whoever sees its lanes end hears so much later, at most, how it ended itself.
    epitaph_s = 1.0

    def __init__(
        self,
        number: int,
        command: Callable[[int], Sequence[str]],
        order: Order,
        environment: Mapping[str, str],
        name: str,
        load_timeout_s: float,
    ) -> None:
        self.number = number
        self.name = name
        self.lanes: list[Lane] = []
        self.busy = 0
        self.answered = False
        self.is_up = False
        self.is_ending = False
        self.over = threading.Event()
        self.epitaph = ""
        self.why_killed = ""
        self.began = monotonic()
        self.load_until, self.why_late = self.began + load_timeout_s, f"had not loaded after {load_timeout_s:g} s"
        ours, theirs = socket.socketpair()
        reading, writing = os.pipe()
        try:
            self.popen = subprocess.Popen(
                command(theirs.fileno()),
                stdin=subprocess.DEVNULL,
                stdout=writing,
                stderr=writing,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
                env=environment,
            )
        except BaseException:
            ours.close()
            os.close(reading)
            raise
        finally:
            theirs.close()
            os.close(writing)
        self.pid = self.popen.pid
        try:
            self.pidfd = os.pidfd_open(self.pid)
        except OSError:  # no descriptor is left
            ours.close()
            os.close(reading)
            self.popen.kill()
            self.popen.wait()
            raise
        self.output = Output(reading, name)
        ours.setblocking(False)
        self.control = Frames(ours, writable=True)
        with contextlib.suppress(OSError):  # it has ended already: that is heard of in another way
            self.control.send(Kind.LOAD, notes=order.to_bytes())

    def open_lanes(self, count: int) -> None:
        """Give the child so many lanes. Raises OSError."""
        while len(self.lanes) < count:
            ends = [socket.socketpair() for _ in range(min(DESCRIPTORS_MAX, count - len(self.lanes)))]
            self.lanes += [Lane(self, ours) for ours, _ in ends]
            try:
                self.control.send(Kind.LANES, descriptors=[theirs.fileno() for _, theirs in ends])
            finally:
                for _, theirs in ends:
                    theirs.close()

    def tell_to_end(self) -> None:
        """Ask it to close its model and end."""
        self.is_ending = True
        with contextlib.suppress(OSError):
            self.control.send(Kind.END)

    def kill(self, why: str) -> None:
        """End it now, with all that it has started. ``why`` is for its epitaph."""
        if self.over.is_set():  # its number may be another's by now
            return
        if not self._has_ended():
            self.why_killed = self.why_killed or why
        with contextlib.suppress(OSError):
            os.killpg(self.pid, signal.SIGKILL)

    def _has_ended(self) -> bool:
        """Whether it has, and only waits to be buried. Then that is its end, whatever is said of it now."""
        try:
            return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        except ChildProcessError:  # this program buries all its children, or has none buried
            return True

    def bury(self) -> None:
        """It has ended: say how, to whoever waits for it too, and give back what it had."""
        with contextlib.suppress(OSError):  # what it has started, before its number may be another's
            os.killpg(self.pid, signal.SIGKILL)
        status = self.popen.wait()
        self.output.close()
        self.epitaph = self.why_killed or self._how(status)
        self.is_up = False
        self.over.set()
        for lane in self.lanes:
            # Whoever waits for an answer, and whoever of its children has the other end, is told.
            with contextlib.suppress(OSError):
                lane.frames.socket.shutdown(socket.SHUT_RDWR)
        self.control.close()
        os.close(self.pidfd)

    def private_bytes(self) -> int:
        """The memory that it holds for itself alone; 0 where the kernel does not say."""
        try:
            _, resident, shared, *_ = Path(f"/proc/{self.pid}/statm").read_text().split()
        except (OSError, ValueError):
            return 0
        return (int(resident) - int(shared)) * _PAGE

    def _how(self, status: int) -> str:
        """Its end in words; ``status`` is negative for a signal."""
        if status >= 0:
            return f"ended with status {status}"
        try:
            name = signal.Signals(-status).name
        except ValueError:
            name = "unknown"
        hint = "; where nobody sent that, the machine was out of memory" if name == "SIGKILL" else ""
        return f"ended by signal {-status} ({name}){hint}"
