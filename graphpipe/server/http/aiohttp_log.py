"""What aiohttp logs by: only what of ours failed in it."""

from __future__ import annotations

import logging
import sys
from typing import Any

from aiohttp.http_exceptions import HttpProcessingError

from graphpipe.server.numbers.failures import FAILURES

__all__ = ["AIOHTTP_LOG"]

log = logging.getLogger("graphpipe.http")


class _AiohttpLog(logging.Logger):
    """aiohttp itself would log raw bytes of requests, and a traceback for each stranger's typo. A request that is none
    has got its answer, and is no failure of ours.
    """

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802 - the base class's name
        return False

    def exception(self, msg: object, *args: object, exc_info: Any = True, **more: Any) -> None:
        error = exc_info if isinstance(exc_info, BaseException) else sys.exc_info()[1]
        if error is not None and not isinstance(error, HttpProcessingError):
            FAILURES.tell(log, "%s", str(msg).partition(" from %s")[0], error=error)


AIOHTTP_LOG = _AiohttpLog("graphpipe.http.aiohttp")
