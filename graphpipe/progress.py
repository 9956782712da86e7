"""How far something large has come, on one line of a terminal; silent where nobody watches."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TextIO

__all__ = ["Progress", "readable_bytes"]

_REDRAW_S = 0.1
_BAR_COLUMNS = 24


class Progress:
    """A line that says how many bytes of how many have moved.

    Nothing is shown unless ``stream`` is a terminal, and nothing in the first ``delay_s``: what is quick needs no bar.
    """

    def __init__(self, label: str, stream: TextIO | None = None, delay_s: float = 0.3) -> None:
        self._label = label
        self._stream = stream or sys.stderr
        self._on = self._stream.isatty()
        self._begin = time.monotonic()
        self._next = self._begin + delay_s
        self._shown = 0  # columns of the line that is on the screen

    def label(self, label: str) -> None:
        """Go on with something else: the counting begins anew."""
        if label != self._label:
            self._label, self._begin = label, time.monotonic()

    def update(self, done: int, total: int | None) -> None:
        """Say how far it has come; cheap enough to be called for every piece."""
        if self._on and (now := time.monotonic()) >= self._next:
            self._next = now + _REDRAW_S
            self._show(self._line(done, total, now - self._begin))

    def show(self, done: float, total: float, words: str) -> None:
        """Say how far something has come that is not bytes, and how it goes."""
        if self._on and (now := time.monotonic()) >= self._next:
            self._next = now + _REDRAW_S
            self._show(f"[{_bar(done, total)}] {words}")

    def clear(self) -> None:
        """Take the line away."""
        if self._shown:
            self._stream.write(f"\r{' ' * self._shown}\r")
            self._stream.flush()
            self._shown = 0

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.clear()

    def _line(self, done: int, total: int | None, seconds: float) -> str:
        speed = f"{readable_bytes(int(done / seconds))}/s" if seconds > 0 else ""
        if not total:
            return f"{self._label}: {readable_bytes(done)}, {speed}"
        return f"{self._label} [{_bar(done, total)}] {100 * done // total}% of {readable_bytes(total)}, {speed}"

    def _show(self, line: str) -> None:
        self._stream.write(f"\r{line}{' ' * (self._shown - len(line))}")
        self._stream.flush()
        self._shown = len(line)


def _bar(done: float, total: float) -> str:
    filled = int(min(done, total) * _BAR_COLUMNS // total)
    return "#" * filled + "." * (_BAR_COLUMNS - filled)


def readable_bytes(count: int) -> str:
    """A number of bytes as people say it: 77.1 MB."""
    size, unit = float(count), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if size < 1000:
            break
        size, unit = size / 1000, larger
    return f"{size:.0f} {unit}" if unit == "B" or size >= 100 else f"{size:.1f} {unit}"
