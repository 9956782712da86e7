"""What it means that a model raised: it says no to its caller, it failed, or the whole program is to end.

A model may raise anything: `sys.exit` in a library, a panic of an extension in Rust, which is no Exception, an error whose
text cannot be had. Whoever calls a model catches all of it, and asks here.
"""

from __future__ import annotations

import functools
import os
import signal
import threading
import traceback
from collections.abc import Iterator
from opcode import opmap
from pathlib import Path
from types import CodeType, TracebackType
from typing import Any

from graphpipe.errors import ServiceError, service_error
from graphpipe.words import first_line

__all__ = ["StageFailed", "ends_the_program", "in_words", "is_the_users", "place_of", "refusal"]

_RAISE = opmap["RAISE_VARARGS"]
_CHAIN_MAX = 100
_RETRY_AFTER_S_MAX = 86400.0


class StageFailed(Exception):
    """A stage of a pipeline raised something: which one, and what led to it as the cause."""

    def __init__(self, stage: str, how: str) -> None:
        super().__init__(f"stage {stage!r} {how}")
        self.stage = stage


def refusal(error: BaseException) -> ServiceError | None:
    """The no that a model said on purpose, as a new error of a class of ours; None if it is no such thing.

    New, since the model may raise one and the same object for several callers; of ours, since a class of its own may be
    anything: one without a message, with a status that is none, one that cannot be copied.
    """
    if not issubclass(type(error), ServiceError):  # isinstance would ask the error, which may answer anything
        return None
    try:
        code, status, message = (getattr(error, name) for name in ("code", "http_status", "message"))
        if not (isinstance(code, int) and isinstance(status, int) and isinstance(message, str)):
            return None
        if not (0 <= code < 2**31 and 400 <= status <= 599):
            return None
        said = service_error(int(code), int(status), str.__str__(message))
        if (after := getattr(error, "retry_after_s", None)) is not None:
            said.retry_after_s = min(max(0.0, float(after)), _RETRY_AFTER_S_MAX)  # NaN becomes 0
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
    try:
        return any(map(_is_a_signals, _chain(error)))
    except BaseException:  # its attributes may be properties
        return False


def in_words(error: BaseException) -> str:
    """An error in a line: its kind, what it says, and where in the user's own code it was raised, if it was there."""
    place = place_of(error)
    return f"{type(error).__name__}: {first_line(error)}{f' ({place})' if place else ''}"


def place_of(error: BaseException) -> str:
    """Where in the user's own code an error was raised, the innermost place: ``app.py, line 3``. Empty if nowhere there."""
    here = [frame for frame in traceback.extract_tb(error.__traceback__) if is_the_users(frame.filename)]
    return f"{Path(here[-1].filename).name}, line {here[-1].lineno}" if here else ""


def is_the_users(file: str) -> bool:
    """Whether a file of code is the user's own: neither Python's, nor what is installed, nor ours."""
    # <frozen importlib._bootstrap>, <string>
    return not file.startswith(("<", *_others())) and "site-packages" not in Path(file).parts


def _chain(error: BaseException) -> Iterator[BaseException]:
    current: BaseException | None = error
    for _ in range(_CHAIN_MAX):  # it may be a ring
        if current is None:
            return
        yield current
        current = current.__cause__ or current.__context__


def _is_a_signals(error: BaseException) -> bool:
    if isinstance(error, Exception):
        return False
    frames = _frames(error.__traceback__)
    if isinstance(error, KeyboardInterrupt) and frames and not _raises(frames[-1]):
        return True
    handlers = _handlers()
    return any(frame.tb_frame.f_code in handlers for frame in frames)


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


@functools.cache
def _others() -> tuple[str, ...]:
    """Where code lies that is not the user's: Python's own, what is installed, and ours."""
    import sysconfig  # not before something fails: it reads how Python was built

    folders = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    return tuple(f"{folder}{os.sep}" for folder in {*folders, str(Path(__file__).parent.parent)})
