"""Lines about failures, as long as somebody can read them.

What fails once fails again, with every request: a traceback each would be megabytes a second that say nothing new. So in
every second a kind of failure has one line in full, a few more without what is below it, and then it is only counted. A
kind is what the line says, the type of the error and the place where it was raised.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass

from graphpipe.server.numbers.fields import with_fields
from graphpipe.server.numbers.places import places

__all__ = ["FAILURES", "Failures"]

# Of each kind, in a second: so many lines, of which the first ones in full.
_LINES, _IN_FULL = 5, 1
# So many kinds are told apart in a second; what is beyond them is one more kind.
_KINDS_MAX = 32


@dataclass(slots=True)
class _Kind:
    log: logging.Logger
    level: int
    text: str
    in_full: int
    times: int = 0


class Failures:
    """Any thread may tell of one. Whoever has a clock says when the next second begins."""

    def __init__(self) -> None:
        self._kinds: dict[object, _Kind] = {}
        self._lost = 0
        self._one_at_a_time = threading.Lock()

    def tell(
        self,
        log: logging.Logger,
        message: str,
        *arguments: object,
        error: BaseException,
        cause: Callable[[], str] | None = None,
        level: int = logging.ERROR,
        model: str = "",
        request_id: str = "",
    ) -> None:
        """Log that something failed: message and arguments, and below them the cause, which is asked for only where it
        is to be written. Without one it is the kinds and places of the error, and none of its words.
        ``request_id`` is what a caller calls his request; whoever reads the log as data has it, and the model, as fields.
        """
        if not log.isEnabledFor(level):
            return
        text = message % arguments
        type_name, place = _seen_from_outside(error)
        key: object = log.name, text, type_name, place
        with self._one_at_a_time:
            if key not in self._kinds and len(self._kinds) >= _KINDS_MAX:
                key = None
            kind = self._kinds.get(key)
            if kind is None:
                kind = _Kind(log, level, text, _IN_FULL) if key else _Kind(log, level, "failures of many kinds", 0)
                self._kinds[key] = kind
            kind.times += 1
            times = kind.times
        if times > _LINES:
            return
        fields = {name: said for name, said in (("model", model), ("request_id", request_id)) if said}
        shown = f"{text} (id={request_id})" if request_id else text
        if times > kind.in_full:
            log.log(level, "%s: %s", shown, type_name, extra=with_fields(**fields))
            return
        record = log.makeRecord(log.name, level, "", 0, "%s", (shown,), None, extra=with_fields(**fields))
        # Where a log record has its traceback: every formatter puts it below.
        record.exc_text = places(error) if cause is None else cause()
        log.handle(record)

    def lose(self) -> None:
        """A line could not be written, of whatever it was."""
        with self._one_at_a_time:
            self._lost += 1

    def next_second(self) -> int:
        """A new second begins: tell how many lines were left out in the last one, and give their number."""
        if not (self._kinds or self._lost):
            return 0
        with self._one_at_a_time:
            kinds, self._kinds = self._kinds, {}
            left_out, self._lost = self._lost, 0
        for kind in kinds.values():
            more = kind.times - _LINES
            if more > 0:
                left_out += more
                kind.log.log(kind.level, "%s: and %s more like this in the last second", kind.text, f"{more:,}")
        return left_out


def _seen_from_outside(error: BaseException) -> tuple[str, str]:
    """The name of an error's type, and where it was raised: the innermost place."""
    try:
        name, place, trace = str(type(error).__qualname__), "", error.__traceback__
        while trace is not None:
            if trace.tb_next is None:
                place = f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"
            trace = trace.tb_next
        return name, place
    except BaseException:  # an error's own attributes may do anything
        return "an error of which nothing can be told", ""


# Of this process, as its log is.
FAILURES = Failures()
