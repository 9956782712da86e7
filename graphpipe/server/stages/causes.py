"""What a failure says in the log, without what it was asked about.

A model's own words are what somebody needs who has to mend it, and they may quote the request: "could not convert
string to float: ..." does. So the words are kept, and whatever they share with the request is masked: any four characters
in a row that its text has too, and every number that is not a dimension of an input. Where no request is at hand, only
the kind of the failure and the places in the code are told (numbers/places.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from graphpipe.server.numbers.places import chain_of, told
from graphpipe.server.stages.stage import Request

__all__ = ["cause"]

_WORDS_MAX = 2000
# To look for the traces of more text than this, or of more strings, would take long; the words are left out instead.
_TEXT_MAX = 64 * 1024
_STRINGS_MAX = 4096
_RUN = 4
_NUMBER = re.compile(r"(?<![\w.])[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?(?!\w)|\b(?:nan|inf)\b", re.IGNORECASE)


def cause(error: BaseException, request: Request) -> str:
    """Kinds, words and places of a failure on a request, and of what led to it, the first one first."""
    try:
        text = _text_of(request)
        dims = {str(dim) for array in request.inputs.values() for dim in array.shape}
        return "\n".join(told(each, _masked(_words(each), text, dims)) for each in chain_of(error))
    except BaseException as failed:  # an error's own methods may do anything
        return f"{type(error).__name__}, of which nothing can be told: {type(failed).__name__} is raised"


def _words(error: BaseException) -> str:
    try:
        return str(error)
    except BaseException as failed:
        return f"(its words cannot be had: {type(failed).__name__} is raised)"


def _masked(words: str, text: str | None, dims: set[str]) -> str:
    if text is None:
        return "(the request has much text, so its words are left out)"
    words = words[:_WORDS_MAX]
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
