"""What signals mean to a process that serves: before, while and after it does.

Before, SIGTERM and SIGINT end it at once, as the kernel's default does. That has to be arranged: the kernel drops what
process 1 of a container has no handler for, and a socket's file must not stay behind. While it serves they are the server's
business. SIGHUP, SIGUSR1 and SIGUSR2 are a line in the log, since ending without a drain is never what was meant by
them; SIGHUP has a meaning where there are files to read again. Afterwards every handler is what it was. Outside the main
thread Python has no handlers, and nothing here does anything.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from types import FrameType
from typing import NoReturn

__all__ = [
    "ENDING",
    "RELOAD",
    "WATCH",
    "before_the_end",
    "die_of",
    "dropped_by_the_kernel",
    "ends_at_once",
    "is_free",
    "noted",
    "restored",
]

ENDING = (signal.SIGTERM, signal.SIGINT)
NOTED = tuple(getattr(signal, name) for name in ("SIGHUP", "SIGUSR1", "SIGUSR2") if hasattr(signal, name))
# What asks a server to read its files again, where it has some.
RELOAD = NOTED[:1] if hasattr(signal, "SIGHUP") else ()
# The name of the thread that watches for signals while something is loaded.
WATCH = "signals"

log = logging.getLogger("graphpipe.server")

_last_acts: list[Callable[[], None]] = []
_at_work = False


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


@contextlib.contextmanager
def ends_at_once(names: Iterable[signal.Signals] = ENDING) -> Iterator[None]:
    """Have these signals end the process at once, even while it is inside a framework's code that is not Python."""
    global _at_work
    names = tuple(names)
    if _at_work or not names or not _in_main_thread():
        yield
        return
    _at_work = True
    heard, said = os.pipe()
    os.set_blocking(said, False)

    def watch() -> None:
        # Python's own handlers wait until the main thread is back from a library's load; the pipe does not.
        while number := os.read(heard, 1):
            if number[0] in names:
                die_of(signal.Signals(number[0]))
        os.close(heard)

    try:
        with restored(names):
            if hasattr(signal, "pthread_sigmask"):
                signal.pthread_sigmask(signal.SIG_UNBLOCK, names)  # whoever started us may have blocked them
            for name in names:
                signal.signal(name, _die)
            signal.set_wakeup_fd(said, warn_on_full_buffer=False)
            threading.Thread(target=watch, name=WATCH, daemon=True).start()
            yield
    finally:
        _at_work = False
        os.close(said)


def dropped_by_the_kernel() -> tuple[signal.Signals, ...]:
    """The signal that ends every program but this one: it is process 1, and has no handler for it."""
    return (signal.SIGTERM,) if os.getpid() == 1 and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL else ()


@contextlib.contextmanager
def before_the_end(act: Callable[[], None]) -> Iterator[None]:
    """Have something done, in here, before a signal ends the process."""
    _last_acts.append(act)
    try:
        yield
    finally:
        _last_acts.remove(act)


def die_of(name: signal.Signals) -> NoReturn:
    """End as if the signal had no handler: killed by it, or with status 128 and its number where that cannot be."""
    for act in _last_acts:
        with contextlib.suppress(Exception):
            act()
    # Process 1 cannot kill itself, and only the main thread can give a signal its default back.
    if os.getpid() != 1 and _in_main_thread():
        signal.signal(name, signal.SIG_DFL)
        os.kill(os.getpid(), name)
    os._exit(128 + name)


def _die(number: int, frame: FrameType | None) -> NoReturn:
    die_of(signal.Signals(number))


@contextlib.contextmanager
def noted() -> Iterator[None]:
    """Have SIGHUP, SIGUSR1 and SIGUSR2 do nothing but a line in the log, unless somebody ignores or handles them."""
    if not _in_main_thread():
        yield
        return
    free = [name for name in NOTED if signal.getsignal(name) is signal.SIG_DFL and not _has_foreign_handler(name)]
    with restored(free):
        for name in free:
            signal.signal(name, _note)
        yield


def is_free(name: signal.Signals) -> bool:
    """Whether a signal is one that would only be noted, so that somebody may give it a meaning."""
    return signal.getsignal(name) is _note


def _note(number: int, frame: FrameType | None) -> None:
    log.warning("%s came and is ignored; SIGTERM ends the server", signal.Signals(number).name)


def _has_foreign_handler(name: signal.Signals) -> bool:
    """Whether C code (faulthandler, say) has set a handler that Python does not know of."""
    try:
        with open("/proc/self/status") as status:
            caught = next(line for line in status if line.startswith("SigCgt:"))
    except (OSError, StopIteration):
        return False
    return bool(int(caught.split()[1], 16) >> (name - 1) & 1)


@contextlib.contextmanager
def restored(names: Iterable[signal.Signals] = ENDING) -> Iterator[None]:
    """Leave handlers, and the descriptor that is written to at a signal, as they were, whatever happens inside."""
    if not _in_main_thread():
        yield
        return
    before = {name: signal.getsignal(name) for name in names}
    wakeup = signal.set_wakeup_fd(-1)
    try:
        yield
    finally:
        for name, handler in before.items():
            # None: set by C code, and lost when somebody else took its place.
            signal.signal(name, signal.SIG_DFL if handler is None else handler)
        with contextlib.suppress(ValueError, OSError):  # closed meanwhile
            signal.set_wakeup_fd(wakeup)
