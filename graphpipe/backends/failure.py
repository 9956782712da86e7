"""What it means that a model raised: it says no to its caller, it failed, or the whole program is to end.

A model may raise anything: `sys.exit` in a library, a panic of an extension in Rust, which is no Exception, an error whose
text cannot be had. Whoever calls a model catches all of it, and asks here.
"""

from __future__ import annotations

import signal
import threading
from opcode import opmap
from types import CodeType, TracebackType
from typing import Any

from graphpipe.errors import Overloaded, ServiceError, service_error

__all__ = ["ends_the_program", "refusal"]

_RAISE = opmap["RAISE_VARARGS"]


def refusal(error: BaseException) -> ServiceError | None:
    """The no that a model said on purpose, as a new error of a class of ours; None if it is no such thing.

    New, since the model may raise one and the same object for several callers; of ours, since a class of its own may be
    anything: one without a message, with a status that is none, one that cannot be copied.
    """
    if not isinstance(error, ServiceError):
        return None
    try:
        code, status, message = error.code, error.http_status, error.message
        if not (isinstance(code, int) and isinstance(status, int) and isinstance(message, str)):
            return None
        if not (0 <= code < 2**31 and 400 <= status <= 599):
            return None
        said = service_error(int(code), int(status), str.__str__(message))
        if isinstance(said, Overloaded) and isinstance(error, Overloaded):
            said.retry_after_s = int(error.retry_after_s)
    except BaseException:  # its attributes may be properties
        return None
    return said


def ends_the_program(error: BaseException) -> bool:
    """Whether this was raised by a signal and not by the code that it came out of: somebody's Ctrl-C, say.

    Signals reach the main thread alone. Python's own handler raises KeyboardInterrupt between two instructions, none of
    which is a raise; another handler has a frame of its own.
    """
    if threading.current_thread() is not threading.main_thread():
        return False
    current: BaseException | None = error
    for _ in range(100):  # a failure may lead to another, without end even
        if current is None:
            return False
        frames = _frames(current.__traceback__)
        if isinstance(current, KeyboardInterrupt) and frames and not _raises(frames[-1]):
            return True
        if not isinstance(current, Exception):
            handlers = _handlers()
            if any(frame.tb_frame.f_code in handlers for frame in frames):
                return True
        current = current.__cause__ or current.__context__
    return False


def _frames(trace: TracebackType | None) -> list[TracebackType]:
    frames = []
    while trace is not None:
        frames.append(trace)
        trace = trace.tb_next
    return frames


def _raises(frame: TracebackType) -> bool:
    return frame.tb_frame.f_code.co_code[frame.tb_lasti] == _RAISE


def _handlers() -> set[CodeType]:
    """The code of the signal handlers that are in force."""
    codes = set()
    for number in signal.valid_signals():
        handler: Any = signal.getsignal(number)
        # A bound method, a partial of one.
        while handler is not None and not hasattr(handler, "__code__"):
            handler = getattr(handler, "func", None) or getattr(handler, "__func__", None)
        if handler is not None:
            codes.add(handler.__code__)
    return codes
