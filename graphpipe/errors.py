"""Everything that this package raises on purpose.

    GraphPipeError
    +-- ServiceError            an answer that says no; has code, http_status and message
    |   +-- MalformedMessage     1  400   the bytes are not a GraphPipe message
    |   +-- InvalidRequest       2  400   understood, but it does not fit the model
    |   +-- NotFound             3  404   no such model or path
    |   +-- ModelFailed          4  500   the model raised; the cause is in the server's log
    |   +-- TooLarge             5  413   over a size limit
    |   +-- Overloaded           6  503   over a load limit, or (429) the caller's own; worth another try after retry_after_s
    |   +-- DeadlineExceeded     7  504   the caller's deadline passed before the answer
    |   +-- Unauthenticated      8  401
    |   +-- Forbidden            9  403
    |   +-- NotReady            10  503   starting or draining
    |   +-- Unsupported         11  405   a method, encoding (415) or kind of request (501) that is not served
    |   +-- UpstreamFailed      12  502   the server behind this server gave no answer
    +-- NoAnswer                no answer was understood: nobody can say whether the model ran
    |   +-- Unreachable         no connection could be made: the model did not run
    |   +-- TimedOut            the client's own timeout passed (also a TimeoutError)
    +-- LoadError               a model could not be loaded
        +-- PackageError        a package could not be made, or is not what it says
        +-- ProblemError        a problem's definition makes no sense (also a ValueError)
        +-- TestFailed          a model's answer to a test of its problem is not the expected one
        +-- TraceError          a function cannot be recorded as a pipeline

The codes are part of the wire (docs/wire.md) and never change. A client raises the class of the code that the server
sent, with the status that came. A server that sends no code (the original does not) is judged by its status alone:
``code`` is what that stands for, or 0: 400 stands for two codes, and is InvalidRequest.
"""

from __future__ import annotations

from typing import Any, TypeVar

__all__ = [
    "CHAIN_MAX",
    "DeadlineExceeded",
    "Forbidden",
    "GraphPipeError",
    "InvalidRequest",
    "LoadError",
    "MalformedMessage",
    "ModelFailed",
    "NoAnswer",
    "NotFound",
    "NotReady",
    "Overloaded",
    "PackageError",
    "ProblemError",
    "ServiceError",
    "TestFailed",
    "TimedOut",
    "TooLarge",
    "TraceError",
    "Unauthenticated",
    "Unreachable",
    "Unsupported",
    "UpstreamFailed",
    "chain_of",
    "let_go",
    "service_error",
]

E = TypeVar("E", bound=BaseException)


class GraphPipeError(Exception):
    """The root of all of them.

    ``safe_to_retry``: nothing has run, and another try may fare better.
    """

    safe_to_retry: bool = False


class ServiceError(GraphPipeError):
    """An answer that says no: the request was read, and refused or failed.

    ``code`` is the number on the wire (where there is none, what the status tells, or 0), ``http_status`` the status it
    travels with, ``message`` what to tell a person. ``retry_after_s`` is how many seconds the server asks to wait before
    another try, None where it does not say.
    """

    code: int = 0
    http_status: int = 500
    retry_after_s: float | None = None

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class MalformedMessage(ServiceError):
    """The bytes are not a GraphPipe message."""

    code, http_status = 1, 400


class InvalidRequest(ServiceError):
    """The message was understood, but it does not fit the model."""

    code, http_status = 2, 400


class NotFound(ServiceError):
    """There is no such model or path."""

    code, http_status = 3, 404


class ModelFailed(ServiceError):
    """The model raised on this input. The cause stays in the server's log: its text may hold paths or data."""

    code, http_status = 4, 500


class TooLarge(ServiceError):
    """A size is over its limit."""

    code, http_status = 5, 413


class Overloaded(ServiceError):
    """A load limit is reached; nothing ran. ``retry_after_s`` says when another try makes sense.

    With ``http_status`` 429 the limit is one that holds for this caller: another server would fare no better with him.
    """

    code, http_status, safe_to_retry = 6, 503, True

    def __init__(self, message: str, retry_after_s: float | None = 1.0, http_status: int = 503) -> None:
        super().__init__(message)
        self.retry_after_s, self.http_status = retry_after_s, http_status


class DeadlineExceeded(ServiceError):
    """The caller's deadline passed before there was an answer."""

    code, http_status = 7, 504


