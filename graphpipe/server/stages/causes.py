"""What a failure says, in the log and to its caller.

The log has it without what the model was asked about.
A model's own words are what somebody needs who has to mend it, and they may quote the request: "could not convert
string to float: ..." does. So the words are kept, and whatever they share with the request is masked: any four characters
in a row that its text has too, in capitals or not, any short word of it, and every number that is not a dimension of an
input, in hex too. Bytes are text as well. Where no request is at hand, only
the kind of the failure and the places in the code are told (numbers/places.py). ``--log-values`` leaves nothing out.

The caller hears that the log has it, and with ``--debug`` the cause itself: what was asked is the caller's own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from graphpipe.backends.failure import place_of
from graphpipe.backends.framework import words_of
from graphpipe.errors import chain_of
from graphpipe.server.numbers.places import told
from graphpipe.server.stages.stage import Request
from graphpipe.words import WORDS_MAX, visible

__all__ = ["MASKED", "Causes", "cause"]

_WORDS_MAX = 2000
# To look for the traces of more text than this, or of more strings, would take long; the words are left out instead.
_TEXT_MAX = 64 * 1024
_STRINGS_MAX = 4096
_RUN = 4
_UNMASK = "--log-values shows"
# Of what led to a failure, a caller hears so many steps.
_STEPS_MAX = 3
_NUMBER = re.compile(
    r"[-+]?\d[\d_.]*[eE][-+]?\d+"
    r"|0[xX][0-9a-fA-F]+"
    r"|(?<![^\W_])(?=\d*[a-fA-F])(?:[0-9a-fA-F]{4,}|(?=[a-fA-F]*\d)[0-9a-fA-F]{2,3})(?![^\W_])"
    r"|[-+]?\d(?:[\d_.,]*\d)?"
    r"|\b(?:nan|inf|infinity)\b",
    re.IGNORECASE,
)
_SHORT = re.compile(r"(?<![^\W_])[^\W_]{1,3}(?![^\W_])")
# Their errors wrap the words that matter in nodes, traces and places of their own.
_WORDY = ("tensorflow", "onnxruntime")


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
    kind, place = type(error).__name__, place_of(error)
    if type(error).__module__.partition(".")[0] in _WORDY:
        words = words_of(error)
    else:
        words = " ".join(_words(error)[: 10 * WORDS_MAX].split()) or kind
        words = "".join(char if char.isprintable() else "?" for char in words)
        words = words if len(words) <= WORDS_MAX else f"{words[:WORDS_MAX]}..."
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


def _masked(words: str, texts: list[str] | None, dims: set[str]) -> str:
    if texts is None:
        return f"(the request has much text, so its words are left out; {_UNMASK} them)"
    text = "\0".join(texts).casefold()
    runs = {text[i : i + _RUN] for i in range(len(text) - _RUN + 1)}
    short = set(_SHORT.findall(text)) | {each.strip().casefold() for each in texts if len(each.strip()) < _RUN}
    # A character may be several when folded: where each of them comes from.
    origin = [i for i, char in enumerate(words) for _ in char.casefold()]
    folded = words.casefold()
    hidden = [False] * len(words)
    for i in range(len(folded)):
        for length in range(1, _RUN + 1):
            piece = folded[i : i + length]
            if len(piece) < length:
                break
            if piece in runs if length == _RUN else piece in short and _stands_alone(folded, i, i + length):
                for at in origin[i : i + length]:
                    hidden[at] = True
    shown = re.sub("\0+", "...", "".join("\0" if hide else char for char, hide in zip(words, hidden, strict=True)))
    return _NUMBER.sub(
        lambda number: number[0] if number[0] in dims and _stands_alone(shown, *number.span()) else "#", shown
    )


def _stands_alone(text: str, begin: int, end: int) -> bool:
    """Whether no word goes on at either end."""
    before, after = text[max(begin - 1, 0) : begin + 1], text[end - 1 : end + 1]
    return not (begin and before.isalnum()) and not (len(after) == 2 and after.isalnum())


def _text_of(request: Request) -> list[str] | None:
    """All text of a request, with its bytes; None if it is very much."""
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
        if not text.isascii():
            pieces += [ascii(text)[1:-1], repr(text.encode("utf-8", "surrogatepass"))[2:-1]]
    return pieces


def _strings(request: Request) -> Iterator[str | bytes]:
    yield request.config
    for array in request.inputs.values():
        if array.dtype.kind in "OSU":
            for item in array.flat:
                yield item if isinstance(item, bytes | str) else str(item)
        elif array.dtype in (np.uint8, np.int8):
            # More of it than can be compared is not copied.
            yield array.tobytes() if array.size <= _TEXT_MAX else bytes(_TEXT_MAX + 1)
