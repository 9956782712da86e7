"""Where log lines go and how they look: for people on a terminal, or as JSON for machines."""

from __future__ import annotations

import json
import logging
import sys
import time
from dataclasses import asdict

__all__ = ["log_to_stderr"]


def log_to_stderr(format_name: str, verbose: int, access: bool) -> None:
    """Send this process's log to stderr. ``format_name`` is ``human`` or ``json``; ``access`` turns access lines on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json() if format_name == "json" else _Human())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel((logging.WARNING, logging.INFO, logging.DEBUG)[min(verbose, 2)])
    logging.getLogger("graphpipe.access").setLevel(logging.INFO if access else logging.CRITICAL)
    # Its messages hold raw bytes of the request, with a traceback for each stranger's typo.
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)
    logging.getLogger("asyncio").setLevel(logging.ERROR)


class _Human(logging.Formatter):
    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s", "%H:%M:%S")


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
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line)
