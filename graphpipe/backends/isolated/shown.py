"""The memory that the other side shows to a model's process, call by call.

It is used again for other calls as soon as this one has its answer. So what the model still looks at then becomes memory
of this process's own, with the bytes that it had, at the address that it had: the model does not notice.
"""

from __future__ import annotations

import os
import sys
import threading
from collections import Counter

from graphpipe.backends.isolated.frames import AREA, Frame, TornFrame
from graphpipe.memory.mappings import Mapped, Mappings, Refused

__all__ = ["Shown"]

# As many as the other side has segments; what was not seen for longest is unmapped first.
_COUNT_MAX = 256
_BYTES_MAX = 1 << 46


class Shown:
    """What was shown to one process, on all its lanes."""

    def __init__(self) -> None:
        self._mappings = Mappings(_BYTES_MAX, _COUNT_MAX)
        self._calls: Counter[tuple[int, int]] = Counter()
        self._lock = threading.Lock()

    def look(self, frame: Frame, looked_at: list[Mapped]) -> tuple[dict[int, memoryview], memoryview | None]:
        """The bytes of the tensors that are not in a frame's message, and the memory for the answer's. What they lie in is
        added to ``looked_at``, which is let go of afterwards.

        Raises TornFrame for descriptors that are no such memory.
        """
        tensors: dict[int, memoryview] = {}
        area = None
        try:
            for descriptor in frame.descriptors:
                mapped = self._mappings.take(descriptor)
                with self._lock:
                    self._calls[mapped.key] += 1
                looked_at.append(mapped)
            for tensor, number, offset, length in frame.pieces:
                if number >= len(looked_at):
                    raise Refused(f"tensor {tensor} is said to be in descriptor {number}, which did not come")
                if tensor == AREA:
                    area = looked_at[number].view(offset, length, writable=True)
                else:
                    tensors[tensor] = looked_at[number].view(offset, length)
        except Refused as error:
            raise TornFrame(str(error)) from None
        return tensors, area

    def let_go(self, looked_at: list[Mapped]) -> None:
        """A call is over. What somebody still looks at is his own from here on."""
        for mapped in looked_at:
            with self._lock:
                self._calls[mapped.key] -= 1
                is_last = not self._calls[mapped.key]
                if is_last:
                    del self._calls[mapped.key]
                if is_last and mapped.in_use:
                    self._part(mapped)

    def _part(self, mapped: Mapped) -> None:
        try:
            self._mappings.part(mapped)
        except OSError as error:
            # Another call's bytes would come up in what the model keeps.
            print(f"no memory for what the model keeps of its inputs: {error}", file=sys.stderr, flush=True)
            os._exit(1)
