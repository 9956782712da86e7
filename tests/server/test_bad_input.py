"""Whatever comes in over the socket: the answer says what is wrong and how to mend it, the next caller is served."""

from __future__ import annotations

import contextlib
import json
import struct
from collections.abc import Iterator

import numpy as np
import pytest

from conformance.making.tree import Byte, Table, message
from graphpipe.wire import decode_infer_response
from tests import onnx_graphs
from tests.messages import STRING, Tensor, infer_request
from tests.raw_http import Answer, Wire, call, chunked, request
from tests.serving import Server, serving

BODY_BYTES_MAX = 1 << 20
ERROR_TYPE = "application/vnd.graphpipe"

GOOD = infer_request([Tensor(), Tensor()])
ROOT = struct.unpack_from("<I", GOOD)[0]
OUT_OF_RANGE = struct.pack("<I", 0x7FFFFFF0)


FAILING = """
class FiveIsTooMany(Exception):
    pass


def failing(x):
    if len(x) == 5:
        raise FiveIsTooMany(f"of {x}")
    return x
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("models")
    pair = onnx_graphs.pair_sum(folder / "pair.onnx")
    (folder / "failing.py").write_text(FAILING)
    failing = f"{folder / 'failing.py'}:failing"
    arguments = ["-m", pair, "-m", failing, "-m", "echo", "--body-bytes-max", str(BODY_BYTES_MAX)]
    with serving(*arguments, tracebacks=True) as server:  # of the model that raises
        yield server


def serves_on(server: Server) -> bool:
    answer = call(server.url, "POST", "/", GOOD)
    return answer.status == 200 and len(decode_infer_response(answer.body).outputs) == 2


def of(shape: list[int], number: int = 10, item_size: int = 4) -> Tensor:
    return Tensor(number, shape, bytes(int(np.prod(shape)) * item_size))


MALFORMED = {
    "an empty body": (b"", "the body is empty"),
    "four bytes": (bytes(4), "8 bytes"),
    "garbage": (bytes(range(256)) * 4, "byte"),
    "text": (b'{"instances": [1, 2, 3]}', "message"),
    "too little data": (infer_request([Tensor(data=bytes(20)), Tensor()]), "needs 24 bytes of data, but 20"),
    "too much data": (infer_request([Tensor(data=bytes(28)), Tensor()]), "needs 24 bytes of data, but 28"),
    "a negative dimension": (infer_request([Tensor(shape=[-2, 3]), Tensor()]), "[-2, 3]"),
    "two negative dimensions": (infer_request([Tensor(shape=[-2, -3]), Tensor()]), "[-2, -3]"),
    "dimensions whose product overflows": (infer_request([Tensor(shape=[2**62, 4]), Tensor()]), "2 GiB"),
    "an overflow hidden by a zero": (infer_request([Tensor(shape=[0, 2**62], data=b""), Tensor()]), "2 GiB"),
    "33 dimensions": (infer_request([Tensor(shape=[1] * 33, data=bytes(4)), Tensor()]), "33 dimensions"),
    "an unknown type": (infer_request([Tensor(type=13), Tensor()]), "type 13"),
    "type Null": (infer_request([Tensor(type=0), Tensor()]), "type 0"),
    "a root out of range": (OUT_OF_RANGE + GOOD[4:], "outside"),
    "a vtable out of range": (GOOD[:ROOT] + OUT_OF_RANGE + GOOD[ROOT + 4 :], "vtable"),
    "a hundred references to one string": (
        infer_request([Tensor(STRING, [100], strings=[b"x" * 10_000], same_string=100)]), "more bytes together"
    ),
    "fewer strings than the shape says": (infer_request([Tensor(STRING, [3], strings=[b"a", b"b"])]), "3 elements"),
    "5000 tensors": (infer_request([Tensor(shape=[], data=bytes(4))] * 5000), "4096"),
    "a name that is not UTF-8": (
        infer_request([Tensor(), Tensor()], ["bname", "b"]).replace(b"bname", b"b\xff\xfe\xfd\xfc"), "UTF-8"
    ),
}  # fmt: skip

INVALID = {
    "more tensors than the model has inputs": (infer_request([Tensor()] * 3), "'a', 'b'"),
    "an input left out": (infer_request([Tensor()]), "missing input 'b'"),
    "no input at all": (infer_request([]), "missing inputs 'a', 'b'"),
    "an input given twice": (infer_request([Tensor(), Tensor()], ["a", "a"]), "twice"),
    "an unknown input": (
        infer_request([Tensor(), Tensor()], ["a", "c"]),
        "no input 'c'; the model's inputs are 'a', 'b'",
    ),
    "an unknown output": (infer_request([Tensor(), Tensor()], [], ["summ"]), "did you mean 'sum'?"),
    "an unnamed output beyond the defaults": (infer_request([Tensor()] * 2, [], ["", "", ""]), "output 2 has no name"),
    "float64 for float32": (
        infer_request([of([2, 3], 11, 8), Tensor()]),
        "'a' is float64, but the model takes float32",
    ),
    "int64 for float32": (infer_request([Tensor(), of([2, 3], 8, 8)]), "'b' is int64, but the model takes float32"),
    "text for float32": (
        infer_request([Tensor(STRING, [1, 3], strings=[b"1", b"2", b"3"]), Tensor()]),
        "'a' is string",
    ),
    "a missing batch dimension": (infer_request([of([3]), of([3])]), "for one row, send it as [1, 3]"),
    "a dimension too many": (infer_request([of([1, 2, 3]), of([1, 2, 3])]), "takes 2 dimensions"),
    "a wrong fixed dimension": (infer_request([of([2, 4]), of([2, 4])]), "4 along axis 1, but the model takes 3"),
    "sizes that ONNX Runtime refuses": (infer_request([of([2, 3]), of([5, 3])]), "the model cannot take this input"),
}


@pytest.mark.parametrize("framing", ["plain", "chunked"])
@pytest.mark.parametrize(("code", "case"), [(1, c) for c in MALFORMED] + [(2, c) for c in INVALID])
def test_a_bad_request_gets_400_with_words_that_help(server: Server, code: int, case: str, framing: str) -> None:
    body, words = (MALFORMED if code == 1 else INVALID)[case]
    if framing == "plain":
        answers = [call(server.url, "POST", "/", body), call(server.url, "POST", "/", body, accept=ERROR_TYPE)]
    else:
        head = {"transfer_encoding": "chunked"}
        answers = [
            call(server.url, "POST", "/", chunked(body, 1000), **head),
            call(server.url, "POST", "/", chunked(body, 1000), **head, accept=f"{ERROR_TYPE}, */*;q=0.1"),
        ]
    text, message = answers
    assert (text.status, text.headers["content-type"]) == (400, "text/plain; charset=utf-8")
    assert words in text.text
    assert text.text.endswith("\n")
    assert text.text.count("\n") == 1
    assert (message.status, message.headers["content-type"]) == (400, ERROR_TYPE)
    (error,) = decode_infer_response(message.body).errors
    assert (error.code, error.message) == (code, text.text[:-1])
    assert serves_on(server)


def test_a_request_truncated_at_any_byte_gets_400_and_the_connection_goes_on(server: Server) -> None:
    with Wire(server.url) as wire:
        for length in range(len(GOOD)):
            answer = wire.call("POST", "/", GOOD[:length])
            assert (answer.status, answer.text[-1]) == (400, "\n"), length
        assert wire.call("POST", "/", GOOD).status == 200


def test_any_word_of_a_request_may_be_anything(server: Server) -> None:
    """Every aligned 32-bit word, offsets and lengths among them, at the values that break careless readers."""
    with Wire(server.url) as wire:
        for at in range(0, len(GOOD), 4):
            for value in (0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, len(GOOD) - at):
                answer = wire.call("POST", "/", GOOD[:at] + struct.pack("<I", value) + GOOD[at + 4 :])
                later = answer.status == 501 and "there are requests of kind 1" in answer.text
                assert answer.status in (200, 400) or later, (at, value)
        assert wire.call("POST", "/", GOOD).status == 200


def test_as_text_is_what_those_get_who_accept_anything(server: Server) -> None:
    answer = call(server.url, "POST", "/", b"", accept="*/*")
    assert answer.headers["content-type"].startswith("text/plain")


def test_a_failing_model_gets_500_in_our_words_and_the_cause_in_the_log(server: Server) -> None:
    secret = np.float32(31415.926)
    body = infer_request([Tensor(shape=[5], data=secret.tobytes() * 5)])
    answer = call(server.url, "POST", "/models/failing", body)
    assert answer.status == 500
    assert answer.text == "model 'failing' failed on this input; the server's log has the cause\n"
    message = call(server.url, "POST", "/models/failing", body, accept=ERROR_TYPE)
    assert decode_infer_response(message.body).errors[0].code == 4
    assert "FiveIsTooMany" in server.log
    assert "31415" not in server.log
    good = call(server.url, "POST", "/models/failing", infer_request([Tensor(shape=[6])]))
    assert good.status == 200


# --- size -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [BODY_BYTES_MAX + 1, 10**12, 10**18], ids=str)
def test_a_body_over_the_limit_gets_413_before_it_is_read(server: Server, length: int) -> None:
    with Wire(server.url) as wire:
        wire.send(request("POST", content_length=str(length)))  # and not one byte of the body
        answer = wire.answer()
        assert answer.status == 413
        assert str(BODY_BYTES_MAX) in answer.text
        assert "--body-bytes-max" in answer.text
        assert wire.ended()
    assert serves_on(server)


def test_a_body_over_the_limit_that_is_on_its_way_is_refused_with_words(server: Server) -> None:
    """The sender gets to read the refusal, though it was still writing."""
    with Wire(server.url) as wire:
        wire.send(request("POST", body=bytes(BODY_BYTES_MAX + 1)))
        assert wire.answer().status == 413


def test_a_chunked_body_over_the_limit_gets_413(server: Server) -> None:
    with Wire(server.url) as wire:
        wire.send(
            request("POST", transfer_encoding="chunked") + b"%x\r\n" % (2 * BODY_BYTES_MAX) + bytes(BODY_BYTES_MAX + 1)
        )
        assert wire.answer().status == 413
    assert serves_on(server)


def test_who_expects_100_continue_is_told_to_go_on(server: Server) -> None:
    with Wire(server.url) as wire:
        wire.send(request("POST", expect="100-continue", content_length=str(len(GOOD))))
        assert wire.answer().status == 100
        wire.send(GOOD)
        assert wire.answer().status == 200


def test_who_expects_100_continue_is_told_413_instead_of_go_on(server: Server) -> None:
    with Wire(server.url) as wire:
        wire.send(request("POST", expect="100-continue", content_length=str(BODY_BYTES_MAX + 1)))
        assert wire.answer().status == 413


# --- HTTP -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH"])
@pytest.mark.parametrize("path", ["/", "/models/pair", "/models/echo/"])
def test_a_wrong_method_gets_405_and_hears_which_are_right(server: Server, method: str, path: str) -> None:
    answer = call(server.url, method, path)
    assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD, OPTIONS, POST")
    assert f"{method} is not served here" in answer.text
    error = decode_infer_response(call(server.url, method, path, accept=ERROR_TYPE).body).errors[0]
    assert error.code == 11
    assert serves_on(server)


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_an_unknown_model_gets_404_and_hears_which_there_are(server: Server, method: str) -> None:
    answer = call(server.url, method, "/models/nobody", GOOD if method == "POST" else None)
    assert answer.status == 404
    assert "there is no model 'nobody'; there are 'pair', 'failing', 'echo'" in answer.text


@pytest.mark.parametrize(
    "path", ["/control", "/control/nothing", "/models", "/metrics/x", "/livez", "/readyz", "/v1/x", "/v2/x"]
)
def test_a_reserved_path_is_not_the_first_models(server: Server, path: str) -> None:
    answer = call(server.url, "POST", path, GOOD)
    assert answer.status in (404, 405)
    assert answer.text.endswith("\n") or set(json.loads(answer.text)) == {"error"}  # as the path's protocol has it


@pytest.mark.parametrize("path", ["/", "/?x=1", "/x/..", "/models/pair", "/models/pair/", "/x/%2E%2e/models/pair"])
def test_the_root_is_the_first_models_however_it_is_written(server: Server, path: str) -> None:
    assert call(server.url, "POST", path, GOOD).status == 200


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(
    ("path", "meant"), [("/predict", ""), ("//", ""), ("/echo", "echo"), ("/model/pairs", "pair"), ("/%E2%82%AC", "")]
)
def test_any_other_path_is_no_models_where_there_are_several(
    server: Server, method: str, path: str, meant: str
) -> None:
    answer = call(server.url, method, path, GOOD if method == "POST" else None)
    assert answer.status == 404
    assert "POST to / or to /models/NAME: pair, failing, echo" in answer.text
    assert (f"did you mean /models/{meant}?" if meant else "NAME: pair, failing, echo\n") in answer.text


@pytest.mark.parametrize("kind", [3, 255])
def test_a_kind_of_request_of_a_later_schema_gets_501_and_the_connection_goes_on(server: Server, kind: int) -> None:
    body = message(Table((Byte(kind), Table((b"something new",)))))
    answer = call(server.url, "POST", "/", body)
    assert (answer.status, answer.headers["content-type"]) == (501, "text/plain; charset=utf-8")
    assert f"this one is of {kind}" in answer.text
    (error,) = decode_infer_response(call(server.url, "POST", "/", body, accept=ERROR_TYPE).body).errors
    assert (error.code, error.message) == (11, answer.text[:-1])
    head = f"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    with Wire(server.url) as wire:
        for _ in range(2):
            wire.send(head + body)
            assert wire.answer().status == 501
    assert serves_on(server)


@pytest.mark.parametrize("coding", ["br", "zstd", "br, gzip"])
def test_a_body_in_an_unknown_coding_gets_415(server: Server, coding: str) -> None:
    answer = call(server.url, "POST", "/", GOOD, content_encoding=coding)
    assert answer.status == 415
    assert "without Content-Encoding" in answer.text
    assert call(server.url, "POST", "/", GOOD, content_encoding="identity").status == 200


@pytest.mark.parametrize(
    "head",
    [
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Content-Length: -1\r\n",
        "Content-Length: 1e3\r\n",
        "Content-Length: 8\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: gzip\r\n",
        "Content Length: 8\r\n",
    ],
)
def test_a_head_that_can_be_read_in_two_ways_is_never_believed(server: Server, head: str) -> None:
    with Wire(server.url) as wire:
        wire.send(f"POST / HTTP/1.1\r\nHost: x\r\n{head}\r\n".encode() + chunked(GOOD, 1000))
        answer = wire.answer()
        # With both lengths a chunked reading is allowed, but then the connection ends.
        assert answer.status in (400, 200)
        assert answer.status == 400 or "chunked" in head
        assert wire.ended()
    assert serves_on(server)


@pytest.mark.parametrize(
    "junk",
    [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"HELO example\r\n\r\n", b"GET\r\n\r\n", b"BREW / HTTP/1.1\r\n"],
)
def test_what_is_not_http_is_refused_without_fuss(server: Server, junk: bytes) -> None:
    with Wire(server.url) as wire:
        wire.send(junk + b"\r\n\r\n")
        answer = wire.answer()
        assert 400 <= answer.status < 500
        assert wire.ended()
    assert serves_on(server)


def test_a_head_without_end_is_refused(server: Server) -> None:
    with Wire(server.url) as wire:
        wire.send(b"POST / HTTP/1.1\r\n")
        with contextlib.suppress(ConnectionError):
            for _ in range(1000):
                wire.send(b"X-More: " + b"a" * 1000 + b"\r\n")
        with contextlib.suppress(ConnectionError):  # a refusal, if it got through before the connection was reset
            assert wire.answer().status in (400, 431)
        assert wire.ended()
    assert serves_on(server)


def test_callers_who_leave_in_the_middle_disturb_nobody(server: Server) -> None:
    whole = request("POST", body=GOOD)
    for cut in (1, 20, len(whole) - len(GOOD), len(whole) - 1, len(whole)):
        with Wire(server.url) as wire:
            wire.send(whole[:cut])
    assert serves_on(server)


def test_several_requests_at_once_on_one_connection_are_answered_in_order(server: Server) -> None:
    bodies = [infer_request([Tensor(shape=[1, 3], data=struct.pack("<3f", i, i, i))] * 2) for i in range(20)]
    with Wire(server.url) as wire:
        wire.send(b"".join(request("POST", body=body) for body in bodies))
        for i in range(20):
            answer: Answer = wire.answer()
            assert decode_infer_response(answer.body).outputs[0][0, 0] == 2 * i


@pytest.mark.parametrize("value", ["soon", "-1", "1.5", "9" * 30])
def test_a_deadline_that_is_no_number_gets_400(server: Server, value: str) -> None:
    answer = call(server.url, "POST", "/", GOOD, graphpipe_timeout_ms=value)
    assert answer.status == 400
    assert "milliseconds" in answer.text


def test_a_deadline_that_has_passed_is_answered_with_504(server: Server) -> None:
    answer = call(server.url, "POST", "/", GOOD, graphpipe_timeout_ms="0", accept=ERROR_TYPE)
    assert answer.status == 504
    assert decode_infer_response(answer.body).errors[0].code == 7
