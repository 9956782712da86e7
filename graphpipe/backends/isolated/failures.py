"""What a model raised, told from one process to another: kinds, words and places, the first of a chain first.

It is made again on the other side as an exception of the same name with the same frames, so that logs, masks and
``--debug`` treat it like one of a model in the same process. Nothing of it is run: a name is a name.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import stat
import traceback
from collections.abc import Generator, Sequence
from types import FrameType, FunctionType, TracebackType
from typing import Any

from graphpipe.errors import CHAIN_MAX, ServiceError, chain_of, service_error
from graphpipe.words import visible

__all__ = ["ModelRaised", "failure_from_bytes", "failure_to_bytes", "refusal_from_bytes", "refusal_to_bytes"]

_FRAMES_MAX = 60
_WORDS_MAX = 4000
_NAME_MAX = 200
_FILE_MAX = 1000
_SOURCE_BYTES_MAX = 16 << 20
_RETRY_AFTER_S_MAX = 86400.0


class ModelRaised(Exception):
    """What a model in another process raised. The classes of those that come are made with its own name."""


def refusal_to_bytes(said: ServiceError) -> bytes:
    """A model's no to its caller."""
    return json.dumps([said.code, said.http_status, said.message, said.retry_after_s]).encode()


def refusal_from_bytes(text: bytes) -> ServiceError:
    """The reverse. Raises ValueError or TypeError for what is none."""
    code, status, message, after = json.loads(text)
    if not (type(code) is int and 0 <= code < 2**31 and type(status) is int and 400 <= status <= 599):
        raise ValueError("a refusal with a code or a status that is none")
    if after is not None:
        after = min(max(0.0, float(after)), _RETRY_AFTER_S_MAX)  # in this order NaN becomes 0
    return service_error(code, status, _text(message, _WORDS_MAX), after)


def failure_to_bytes(error: BaseException, leave_out: str) -> bytes:
    """An exception, and what led to it, as JSON; without the frames of the file ``leave_out``, which called the model."""
    chain = []
    for each in chain_of(error):
        kind = type(each)
        chain.append(
            {
                "module": str(kind.__module__)[:_NAME_MAX],
                "name": str(kind.__qualname__)[:_NAME_MAX],
                "words": _words(each),
                "frames": _frames(each.__traceback__, leave_out),
            }
        )
    return json.dumps(chain).encode()


def _words(error: BaseException) -> str:
    try:
        return str(error)[:_WORDS_MAX]
    except BaseException as failed:  # an error's own methods may do anything
        return f"(its words cannot be had: {type(failed).__name__} is raised)"


def _frames(trace: TracebackType | None, leave_out: str) -> list[tuple[str, int, str]]:
    try:
        frames = [(each.filename, each.lineno or 0, each.name) for each in traceback.extract_tb(trace)]
    except BaseException:
        return []
    return [frame for frame in frames if frame[0] != leave_out][-_FRAMES_MAX:]


def failure_from_bytes(text: bytes) -> ModelRaised:
    """The exception that was told of, with what led to it as its cause. Raises ValueError for what tells of none."""
    chain = json.loads(text)
    if not isinstance(chain, list) or not chain:
        raise ValueError("no failure is told of")
    made: ModelRaised | None = None
    for said in chain[:CHAIN_MAX]:
        error = _made(
            _text(said["module"], _NAME_MAX), _text(said["name"], _NAME_MAX), _text(said["words"], _WORDS_MAX)
        )
        error.__cause__ = made
        made = _with_frames(error, said["frames"][:_FRAMES_MAX])
    assert made is not None
    return made


def _made(module: str, name: str, words: str) -> ModelRaised:
    plain = name.rpartition(".")[2]
    return _class_of(module, plain if plain.isidentifier() else "ModelRaised")(words)


@functools.lru_cache(maxsize=64)
def _class_of(module: str, name: str) -> type[ModelRaised]:
    return type(name, (ModelRaised,), {"__module__": module})


def _with_frames(error: ModelRaised, frames: Sequence[Sequence[Any]]) -> ModelRaised:
    """The error with a traceback of these frames."""
    trace: TracebackType | None = None
    for file, line, name in reversed(frames):
        # Without an instruction the line is the one that is told here.
        trace = TracebackType(
            trace, _frame(_shown_file(_text(file, _FILE_MAX)), _text(name, _NAME_MAX)), -1, max(1, int(line))
        )
    return error.with_traceback(trace)


def _text(said: object, most: int) -> str:
    """Somebody's words, not too many of them, which can be written down."""
    return str(said)[:most].encode("utf-8", "replace").decode()


def _shown_file(file: str) -> str:
    """A file that logs may read its lines from; in <>, which nobody opens, where it is none: a device would never end."""
    with contextlib.suppress(OSError, ValueError):
        status = os.stat(file)
        if stat.S_ISREG(status.st_mode) and status.st_size <= _SOURCE_BYTES_MAX:
            return file
    return f"<{visible(file)}>"


def _frame(file: str, name: str) -> FrameType:
    """A frame of a function with this name, in this file. It is a generator's, which has not begun: unlike one that has
    run, it knows nothing of ours, which would keep the memory of a call as long as somebody has the error.
    """
    code = _template.__code__.replace(co_filename=file, co_name=name)
    made: Generator[None, None, None] = FunctionType(code, {"__name__": name})()
    frame: FrameType = made.gi_frame  # type: ignore[attr-defined]
    return frame


def _template() -> Generator[None, None, None]:
    yield
