"""Where log lines go and how they look: for people on a terminal, or as JSON for machines.

A record may have ``fields`` beside its message, which a machine reads by name; an ``event`` among them says that it tells of
the server's life (life/events.py).

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
from collections.abc import Mapping
from dataclasses import asdict
from queue import Empty, SimpleQueue

from graphpipe.server.numbers.failures import FAILURES
from graphpipe.server.numbers.places import places
from graphpipe.words import counted, visible

__all__ = ["EVENTS", "log_to_stderr", "written"]

# The logger of what is told of a server's life.
EVENTS = "graphpipe.server.life"

_QUEUE_LINES_MAX = 10_000
_AT_ONCE = 100
# At the end, what is still in the queue may take this long.
_LAST_WORDS_S = 1.0
# Whoever says something beside the log waits so long for it.
_WRITTEN_S = 0.2


def log_to_stderr(format_name: str, verbose: int, access: bool) -> None:
    """Send this process's log to stderr. ``format_name`` is ``human`` or ``json``; ``access`` turns access lines on."""
    handler = _Stderr()
    handler.setFormatter(_Json() if format_name == "json" else _Human(_has_colours()))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel((logging.WARNING, logging.INFO, logging.DEBUG)[min(verbose, 2)])
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
            line = f"a line of {record.name} could not be written: {type(error).__name__}"
        if self._lines.qsize() >= _QUEUE_LINES_MAX:
            self._dropped += 1
            FAILURES.lose()
            return
        self._lines.put(line)
        if self._thread is None:
            self._thread = threading.Thread(target=self._write, name="log", daemon=True)
            self._thread.start()

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
                lines.append(f"dropped {counted(dropped, 'log line')}, because nobody took them")
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
        message, when = visible(record.getMessage()), self.formatTime(record, "%H:%M:%S")
        if record.levelno == logging.INFO and "event" in _fields(record):
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
        if access is not None:
            line |= asdict(access)
            line["ms"] = round(1000 * line.pop("seconds"), 3)  # type: ignore[operator]
        else:
            line["message"] = record.getMessage()
        line |= {name: value for name, value in _fields(record).items() if name not in line}
        if below := _below(record):
            line["traceback"] = below
        return json.dumps(line).replace("\x7f", "\\u007f")  # all other control characters are written so already


def _fields(record: logging.LogRecord) -> Mapping[str, object]:
    fields: Mapping[str, object] = getattr(record, "fields", None) or {}
    return fields


def _below(record: logging.LogRecord) -> str:
    """What a line has below it: kinds and places of a failure, or what is to be said of it."""
    if record.exc_text:
        return visible(record.exc_text, "\n")
    # An exception's words may quote a request.
    error = record.exc_info[1] if record.exc_info else None
    return visible(places(error), "\n") if error is not None else ""
