"""Where log lines go and how they look: for people on a terminal, or as JSON for machines.

A line is made where it is logged and written by a thread of its own. Whoever reads our stderr may stop reading, or the
disk behind it may be full; the requests must not wait for that. What does not fit into the queue is counted and dropped.
"""

from __future__ import annotations

import atexit
import json
import logging
import os
import threading
import time
from collections import deque
from dataclasses import asdict

from graphpipe.server.numbers.failures import FAILURES
from graphpipe.server.numbers.places import places
from graphpipe.words import visible

__all__ = ["log_to_stderr"]

_QUEUE_LINES_MAX = 10_000
# At the end, what is still in the queue may take this long.
_LAST_WORDS_S = 1.0


def log_to_stderr(format_name: str, verbose: int, access: bool) -> None:
    """Send this process's log to stderr. ``format_name`` is ``human`` or ``json``; ``access`` turns access lines on."""
    handler = _Stderr()
    handler.setFormatter(_Json() if format_name == "json" else _Human())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel((logging.WARNING, logging.INFO, logging.DEBUG)[min(verbose, 2)])
    logging.getLogger("graphpipe.access").setLevel(logging.INFO if access else logging.CRITICAL)
    # Its messages hold raw bytes of the request, with a traceback for each stranger's typo.
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)
    logging.getLogger("asyncio").setLevel(logging.ERROR)


class _Stderr(logging.Handler):
    """Never waits for whoever reads."""

    def __init__(self) -> None:
        super().__init__()
        self._lines: deque[str] = deque()
        self._dropped = 0
        self._wake = threading.Event()
        self._closing = False
        # Its own thread is started by the first line, so that a program which forks at its start may do so.
        self._thread: threading.Thread | None = None
        atexit.register(self._end)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record)
        except Exception as error:  # a log line is no reason to fail
            line = f"a line of {record.name} could not be written: {type(error).__name__}"
        if len(self._lines) >= _QUEUE_LINES_MAX:
            self._dropped += 1
            FAILURES.lose()
            return
        self._lines.append(line)
        if self._thread is None:
            self._thread = threading.Thread(target=self._write, name="log", daemon=True)
            self._thread.start()
        self._wake.set()

    def _write(self) -> None:
        while True:
            if not self._lines:
                if self._closing:
                    return
                self._wake.wait()
                self._wake.clear()
                continue
            lines = [self._lines.popleft() for _ in range(min(len(self._lines), 100))]
            dropped, self._dropped = self._dropped, 0
            if dropped:
                lines.append(f"{dropped} log lines were dropped, because nobody took them")
            try:
                _write_all("".join(f"{line}\n" for line in lines).encode("utf-8", "backslashreplace"))
            except OSError:  # a full disk, or nobody reads any more
                time.sleep(0.1)

    def close(self) -> None:
        """Write what is left; logging.shutdown() calls this before a process leaves at once."""
        self._end()
        super().close()

    def _end(self) -> None:
        self._closing = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join(_LAST_WORDS_S)


def _write_all(data: bytes) -> None:
    while data:
        data = data[os.write(2, data) :]


class _Human(logging.Formatter):
    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s", "%H:%M:%S")

    def format(self, record: logging.LogRecord) -> str:
        # One line, whatever came from outside; our own line breaks are below it.
        record.message = visible(record.getMessage())
        record.asctime = self.formatTime(record, self.datefmt)
        return "\n".join(filter(None, (self.formatMessage(record), _below(record))))


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
        if below := _below(record):
            line["traceback"] = below
        return json.dumps(line).replace("\x7f", "\\u007f")  # all other control characters are written so already


def _below(record: logging.LogRecord) -> str:
    """What a line has below it: kinds and places of a failure, or what is to be said of it."""
    if record.exc_text:
        return visible(record.exc_text, "\n")
    # An exception's words may quote a request.
    error = record.exc_info[1] if record.exc_info else None
    return visible(places(error), "\n") if error is not None else ""
