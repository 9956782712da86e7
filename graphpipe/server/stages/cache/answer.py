"""An answer whose rows come from several places: the store, memory, flights of others and one's own."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from graphpipe.server.stages.stage import Outputs

__all__ = ["Answer"]


class Answer:
    """Rows from several places, put together in order."""

    def __init__(self, rows: int) -> None:
        self.rows = 0
        self._of = rows
        self._parts: list[tuple[Outputs, Sequence[int], Sequence[int]]] = []

    def add(self, outputs: Outputs, into: Sequence[int], rows: Sequence[int]) -> None:
        """Row ``rows[i]`` of ``outputs`` is row ``into[i]`` of the answer."""
        if len(into):
            self._parts.append((outputs, into, rows))
            self.rows += len(into)

    def put_together(self, asked: tuple[str, ...]) -> Outputs | None:
        """The answer; None if the rows have different types or shapes."""
        if len({tuple(outputs) for outputs, _, _ in self._parts}) > 1 and not asked:
            return None
        whole: Outputs = {}
        for name in asked or self._parts[0][0]:
            kinds = {(outputs[name].dtype, outputs[name].shape[1:]) for outputs, _, _ in self._parts}
            if len(kinds) != 1:
                return None
            dtype, shape = kinds.pop()
            array = np.empty((self._of, *shape), dtype)
            for outputs, into, rows in self._parts:
                array[np.asarray(into)] = outputs[name][np.asarray(rows)]
            whole[name] = array
        return whole
