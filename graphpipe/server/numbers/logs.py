"""Where log lines go and how they look: for people on a terminal, or as JSON for machines.

A record may have fields beside its message, which a machine reads by name (fields.py); an ``event`` among them says
that it tells of the server's life (life/events.py).

A line is made where it is logged and written by a thread of its own. Whoever reads our stderr may stop reading, or the
disk behind it may be full; the requests must not wait for that. What does not fit into the queue is counted and dropped.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import logging
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from queue import Empty, SimpleQueue

from graphpipe.server.numbers.accesslog import Access
from graphpipe.server.numbers.failures import FAILURES
from graphpipe.server.numbers.fields import fields_of
from graphpipe.server.numbers.places import places
from graphpipe.words import counted, visible

__all__ = ["EVENTS", "log_beside", "log_to_stderr", "written"]

# The logger of what is told of a server's life.
EVENTS = "graphpipe.server.life"
# Those whose levels are set here.
_LOGGERS = ("", EVENTS, "graphpipe.access", "aiohttp.server", "asyncio")
# Where Python's warnings come from.
_WARNINGS = "py.warnings"

_QUEUE_LINES_MAX = 10_000
_AT_ONCE = 100
# At the end, what is still in the queue may take this long.
_LAST_WORDS_S = 1.0
# Whoever says something beside the log waits so long for it.
_WRITTEN_S = 0.2


def log_to_stderr(format_name: str, verbose: int, access: bool) -> None:
    """Send this process's log to stderr, and Python's warnings with it.

    ``format_name`` is ``human`` or ``json``; ``access`` turns access lines on.
    """
    handler = _Stderr()
    handler.setFormatter(_formatter(format_name))
    logging.getLogger().handlers[:] = [handler]
    _set_levels(verbose, access)
    logging.captureWarnings(True)


@contextlib.contextmanager
def log_beside(format_name: str, verbose: int, access: bool) -> Iterator[None]:
    """The same for as long as this lasts, in a program that has a log of its own; its warnings stay as they are.

    Several may last at once: the log has the form that was asked for last by one of them, and when none is left the
    program has its own handlers and levels back, with the handlers that it has added meanwhile.
    """
    asked = _Asked(format_name, verbose, access)
    _BESIDE.begin(asked)
    try:
        yield
    finally:
        _BESIDE.end(asked)


@dataclass(frozen=True, slots=True, eq=False)
class _Asked:
    """One who wants the program's log on standard error."""

    format_name: str
    verbose: int
    access: bool


class _Beside:
    """Those who want it just now, and what the program had before the first of them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._asked: list[_Asked] = []
        self._handler: _Stderr | None = None
        self._handlers: list[logging.Handler] = []
        self._levels: dict[logging.Logger, int] = {}

    def begin(self, asked: _Asked) -> None:
        root = logging.getLogger()
        with self._lock:
            if self._handler is None:
                self._handlers = list(root.handlers)
                self._levels = {logger: logger.level for logger in map(logging.getLogger, _LOGGERS)}
                self._handler = _Stderr()
                root.handlers[:] = [self._handler]
            self._asked.append(asked)
            self._show()

    def end(self, asked: _Asked) -> None:
        root = logging.getLogger()
        with self._lock:
            self._asked.remove(asked)
            if self._asked:
                self._show()
                return
            assert self._handler is not None
            added = [each for each in root.handlers if each is not self._handler and each not in self._handlers]
            root.handlers[:] = [*self._handlers, *added]
            for logger, level in self._levels.items():
                logger.setLevel(level)
            self._handler.close()
            self._handler, self._handlers, self._levels = None, [], {}

    def _show(self) -> None:
        last = self._asked[-1]
        assert self._handler is not None
        self._handler.setFormatter(_formatter(last.format_name))
        _set_levels(last.verbose, last.access)


_BESIDE = _Beside()


def _formatter(format_name: str) -> logging.Formatter:
    return _Json() if format_name == "json" else _Human(_has_colours())


def _set_levels(verbose: int, access: bool) -> None:
    logging.getLogger().setLevel((logging.WARNING, logging.INFO, logging.DEBUG)[min(verbose, 2)])
    logging.getLogger(EVENTS).setLevel(logging.DEBUG if verbose > 1 else logging.INFO)
    logging.getLogger("graphpipe.access").setLevel(logging.INFO if access else logging.CRITICAL)
    # Its messages hold raw bytes of the request, with a traceback for each stranger's typo.
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)
    logging.getLogger("asyncio").setLevel(logging.ERROR)


def written() -> None:
    """Wait a moment until the lines so far are out, so that what is printed next comes after them."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, _Stderr):
            handler.wait_until_written()


def _has_colours() -> bool:
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb" and os.isatty(2)


