"""Frames from a side that has gone astray."""

from __future__ import annotations

import contextlib
import json
import os
import random
import socket
import struct
import traceback
from collections.abc import Iterator

import numpy as np
import pytest

from graphpipe.backends.isolated.failures import (
    ModelRaised,
    failure_from_bytes,
    failure_to_bytes,
    refusal_from_bytes,
    refusal_to_bytes,
)
from graphpipe.backends.isolated.frames import Frame, Frames, Kind, Piece, TornFrame
from graphpipe.backends.isolated.sharing import Sharing, Told
from graphpipe.errors import GraphPipeError, InvalidRequest, MalformedMessage
from graphpipe.wire.messages import encode_infer_response
from tests.isolation.conftest import held


@pytest.fixture
def ends() -> Iterator[tuple[Frames, Frames]]:
    ours, theirs = socket.socketpair()
    ours.settimeout(10)
    theirs.settimeout(10)
    pair = Frames(ours, takes_descriptors=True), Frames(theirs)
    yield pair
    for each in pair:
        each.close()


def head(kind: int = Kind.CALL, pieces: int = 0, notes: int = 0, message: int = 0) -> bytes:
    return struct.pack("<BBHIIQ", kind, 0, pieces, 0, notes, message)


@pytest.mark.parametrize("size", [0, 1, 5000, 200_000, 1_000_000])
def test_what_is_sent_is_received(ends, size):
    import threading

    ours, theirs = ends
    segments = [b"a" * (size // 2), memoryview(b"b" * (size - size // 2))]
    pieces = [Piece(3, 1, 64, 7), Piece(2**32 - 1, 0, 0, 2**40)]
    sending = threading.Thread(
        target=lambda: theirs.send(Kind.ANSWER, segments, timeout_ms=5, pieces=pieces, notes=b"{}")
    )
    sending.start()
    frame = ours.receive()
    sending.join()
    assert (frame.kind, frame.timeout_ms, frame.pieces, frame.notes) == (Kind.ANSWER, 5, pieces, b"{}")
    assert bytes(frame.message) == b"a" * (size // 2) + b"b" * (size - size // 2)
    assert not ours.is_amid


@pytest.mark.parametrize(
    "sent",
    [
        head(pieces=60_000),
        head(notes=2**32 - 1),
        head(message=2**62),
        head() + b"more",
        head(message=3) + b"abcd",
    ],
    ids=["pieces", "notes", "message", "behind", "behind a message"],
)
def test_what_is_over_a_limit_or_comes_behind_is_refused_before_memory_is_taken(ends, sent):
    ours, theirs = ends
    theirs.socket.sendall(sent)
    with pytest.raises(TornFrame):
        ours.receive()


def test_a_side_that_has_gone_in_the_middle_is_noticed(ends):
    ours, theirs = ends
    theirs.socket.sendall(head(message=100) + b"abc")
    theirs.close()
    with pytest.raises(TornFrame, match="gone"):
        ours.receive()


def test_too_many_descriptors_and_those_of_half_a_frame_are_closed():
    before = held()
    for count, sent in ((16, head(message=10)), (17, head()), (200, head())):
        ours, theirs = socket.socketpair()
        frames = Frames(ours, takes_descriptors=True)
        ours.settimeout(10)
        numbers = [os.open("/dev/null", os.O_RDONLY) for _ in range(count)]
        socket.send_fds(theirs, [sent], numbers)
        for number in numbers:
            os.close(number)
        theirs.close()
        with pytest.raises(TornFrame):
            frames.receive()
        frames.close()
    assert held() == before


def test_random_bytes_are_frames_or_torn(ends):
    chance = random.Random(1)
    for _ in range(300):
        ours, theirs = socket.socketpair()
        frames = Frames(ours, takes_descriptors=True)
        theirs.sendall(chance.randbytes(chance.randrange(1, 60)))
        theirs.close()
        with contextlib.suppress(TornFrame):
            frames.receive()
        frames.close()


@pytest.mark.parametrize(
    ("pieces", "has_area"),
    [([Piece(0, 0, 0, 4)], False), ([Piece(0, 0, 2**40, 4)], True), ([Piece(0, 0, 1000, 100)], True),
     ([Piece(7, 0, 0, 4)], True), ([Piece(0, 0, 0, 5)], True)],
    ids=["no area", "far away", "over its end", "no such tensor", "another length"],
)  # fmt: skip
def test_an_answer_that_points_anywhere_is_none(pieces, has_area):
    told = Told([b""], area=memoryview(bytearray(1024)) if has_area else None)
    away = {0} if pieces[0].tensor == 0 else set()
    message = b"".join(encode_infer_response([np.ones(1, np.float32)], elsewhere=frozenset(away)))
    with pytest.raises((TornFrame, MalformedMessage)):
        Sharing().read(told, Frame(Kind.ANSWER, 0, pieces, b"", message, ()))


@pytest.mark.parametrize("pieces", [[], [Piece(0, 0, 0, 5)], [Piece(0, 0, 0, 2**63)], [Piece(0, 0, 0, 2**20)] * 2])
def test_a_wish_for_room_that_is_none_is_refused(pieces):
    with pytest.raises(TornFrame):
        Sharing().more_room(Told([b""]), Frame(Kind.ROOM, 0, pieces, b"", b"", ()))


def test_a_failure_is_made_again_with_its_kind_words_places_and_causes():
    def raise_it() -> None:
        try:
            raise KeyError("first")
        except KeyError as error:
            raise ZeroDivisionError("second") from error

    with pytest.raises(ZeroDivisionError) as raised:
        raise_it()
    made = failure_from_bytes(failure_to_bytes(raised.value, "nothing"))
    assert isinstance(made, ModelRaised)
    assert (type(made).__name__, type(made).__module__, str(made)) == ("ZeroDivisionError", "builtins", "second")
    assert str(made.__cause__) == "'first'"
    trace, names = made.__traceback__, []
    while trace is not None:
        names.append((trace.tb_frame.f_code.co_filename, trace.tb_frame.f_code.co_name, trace.tb_lineno))
        trace = trace.tb_next
    assert [name for _, name, _ in names] == [
        "test_a_failure_is_made_again_with_its_kind_words_places_and_causes",
        "raise_it",
    ]
    assert names[-1][0] == __file__
    # As a log shows it.
    shown = "".join(traceback.format_tb(made.__traceback__))
    assert f"line {names[-1][2]}, in raise_it" in shown
    assert 'raise ZeroDivisionError("second") from error' in shown


@pytest.mark.parametrize("text", [b"", b"{}", b"[]", b"[1]", b'[{"module": 1}]', b"nothing"])
def test_what_tells_of_no_failure_is_an_error_of_a_known_kind(text):
    with pytest.raises((ValueError, KeyError, TypeError)):
        failure_from_bytes(text)


@pytest.mark.parametrize("file", ["\ud800.py", "a\0b", "/dev/zero", "x" * 5000, "/"])
def test_a_failure_in_a_file_that_is_none_can_be_shown(file):
    """Whoever shows a traceback reads its files, and a device has no end."""
    said = [{"module": "m\ud800", "name": "E", "words": "w\ud800" * 9000, "frames": [[file, 1, "f\ud800" * 900]]}]
    shown = "".join(traceback.format_exception(failure_from_bytes(json.dumps(said).encode())))
    assert len(shown.encode()) < 20_000


def test_a_refusal_is_one_of_a_callers_request():
    said = InvalidRequest("not this")
    said.retry_after_s = 3.0
    made = refusal_from_bytes(refusal_to_bytes(said))
    assert (type(made), made.message, made.http_status, made.retry_after_s) == (InvalidRequest, "not this", 400, 3.0)
    for code, status in ((2, 200), (2, 999), (-1, 400), (2**40, 400), ("2", 400), (True, 400), (2, None), (2, 400.5)):
        with pytest.raises(ValueError, match="code or a status"):
            refusal_from_bytes(json.dumps([code, status, "", None]).encode())
    for after, made_of_it in ((float("nan"), 0.0), (float("inf"), 86400.0), (-5, 0.0)):
        made = refusal_from_bytes(json.dumps([0, 503, "w\ud800" * 9000, after]).encode())
        assert made.retry_after_s == made_of_it
        assert len(made.message.encode()) <= 8000


def test_an_answer_of_random_bytes_is_an_error_in_words(echo):
    chance = random.Random(5)
    message = b"".join(encode_infer_response([np.ones(3), np.arange(4)]))
    for _ in range(2000):
        notes = bytearray(chance.choice([b'[["a", "b"], [0]]', b'[2, 400, "w", 1]', b"[" * 9000, b"[{}]", b"null"]))
        body = bytearray(message)
        for text in (notes, body):
            for _ in range(chance.choice([0, 1, 3])):
                text[chance.randrange(len(text))] = chance.randrange(256)
        ends = [0, 8, 64, 2**63, 2**64 - 1]
        pieces = [Piece(chance.randrange(3), 0, chance.choice(ends), chance.choice(ends))] * chance.randrange(3)
        told = Told([b"x"], area=memoryview(bytearray(1024)) if chance.randrange(2) else None)
        frame = Frame(chance.randrange(14), 0, pieces, bytes(notes), memoryview(body), ())
        try:
            got = echo.model._read(told, frame, chance.choice([(), ("a", "b")]))
        except (GraphPipeError, ModelRaised) as error:
            assert len(str(error)) < 5000
        else:
            assert all(isinstance(array, np.ndarray) for array in got.values())
