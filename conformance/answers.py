"""Answers that no server of ours gives, but some server might: what each client makes of them."""

from __future__ import annotations

import gzip
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from conformance.adapters.python import write
from conformance.live import Check, gives, gives_no_answer, gives_value, says_no
from conformance.making.valid import META, SIX, THREE
from conformance.making.values import infer, response
from conformance.making.writers import ORIGINAL_GO, ORIGINAL_PYTHON, builder
from tests.canned import Caller, Talk, answer

__all__ = ["Answer", "cases"]

Value = dict[str, Any]
_CALL: Value = {"op": "call", "value": infer([SIX])}
_OURS = "Content-Type: application/vnd.graphpipe"
_TEXT = "Content-Type: text/plain; charset=utf-8"
_BROKEN = b"\xff\xff\xff\xff garbage"
# What a status alone tells. 400 stands for two codes, 418 for none; 429 and 503 are somebody too busy, whoever that is.
_CODE_BY_STATUS = {
    401: 8, 403: 9, 404: 3, 405: 11, 413: 5, 415: 11, 500: 4, 501: 11, 502: 12, 503: 6, 504: 7, 429: 6, 400: 0, 418: 0,
}  # fmt: skip
_STATUS_BY_CODE = {1: 400, 2: 400, 3: 404, 4: 500, 5: 413, 6: 503, 7: 504, 8: 401, 9: 403, 10: 503, 11: 405, 12: 502}


@dataclass(frozen=True)
class Answer:
    """A server that talks in this way, and what comes of a call. It gets the request once, whatever it answers."""

    name: str
    talk: Talk
    check: Check
    case: Value


def cases() -> Iterator[Answer]:
    """All of them."""
    for name, raw, check in (*_good(), *_refusing(), *_no_answers()):
        yield Answer(name, _says(raw), check, _CALL)
    yield Answer("an answer in pieces", _in_pieces, gives([SIX]), _CALL)
    yield Answer("no answer in time", _silent, gives_no_answer, {**_CALL, "timeout_ms": 300})
    yield Answer("half an answer in time", _half, gives_no_answer, {**_CALL, "timeout_ms": 300})
    ask = {"op": "metadata"}
    described = builder("metadata_response", META, ORIGINAL_GO)
    yield Answer("the original's metadata", _says(answer(described)), gives_value(META, tuple(META)), ask)
    refused = _says(answer(b"no such thing\n", "400 Bad Request", _TEXT))
    yield Answer("the original's refusal of metadata", refused, says_no(0, 400, "no such thing"), ask)
    yield Answer("metadata that is none", _says(answer(_BROKEN)), gives_no_answer, ask)


def _good() -> Iterator[tuple[str, bytes, Check]]:
    body = write("infer_response", response([SIX]))
    six = gives([SIX])
    yield "an answer", answer(body), six
    yield "an answer with a type", answer(body, "200 OK", "Content-Type: application/octet-stream"), six
    yield "an answer under another type", answer(body, "200 OK", _TEXT), six
    yield "100 Continue first", b"HTTP/1.1 100 Continue\r\n\r\n" + answer(body), six
    pieces = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (body[:7], body[7:8], body[8:]))
    yield "chunks", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + pieces + b"0\r\n\r\n", six
    yield "a body up to the connection's end", b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + body, six
    original = builder("infer_response", response([SIX, THREE]), ORIGINAL_PYTHON)
    yield "an empty errors, as the original Python server's", answer(original), gives([SIX, THREE])


def _refusing() -> Iterator[tuple[str, bytes, Check]]:
    for status, code in _CODE_BY_STATUS.items():
        raw = answer("größe\n".encode(), f"{status} Whatever", _TEXT)
        yield f"{status} and text", raw, says_no(code, status, "größe")
    for code, status in _STATUS_BY_CODE.items():
        raw = answer(_failed(code, "größe"), f"{status} Whatever", _OURS)
        yield f"code {code}", raw, says_no(code, status, "größe")
    for code in (0, 99, -(2**63), 2**63 - 1):
        yield f"code {code}", answer(_failed(code, "odd"), "418 Odd", _OURS), says_no(code, 418, "odd")
    yield "the code before the status", answer(_failed(10, "starting"), "500 Odd", _OURS), says_no(10, 500, "starting")
    yield "a type with parameters", answer(_failed(7, "late"), "504 Late", f"{_OURS}; v=1"), says_no(7, 504, "late")
    yield "errors on a 200", answer(_failed(4, "failed")), says_no(4, 200, "failed")
    yield "broken errors", answer(_BROKEN, "404 Not Found", _OURS), says_no(3, 404)
    yield "no words", answer(b"", "502 Bad Gateway"), says_no(12, 502)
    yield "words that are not UTF-8", answer(b"too \xff large", "413 Large", _TEXT), says_no(5, 413, "large")
    yield "a success that is not 200", b"HTTP/1.1 204 No Content\r\n\r\n", says_no(0, 204)
    for status in (301, 302, 303, 307, 308):
        elsewhere = answer(b"elsewhere", f"{status} Elsewhere", "Location: /models/elsewhere")
        yield f"a redirect with {status}", elsewhere, says_no(0, status)


def _failed(code: int, words: str) -> bytes:
    return write("infer_response", response([], [(code, words)]))


def _no_answers() -> Iterator[tuple[str, bytes, Check]]:
    body = write("infer_response", response([SIX]))
    whole = answer(body)
    for name, raw in (
        ("what is no message", answer(_BROKEN)),
        ("a page of a proxy", answer(b"<html><body>Welcome</body></html>", "200 OK", "Content-Type: text/html")),
        ("an empty body", answer(b"")),
        ("a message cut off, and its length too", answer(body[:-1])),
        ("a body cut off", whole[:-1]),
        ("a body cut off in its middle", whole[: len(whole) - len(body) // 2]),
        ("a body that never comes", whole[: len(whole) - len(body)]),
        ("a head cut off", whole[:20]),
        ("chunks cut off", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n" % (len(body), body)),
        ("no byte at all", b""),
        ("another protocol", b"SSH-2.0-OpenSSH_9.2\r\n"),
        ("a body that is packed", answer(gzip.compress(body, mtime=0), "200 OK", "Content-Encoding: gzip")),
        ("a length beyond all memory", b"HTTP/1.1 200 OK\r\nContent-Length: 9223372036854775807\r\n\r\n"),
    ):
        yield name, raw, gives_no_answer


def _says(raw: bytes) -> Talk:
    def talk(caller: Caller) -> None:
        if caller.read_request():
            caller.send(raw)

    return talk


def _in_pieces(caller: Caller) -> None:
    if caller.read_request():
        raw = answer(write("infer_response", response([SIX])))
        for at in range(0, len(raw), 10):
            caller.send(raw[at : at + 10])
            time.sleep(0.001)


def _silent(caller: Caller) -> None:
    if caller.read_request():
        caller.read_request()  # until the caller leaves


def _half(caller: Caller) -> None:
    if caller.read_request():
        caller.send(answer(write("infer_response", response([SIX])))[:-8])
        caller.read_request()