class _Stderr(logging.Handler):
    """Never waits for whoever reads."""

    def __init__(self) -> None:
        super().__init__()
        # An event among them is set when what comes before it is written; None is the end. A signal's handler may log in
        # the middle of anything, in the middle of this too: this queue bears it, and nothing with a lock of Python's would.
        self._lines: SimpleQueue[str | threading.Event | None] = SimpleQueue()
        self._dropped = 0
        # Its own thread is started by the first line, so that a program which forks at its start may do so.
        self._thread: threading.Thread | None = None
        atexit.register(self._end)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record)
        except Exception as error:  # a log line is no reason to fail
            line = self._in_its_form(
                f"a line of {record.name} could not be written: {type(error).__name__}", record.levelno
            )
        if self._lines.qsize() >= _QUEUE_LINES_MAX:
            self._dropped += 1
            FAILURES.lose()
            return
        self._lines.put(line)
        if self._thread is None:
            self._thread = threading.Thread(target=self._write, name="log", daemon=True)
            self._thread.start()

    def _in_its_form(self, words: str, level: int) -> str:
        """Words of the log itself, in the form that all of it has."""
        try:
            return self.format(logging.LogRecord(__name__, level, "", 0, words, None, None))
        except Exception:
            return words

    def _write(self) -> None:
        items: list[str | threading.Event | None] = []
        while None not in items:
            items = [self._lines.get()]
            with contextlib.suppress(Empty):
                while len(items) < _AT_ONCE:
                    items.append(self._lines.get_nowait())
            lines = [item for item in items if isinstance(item, str)]
            dropped, self._dropped = self._dropped, 0
            if dropped:
                words = f"dropped {counted(dropped, 'log line')}, because nobody took them"
                lines.append(self._in_its_form(words, logging.WARNING))
            try:
                _write_all("".join(f"{line}\n" for line in lines).encode("utf-8", "backslashreplace"))
            except OSError:  # a full disk, or nobody reads any more
                time.sleep(0.1)
            for item in items:
                if isinstance(item, threading.Event):
                    item.set()

    def wait_until_written(self) -> None:
        """Wait for a moment, not longer: nobody may be reading."""
        if self._thread is not None:
            is_written = threading.Event()
            self._lines.put(is_written)
            is_written.wait(_WRITTEN_S)

    def close(self) -> None:
        """Write what is left; logging.shutdown() calls this before a process leaves at once."""
        self._end()
        super().close()

    def _end(self) -> None:
        self._lines.put(None)
        if self._thread is not None:
            self._thread.join(_LAST_WORDS_S)


def _write_all(data: bytes) -> None:
    while data:
        data = data[os.write(2, data) :]


_RED, _YELLOW, _DIM, _PLAIN = "\x1b[31m", "\x1b[33m", "\x1b[2m", "\x1b[0m"


class _Human(logging.Formatter):
    """Time, level, who says it, and what. What is told of the server's life is for people: it has the time alone."""

    def __init__(self, colours: bool) -> None:
        super().__init__()
        self._colours = colours

    def format(self, record: logging.LogRecord) -> str:
        # One line, whatever came from outside; our own line breaks are below it.
        message, when = visible(_message(record)), self.formatTime(record, "%H:%M:%S")
        if record.levelno == logging.INFO and "event" in fields_of(record):
            line = f"{self._coloured(when, _DIM)} {message}"
        else:
            colour = _RED if record.levelno >= logging.ERROR else _YELLOW if record.levelno >= logging.WARNING else _DIM
            line = f"{self._coloured(when, _DIM)} {self._coloured(record.levelname, colour)} {record.name}: {message}"
        return "\n".join(filter(None, (line, _below(record))))

    def _coloured(self, text: str, colour: str) -> str:
        return f"{colour}{text}{_PLAIN}" if self._colours else text


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        when = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z"
        line: dict[str, object] = {"time": when, "level": record.levelname, "logger": record.name}
        access = getattr(record, "access", None)
        if isinstance(access, Access):  # another library's may be anything
            line |= asdict(access)
            line["ms"] = round(1000 * line.pop("seconds"), 3)  # type: ignore[operator]
        else:
            line["message"] = _message(record)
        line |= {name: value for name, value in fields_of(record).items() if name not in line}
        if below := _below(record):
            line["traceback"] = below
        # All other control characters are written so already.
        return json.dumps(line, default=str).replace("\x7f", "\\u007f")


def _message(record: logging.LogRecord) -> str:
    """A record's words. A warning's end with a line of the source, which is no part of them."""
    message = record.getMessage()
    if record.name == _WARNINGS:
        message = " ".join(message.rstrip("\n").rpartition("\n  ")[0].split() or message.split())
    return message


def _below(record: logging.LogRecord) -> str:
    """What a line has below it: kinds and places of a failure, or what is to be said of it."""
    if record.exc_text:
        return visible(record.exc_text, "\n")
    # An exception's words may quote a request.
    error = record.exc_info[1] if record.exc_info else None
    return visible(places(error), "\n") if error is not None else ""
