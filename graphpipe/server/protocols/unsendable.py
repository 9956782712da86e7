"""A model's answer that cannot travel."""

from __future__ import annotations

import logging

from graphpipe.errors import ModelFailed, ServiceError
from graphpipe.server.numbers.failures import FAILURES

__all__ = ["unsendable"]

log = logging.getLogger("graphpipe.service")


def unsendable(model: str, error: BaseException) -> ServiceError:
    """What becomes of an error that came while a model's outputs were encoded: the caller did nothing wrong."""
    if not isinstance(error, ServiceError):
        FAILURES.tell(log, "model %r gave what is not an array", model, error=error)
        return ModelFailed(f"model {model!r} failed on this input; the server's log has the cause")
    failed = ModelFailed(f"model {model!r} gave an answer that cannot travel: {error.message}")
    failed.code = error.code if error.http_status == 413 else failed.code
    return failed
