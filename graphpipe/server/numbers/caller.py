"""What is counted for one caller who has a name."""

from __future__ import annotations

from typing import cast

import numpy as np
from numpy.typing import NDArray

from graphpipe.server.numbers.families import START

__all__ = ["Caller"]

_REQUESTS, _ERRORS = START["graphpipe_caller_requests"], START["graphpipe_caller_errors"]


class Caller:
    """A caller's requests in one worker: all of them, and those whose answer was not 200, since they were published.

    ``row`` is in the memory that all workers see; callers who are too many to be told apart have one in common.
    """

    __slots__ = ("_cells", "errors", "name", "requests")

    def __init__(self, name: str, row: NDArray[np.float64]) -> None:
        self.name = name
        self.requests = self.errors = 0
        self._cells = cast("memoryview[float]", row.data)

    def publish(self) -> None:
        """Put what was counted into the row."""
        if self.requests:
            self._cells[_REQUESTS] += self.requests
            self._cells[_ERRORS] += self.errors
            self.requests = self.errors = 0
