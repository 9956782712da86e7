"""What a failure says, in the log and to its caller.

The log has it without what the model was asked about.
A model's own words are what somebody needs who has to mend it, and they may quote the request: "could not convert
string to float: ..." does. So the words are kept, and whatever they share with the request is masked: any four characters
in a row that its text has too, and every number that is not a dimension of an input. Where no request is at hand, only
the kind of the failure and the places in the code are told (numbers/places.py). ``--log-values`` leaves nothing out.

The caller hears that the log has it, and with ``--debug`` the cause itself: what was asked is the caller's own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from graphpipe.backends.failure import place_of
from graphpipe.backends.framework import words_of
from graphpipe.server.numbers.places import chain_of, told
from graphpipe.server.stages.stage import Request
from graphpipe.words import visible

__all__ = ["MASKED", "Causes", "cause"]

_WORDS_MAX = 2000
# To look for the traces of more text than this, or of more strings, would take long; the words are left out instead.
_TEXT_MAX = 64 * 1024
_STRINGS_MAX = 4096
_RUN = 4
_UNMASK = "--log-values shows"
# Of what led to a failure, a caller hears so many steps.
_STEPS_MAX = 3
_NUMBER = re.compile(r"(?<![\w.])[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?(?!\w)|\b(?:nan|inf)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Causes:
    """How much is told of why a model failed: ``values`` of requests in the log, and the cause ``to_callers``."""

    values: bool = False
    to_callers: bool = False

    def in_log(self, error: BaseException, request: Request) -> str:
        """What stands below the log's line: several lines."""
        return cause(error, request, self.values)

    def to_caller(self, error: BaseException) -> str:
        """How the message to the caller ends: one line of bounded length."""
        if not self.to_callers:
            return "; the server's log has the cause"
        try:
            steps = [_step(each) for each in chain_of(error)[: -_STEPS_MAX - 1 : -1]]
            return f": {', after '.join(steps)}"
        except BaseException:  # an error's own methods may do anything
            return f" ({type(error).__name__}); the server's log has the cause"


# What is told unless somebody asks for more.
MASKED = Causes()


def _step(error: BaseException) -> str:
    kind, words, place = type(error).__name__, words_of(error), place_of(error)
    said = kind if words == kind else f"{kind}: {words}"
    return visible(f"{said} ({place})" if place else said)


def cause(error: BaseException, request: Request, values: bool = False) -> str:
    """Kinds, words and places of a failure on a request, and of what led to it, the first one first.

    Without ``values`` what the words share with the request is left out, and a last line says so.
    """
    try:
        chain = chain_of(error)
        if values:
            return "\n".join(told(each, _words(each)[:_WORDS_MAX]) for each in chain)
        text = _text_of(request)
        dims = {str(dim) for array in request.inputs.values() for dim in array.shape}
        words = [_words(each)[:_WORDS_MAX] for each in chain]
        shown = [_masked(each, text, dims) for each in words]
        lines = [told(each, say) for each, say in zip(chain, shown, strict=True)]
        if shown != words and text is not None:
            lines.append(f"(what the request may have said is left out as ... and #; {_UNMASK} it)")
        return "\n".join(lines)
    except BaseException as failed:  # an error's own methods may do anything
        return f"{type(error).__name__}, of which nothing can be told: {type(failed).__name__} is raised"


def _words(error: BaseException) -> str:
    try:
        return str(error)
    except BaseException as failed:
        return f"(its words cannot be had: {type(failed).__name__} is raised)"


def _masked(words: str, text: str | None, dims: set[str]) -> str:
    if text is None:
        return f"(the request has much text, so its words are left out; {_UNMASK} them)"
    runs = {text[i : i + _RUN] for i in range(len(text) - _RUN + 1)}
    hidden = [False] * len(words)
    for i in range(len(words) - _RUN + 1):
        if words[i : i + _RUN] in runs:
            hidden[i : i + _RUN] = [True] * _RUN
    shown = re.sub("\0+", "...", "".join("\0" if hide else char for char, hide in zip(words, hidden, strict=True)))
    return _NUMBER.sub(lambda number: number[0] if number[0] in dims else "#", shown)


def _text_of(request: Request) -> str | None:
    """All text of a request; None if it is very much."""
    if sum(array.size for array in request.inputs.values() if array.dtype.kind in "OSU") > _STRINGS_MAX:
        return None
    pieces: list[str] = []
    left = _TEXT_MAX
    for item in _strings(request):
        left -= len(item)
        if left < 0:
            return None
        text = item.decode("utf-8", "backslashreplace") if isinstance(item, bytes) else item
        # As it is, and as a repr would write it.
        pieces += [text, repr(text)[1:-1]]
    return "\0".join(pieces)


def _strings(request: Request) -> Iterator[str | bytes]:
    yield request.config
    for array in request.inputs.values():
        if array.dtype.kind in "OSU":
            for item in array.flat:
                yield item if isinstance(item, bytes | str) else str(item)