class Unauthenticated(ServiceError):
    """The caller did not say who it is."""

    code, http_status = 8, 401


class Forbidden(ServiceError):
    """The caller may not do this."""

    code, http_status = 9, 403


class NotReady(ServiceError):
    """The server is starting or draining."""

    code, http_status, safe_to_retry = 10, 503, True
    retry_after_s = 1.0


class Unsupported(ServiceError):
    """A method, an encoding of the body (415) or a kind of request (501) that is not served."""

    code, http_status = 11, 405

    def __init__(self, message: str, http_status: int = 405) -> None:
        super().__init__(message)
        self.http_status = http_status


class UpstreamFailed(ServiceError):
    """The server behind this server gave no answer."""

    code, http_status = 12, 502


class NoAnswer(GraphPipeError):
    """No answer was understood: nobody can say whether the model ran."""


class Unreachable(NoAnswer):
    """No connection could be made: the model did not run."""

    safe_to_retry = True


class TimedOut(NoAnswer, TimeoutError):
    """The client's own timeout passed first."""


class LoadError(GraphPipeError):
    """A model could not be loaded; the message says which one, why, and how to mend it."""


class PackageError(LoadError):
    """A package could not be made, or is not what its manifest says."""


class ProblemError(LoadError, ValueError):
    """A problem's definition makes no sense; the message says at which place, and what was expected there."""


class TestFailed(LoadError):
    """A model's answer to a test of its problem is not the one that was expected; the message has the difference."""

    __test__ = False  # its name is no test's


class TraceError(LoadError):
    """A function cannot be recorded as a pipeline; the message says in which line, why, and how to mend it."""


_BY_CODE: dict[int, type[ServiceError]] = {
    cls.code: cls
    for cls in (
        MalformedMessage,
        InvalidRequest,
        NotFound,
        ModelFailed,
        TooLarge,
        Overloaded,
        DeadlineExceeded,
        Unauthenticated,
        Forbidden,
        NotReady,
        Unsupported,
        UpstreamFailed,
    )
}

# For servers that send no code.
_CODE_BY_STATUS: dict[int, int] = {
    401: 8, 403: 9, 404: 3, 405: 11, 413: 5, 415: 11, 429: 6, 500: 4, 501: 11, 502: 12, 503: 6, 504: 7, 505: 11,
}  # fmt: skip
# It stands for two codes, and tells none. The original says 400 to everything, mostly to requests that do not fit.
_CLASS_BY_STATUS: dict[int, type[ServiceError]] = {400: InvalidRequest}


def service_error(code: int, http_status: int, message: str, retry_after_s: float | None = None) -> ServiceError:
    """The error that a server's answer stands for: by its code, or by its status where it sent none."""
    code = code or _CODE_BY_STATUS.get(http_status, 0)
    cls = _BY_CODE.get(code, ServiceError) if code else _CLASS_BY_STATUS.get(http_status, ServiceError)
    error = cls(message)
    error.code, error.http_status, error.retry_after_s = code, http_status, retry_after_s
    return error


# Read and written like this, since an error's own class may say anything of these names.
_TRACEBACK: Any = BaseException.__dict__["__traceback__"]
_CAUSE: Any = BaseException.__dict__["__cause__"]
_CONTEXT: Any = BaseException.__dict__["__context__"]
_PARTS: Any = BaseExceptionGroup.__dict__["exceptions"]


def let_go(error: E) -> E:
    """Have an error, and all that led to it, forget the frames that it came through. Gives it back.

    For every error that outlives these frames: one that is kept, put into a future, or told to another thread. A frame
    holds what it worked on, a request's memory say, and often the error as well, by a name or a future: a ring that would
    keep all of it until a garbage collection happens to run.
    """
    seen: set[int] = set()
    left: list[BaseException | None] = [error]
    while left:
        each = left.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        _TRACEBACK.__set__(each, None)
        left += (_CAUSE.__get__(each), _CONTEXT.__get__(each))
        if issubclass(type(each), BaseExceptionGroup):
            left += _PARTS.__get__(each)
    return error


# More led to no failure that anybody would read about.
CHAIN_MAX = 20


def chain_of(error: BaseException) -> list[BaseException]:
    """A failure and what led to it, the first one first."""
    chain: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and all(current is not each for each in chain) and len(chain) < CHAIN_MAX:
        chain.append(current)
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)
    return chain[::-1]
