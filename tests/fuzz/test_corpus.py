"""What fuzzers found and what they start from, read once more: no input that is kept is a finding."""

from __future__ import annotations

from dataclasses import fields
from importlib import import_module

import numpy as np
import pytest

from graphpipe.server.http.head import Head, Passing, cut, parse
from graphpipe.wire import encode_request
from graphpipe.wire.memory import LayoutMemory
from tests.fuzz import INSTRUMENTED, corpus

ALL_BYTES_MAX = 300_000


@pytest.mark.parametrize("name", INSTRUMENTED)
def test_no_input_of_the_corpus_is_read_in_two_ways(name):
    target = import_module(f"tests.fuzz.{name}")
    for data in [*target.seeds(), *corpus.inputs(name)]:
        try:
            target.check(data)
        except Exception as finding:
            finding.add_note(f"the input: {data!r}")
            raise


def test_every_target_has_a_corpus_and_all_of_them_are_small():
    assert {path.stem for path in corpus.FOLDER.iterdir()} == set(INSTRUMENTED)
    assert all(len(corpus.inputs(name)) > 10 for name in INSTRUMENTED)
    assert sum(path.stat().st_size for path in corpus.FOLDER.iterdir()) < ALL_BYTES_MAX


def test_a_corpus_that_is_written_anew_keeps_its_findings(tmp_path, monkeypatch):
    monkeypatch.setattr(corpus, "FOLDER", tmp_path)
    (tmp_path / "head.json").write_text('{"findings": ["AA=="], "corpus": ["AQ=="]}')
    corpus.keep("head", [b"\3", b"\2"])
    assert corpus.inputs("head") == [b"\0", b"\2", b"\3"]


# What a target would say of code that is wrong, without making it wrong: where two readers differ, or ours is none.
@pytest.mark.parametrize(
    ("name", "what", "data"),
    [
        ("head", "parse", b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\n"),
        ("chunks", "_ours", b"\0\0001\r\na\r\n0\r\n\r\n"),
        ("answer", "_ours", b"\0\0HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na"),
    ],
)
def test_a_target_notices_who_reads_otherwise(name, what, data, monkeypatch):
    target = import_module(f"tests.fuzz.{name}")
    target.check(data)
    right = getattr(target, what)

    def longer(*args):
        read = right(*args)
        if name == "head":
            read.length += 1
            return read
        return (read[0], read[1] + b"b", *read[2:]) if name == "answer" else (read[0] + b"b", *read[1:])

    monkeypatch.setattr(target, what, longer)
    with pytest.raises(AssertionError):
        target.check(data)


def test_the_decoders_target_notices_a_memory_that_takes_one_message_for_another(monkeypatch):
    target = import_module("tests.fuzz.decoder")
    message = b"".join(encode_request([np.arange(3.0)], ["input"]))
    data = bytes((0, message.index(b"input"), 0, 1)) + message
    target.check(data)

    def careless(self, message):
        return next((known for each in self._outlines.get(len(message), ()) for known in each.readings.values()), None)

    monkeypatch.setattr(LayoutMemory, "find", careless)
    with pytest.raises(AssertionError, match="by a layout that is known"):
        target.check(data)


HEAD = b"\r\n".join(
    [
        b"POST /a HTTP/1.1", b"Host: h", b"Content-Length: 4", b"Accept: application/vnd.graphpipe",
        b"Authorization: Bearer a", b"Expect: 100-continue", b"Accept-Encoding: gzip", b"", b"",
    ]
)  # fmt: skip
PASSING = HEAD.replace(b"Expect", b"X-Request-Id: r\r\nGraphPipe-Timeout-Ms: 7\r\nExpect")


@pytest.mark.parametrize("field", [field.name for field in fields(Head)])
def test_no_field_of_a_head_is_taken_on_trust(field, monkeypatch):
    from tests.fuzz import head

    head.check(HEAD)

    def otherwise(data):
        read = parse(data)
        value = getattr(read, field)
        setattr(read, field, not value if isinstance(value, bool) else 1 if value is None else value * 2 or "a")
        return read

    monkeypatch.setattr(head, "parse", otherwise)
    with pytest.raises(AssertionError):
        head.check(HEAD)


@pytest.mark.parametrize(
    ("what", "otherwise"),
    [
        ("authorizations_in", lambda data: []),
        ("accepted_codings", lambda data: "br"),
        ("request_id_of", lambda data: ""),
        ("asked_in", lambda data: ("GET", "/a")),
        ("version_of", lambda data: "HTTP/1.0"),
        ("cut", lambda data: (cut(data)[0], Passing(7, "other"))),
        ("cut", lambda data: (cut(data)[0], Passing(8, "r"))),
        ("cut", lambda data: (cut(data)[0].replace(b"Bearer a", b"Bearer b"), Passing(7, "r"))),
        ("cut", lambda data: (cut(data)[0].replace(b"gzip", b"br"), Passing(7, "r"))),
    ],
)
def test_no_reader_of_a_head_is_taken_on_trust(what, otherwise, monkeypatch):
    from tests.fuzz import head

    head.check(PASSING)
    monkeypatch.setattr(head, what, otherwise)
    with pytest.raises(AssertionError):
        head.check(PASSING)
