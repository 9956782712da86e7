"""What is no GraphPipe message is told what it is and what to do, by every way in, in one line."""

from __future__ import annotations

import gzip
import io
import pickle
import ssl
import subprocess
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from graphpipe.errors import MalformedMessage
from graphpipe.server.http.head import HEAD_BYTES_MAX
from graphpipe.server.protocols.foreign import body_words, path_words
from graphpipe.wire import decode_infer_response, encode_request
from tests.front.servers import Way, in_process
from tests.raw_http import Answer, chunked

ONLY = "not a GraphPipe message, and this version takes no other body"
CALL = "in Python: graphpipe.remote.execute(URL, "


def saved(**arrays: object) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def npy(array: object) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


FORM = b'--------x1\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\nabc\r\n--------x1--\r\n'
LATE = b'--x\nContent-Type: image/jpeg\ncontent-disposition: form-data; name="x"\n\n'

# A body, what it is called, and how it is to be sent.
BODIES: dict[str, tuple[bytes, str, str]] = {
    "a JSON object": (b'{"x": [1, 2]}', "JSON,", "--input rows.json"),
    "a JSON array": (b"[1,2]", "JSON,", "--input rows.json"),
    "JSON behind white space and a mark": (b'\xef\xbb\xbf\n { "x": 1 }', "JSON,", "--input rows.json"),
    "TF-Serving's JSON": (b'{"instances": [[1.0]]}', "JSON, as TF-Serving takes it", "--input rows.json"),
    "Triton's JSON": (
        b'{"inputs":[{"name":"x","shape":[1],"datatype":"FP32","data":[1]}]}',
        "JSON, as Triton and KServe take it at /v2/models/NAME/infer",
        "--input rows.json",
    ),
    "Triton's JSON with bytes behind it": (
        b'{"inputs":[{"name":"x","shape":[1],"datatype":"FP32","parameters":{"binary_data_size":4}}]}\0\0\x80?',
        "JSON, as Triton and KServe take it at /v2/models/NAME/infer",
        "--input rows.json",
    ),
    "a JPEG": (b"\xff\xd8\xff\xe0\0\x10JFIF\0" + bytes(100), "a JPEG picture", "--input photo.jpg"),
    "a JPEG as curl -d leaves it": (b"\xff\xd8\xff\xe0\x10JFIF", "a JPEG picture", "--input photo.jpg"),
    "a PNG": (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "a PNG picture", "--input photo.jpg"),
    "a GIF": (b"GIF89a\1\0\1\0", "a GIF picture", "--input photo.jpg"),
    "a WebP": (b"RIFF\x24\0\0\0WEBPVP8 ", "a WebP picture", "--input photo.jpg"),
    "a TIFF": (b"II*\0\x08\0\0\0", "a TIFF picture", "--input photo.jpg"),
    "a TIFF of the other kind": (b"MM\0*\0\0\0\x08", "a TIFF picture", "--input photo.jpg"),
    "a BMP": (b"BM\x46\0\0\0\0\0\0\0\x36\0", "a BMP picture", "--input photo.jpg"),
    "an AVIF": (b"\0\0\0\x1cftypavif\0\0\0\0", "an AVIF or HEIC picture", "--input photo.jpg"),
    "a WAV": (b"RIFF\x24\0\0\0WAVEfmt ", "a WAV recording", "send arrays"),
    "a PDF": (b"%PDF-1.7\n%\xe2\xe3", "a PDF document", "send arrays"),
    "XML": (b'<?xml version="1.0"?><x/>', "XML", "text:hello"),
    "bzip2": (b"BZh91AY&SY", "compressed by bzip2", "uncompressed"),
    "xz": (b"\xfd7zXZ\0\0\4", "compressed by xz", "uncompressed"),
    "an empty zip": (b"PK\5\6" + bytes(18), "an empty zip archive", "--input x.npz:key"),
    "a large JPEG": (b"\xff\xd8\xff\xe1" + bytes(300_000), "a JPEG picture", "--input photo.jpg"),
    "a form in parts": (FORM, "a form in parts", "--input FILE"),
    "a form in parts, its fields in another order": (LATE, "a form in parts", "--input FILE"),
    "a form's fields": (b"a=b", "the fields of a form", "--input FILE"),
    "gzip": (gzip.compress(b'{"instances": [1]}'), "compressed by gzip", "uncompressed"),
    "zlib": (zlib.compress(b"[1, 2, 3]"), "compressed by zlib", "uncompressed"),
    "zstd": (b"\x28\xb5\x2f\xfd\x04\0\x19\0\0abc", "compressed by zstd", "uncompressed"),
    "an .npy": (npy(np.zeros(3)), "an array in a .npy file", "--input x.npy"),
    "an .npz": (saved(x=np.zeros(3)), "a zip archive", "--input x.npz:key"),
    "a pickle": (pickle.dumps({"x": [1]}), "a pickle", "nobody unpickles it here"),
    "Parquet": (b"PAR1\x15\x04\x15\x10", "a Parquet file", "send arrays"),
    "an Arrow file": (b"ARROW1\0\0\xff\xff\xff\xff", "an Arrow file", "send arrays"),
    "an Arrow stream": (b"\xff\xff\xff\xff\x70\0\0\0\x10\0\0\0", "an Arrow stream", "send arrays"),
    "safetensors": (b'\x40\0\0\0\0\0\0\0{"x":{"dtype":"F32"' + b" " * 60, "a safetensors file", "send arrays"),
    "HDF5": (b"\x89HDF\r\n\x1a\n\0\0", "an HDF5 file", "send arrays"),
    "a page": (b"<!DOCTYPE html>\n<html></html>", "an HTML page", "text:hello"),
    "text": ("wie geht's dir heute, J\u00f6rg?\n".encode(), "plain text", "text:hello"),
    "a number": (b"1.5", "plain text", "[[1, 2, 3]]"),
    "much text": ("\u00e4".encode() * 1000, "plain text", "text:hello"),
    "nothing": (b"", "empty", "--input x.npy"),
}  # fmt: skip
WAYS = ("hot", "chunked", "odd", "HTTP/1.0", "unix", "passing", "tls")


def sent(way: str, body: bytes, *lines: str) -> bytes:
    """A request with a foreign body, as a caller of that way sends it."""
    first = "POST / HTTP/1.0" if way == "HTTP/1.0" else "POST /?odd HTTP/1.1" if way == "odd" else "POST / HTTP/1.1"
    # What curl says, whatever it sends.
    lines = ("Host: h", "Accept: */*", "Content-Type: application/x-www-form-urlencoded", *lines)
    if way == "HTTP/1.0":
        lines = (*lines, "Connection: keep-alive")
    if way == "chunked":
        lines, body = (*lines, "Transfer-Encoding: chunked"), chunked(body, 10_000)
    else:
        lines = (*lines, f"Content-Length: {len(body)}")
    return "\r\n".join([first, *lines, "", ""]).encode() + body


def asked(ways: dict[str, Way], way: str, first: str, *lines: str) -> Answer:
    with ways[way].wire() as wire:
        wire.send("\r\n".join([first, "Host: h", *lines, "Content-Length: 0", "", ""]).encode())
        return wire.answer()


@pytest.mark.parametrize("name", BODIES)
def test_a_foreign_body_is_told_what_it_is_and_how_to_send_it(ways: dict[str, Way], name: str) -> None:
    body, what, how = BODIES[name]
    said = set()
    for way in WAYS:
        with ways["hot" if way == "chunked" else way].wire() as wire:
            wire.send(sent(way, body))
            answer = wire.answer()
            assert (answer.status, answer.headers["content-type"]) == (400, "text/plain; charset=utf-8"), way
            said.add(answer.text)
            wire.send(b"GET /livez HTTP/1.1\r\nHost: h\r\n\r\n")  # and nothing else became of the connection
            assert wire.answer().text == "ok\n", way
    assert len(said) == 1
    (text,) = said
    assert what in text
    assert how in text
    assert name == "nothing" or ONLY in text
    assert CALL in text


def test_a_client_that_reads_messages_gets_the_same_words_in_one(ways: dict[str, Way]) -> None:
    body, what, _ = BODIES["TF-Serving's JSON"]
    with ways["hot"].wire() as wire:
        wire.send(sent("hot", body).replace(b"*/*", b"application/vnd.graphpipe"))
        (error,) = decode_infer_response(wire.answer().body).errors
    assert error.code == MalformedMessage.code
    assert what in error.message


def test_what_curl_prints_says_what_to_do(ways: dict[str, Way], tmp_path: Path) -> None:
    (tmp_path / "cat.jpg").write_bytes(BODIES["a JPEG"][0])
    url = ways["hot"].server.url

    def curl(*arguments: str) -> str:
        return subprocess.run(["curl", "-sS", *arguments, url], cwd=tmp_path, capture_output=True, text=True).stdout

    for arguments, words in (
        (("-d", '{"instances": [1]}'), "the body is JSON, as TF-Serving takes it"),
        (("-d", "[1,2]"), "the body is JSON"),
        (("--data-binary", "@cat.jpg"), "the body is a JPEG picture"),
        (("-d", "@cat.jpg"), "the body is a JPEG picture"),
        (("-T", "cat.jpg", "-X", "POST"), "the body is a JPEG picture"),
        (("-F", "file=@cat.jpg"), "the body is a form in parts"),
        (("-d", "a=b"), "the body is the fields of a form"),
        (("-d", ""), "the body is empty"),
        (("-d", "x", "-H", "Content-Encoding: br"), "the body is compressed (Content-Encoding: br)"),
    ):
        said = curl(*arguments)
        assert said.startswith(words), arguments
        assert said.endswith("\n")
        assert said.count("\n") == 1


@pytest.mark.parametrize("way", ["hot", "odd", "HTTP/1.0", "unix", "passing", "tls"])
@pytest.mark.parametrize("coding", ["br", "zstd"])
def test_a_coding_is_named_and_refused(ways: dict[str, Way], way: str, coding: str) -> None:
    with ways[way].wire() as wire:
        wire.send(sent(way, b"\x0b\x02\x80abc", f"Content-Encoding: {coding}"))
        answer = wire.answer()
    assert answer.status == 415
    assert answer.text == (
        f"the body is compressed (Content-Encoding: {coding}); gzip and deflate are undone here, at most 2 in a row; "
        "send it in one of these, or the message plain, without Content-Encoding\n"
    )


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Way]]:
    """Servers that speak no protocol but their own."""
    path = tmp_path_factory.mktemp("alone") / "s"
    with (
        in_process(protocols=("graphpipe",)) as tcp,
        in_process(protocols=("graphpipe",), listen=f"unix:{path}") as unix,
    ):
        yield {"hot": Way(tcp), "odd": Way(tcp), "HTTP/1.0": Way(tcp), "unix": Way(unix)}


PATHS = {
    "POST /v1/models/echo:predict": ("TF-Serving's REST API", "did you mean /models/echo?"),
    "POST /v1/models/echo/versions/3:predict": ("TF-Serving's REST API", "did you mean /models/echo?"),
    "GET /v1/models/echo": ("TF-Serving's REST API", "did you mean /models/echo?"),
    "GET /v1/models/echo/metadata": ("TF-Serving's REST API", "did you mean /models/echo?"),
    "POST /v1/chat/completions": ("another API (v1)", CALL),
    "GET /v2": ("Triton's and KServe's (v2)", "GET /models says what is served"),
    "GET /v2/health/ready": ("Triton's and KServe's (v2)", "ask GET /livez or GET /readyz"),
    "GET /v2/health/live": ("Triton's and KServe's (v2)", "ask GET /livez or GET /readyz"),
    "GET /v2/models/echo": ("Triton's and KServe's (v2)", "did you mean /models/echo?"),
    "GET /v2/models/echo/ready": ("Triton's and KServe's (v2)", "ask GET /readyz?verbose"),
    "POST /v2/models/echo/infer": ("Triton's and KServe's (v2)", "did you mean /models/echo?"),
    "POST /v2/models/echo/versions/1/infer": ("Triton's and KServe's (v2)", "did you mean /models/echo?"),
    "POST /v2/repository/index": ("Triton's and KServe's (v2)", "POST to / or to /models/NAME: echo"),
}


@pytest.mark.parametrize("asks", PATHS)
def test_a_path_of_tf_serving_or_triton_is_told_whose_it_is_and_what_to_do(alone: dict[str, Way], asks: str) -> None:
    whose, what = PATHS[asks]
    said = {
        (answer.status, answer.text)
        for answer in (
            asked(alone, "hot", f"{asks} HTTP/1.1", "Inference-Header-Content-Length: 0"),
            asked(alone, "odd", f"{asks}?x HTTP/1.1"),
            asked(alone, "HTTP/1.0", f"{asks} HTTP/1.0"),
            asked(alone, "unix", f"{asks} HTTP/1.1"),
        )
    }
    assert len(said) == 1
    ((status, text),) = said
    assert status == 404
    assert f"a path of {whose}, which this server does not speak: " in text
    assert what in text
    assert text.count("\n") == 1


def test_grpc_is_told_where_http_2_is_not_spoken(tmp_path: Path) -> None:
    for listen in ("127.0.0.1:0", f"unix:{tmp_path}/s"):
        with in_process(listen=listen, protocols=("graphpipe",)) as server, Way(server).wire() as wire:
            wire.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0")
            answer = wire.answer()
        assert answer.status == 505
        assert "nor gRPC as TF-Serving and Triton have it" in answer.text
        assert CALL in answer.text


# --- the wrong scheme -------------------------------------------------------------------------------------------------


def test_plain_http_at_a_tls_address_is_told_so_and_the_log_has_a_line(
    ways: dict[str, Way], caplog: pytest.LogCaptureFixture
) -> None:
    way = ways["tls"]
    caplog.set_level("INFO", "graphpipe.front")
    with Way(way.server).wire() as wire:
        wire.send(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nxy")
        answer = wire.answer()
    assert (answer.status, answer.headers["connection"]) == (400, "close")
    assert answer.text == "plain HTTP came, and TLS is spoken at this address: call https://\n"
    assert [r.getMessage() for r in caplog.records if r.name == "graphpipe.front"] == [answer.text[:-1]]
    with way.wire() as wire:
        assert wire.call("GET", "/livez").text == "ok\n"


def test_whoever_goes_on_in_plain_http_at_a_tls_address_is_cut(ways: dict[str, Way]) -> None:
    with Way(ways["tls"].server).wire() as wire:
        wire.send(b"GET / HTTP/1.1\r\n\r\n")
        assert wire.answer().status == 400
        wire.send(b"GET / HTTP/1.1\r\n\r\n")
        assert wire.ended()


def test_tls_at_a_plain_address_is_told_so_and_the_log_has_a_line(
    ways: dict[str, Way], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "graphpipe.front")
    hello = ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), hello, server_hostname="h").do_handshake()
    with ways["hot"].wire() as wire:
        wire.send(hello.read())
        answer = wire.answer()
        assert wire.ended()
    assert answer.status == 400
    assert "call http://, or start the server with --tls-cert and --tls-key" in answer.text
    assert [r.getMessage() for r in caplog.records if r.name == "graphpipe.front"] == [answer.text[:-1]]


# --- whatever comes ---------------------------------------------------------------------------------------------------

GOOD = b"".join(encode_request([np.arange(6, dtype=np.float32)], ["x"]))
# Nothing of ours begins like them; and what does may end in anything.
BEGINNINGS = st.sampled_from([body[:40] for body, _, _ in BODIES.values()] + [GOOD])
# All that can be said.
OUR_WORDS = {"", *(body_words(body) for body, _, _ in BODIES.values())}


@settings(max_examples=300, deadline=None)
@given(st.builds(bytes.__add__, BEGINNINGS, st.binary(max_size=700)) | st.binary(max_size=700))
@example(b"\xff" * 512)
@example(b"{" + b"a" * 2000)
@example(b"--" + b"-" * 510)
@example("\u202e\x1b[2J words".encode())
def test_whatever_comes_is_described_in_one_short_visible_line_that_repeats_nothing(body: bytes) -> None:
    words = body_words(body)
    assert words == "" or words.isprintable()
    assert len(words) <= 400
    assert words in OUR_WORDS
    assert body_words(memoryview(body)) == words


@given(st.lists(st.text(max_size=20), min_size=1, max_size=6).map(tuple))
@example(("v2",))
@example(("v1", "models"))
def test_whatever_path_comes_it_has_an_answer(parts: tuple[str, ...]) -> None:
    for path in (parts, ("v1", *parts), ("v2", *parts), ("v2", "models", *parts), ("v1", "models", *parts)):
        found = path_words(path)
        assert (found is None) == (path[0] not in ("v1", "v2"))
        assert found is None or (found.words.isprintable() and len(found.words) <= 300)


@given(st.integers(0, len(GOOD)), st.binary(max_size=8))
def test_a_message_of_ours_that_is_damaged_is_not_taken_for_something_else(at: int, damage: bytes) -> None:
    """Unless its very first bytes are: they are all that anybody goes by."""
    body = GOOD[:8] + GOOD[8:at] + damage + GOOD[max(8, at) + len(damage) :]
    assert body_words(body) == ""


def test_a_long_foreign_path_is_answered_shortly(alone: dict[str, Way]) -> None:
    answer = asked(alone, "hot", f"POST /v2/{'a' * (HEAD_BYTES_MAX // 2)} HTTP/1.1")
    assert answer.status == 404
    assert len(answer.text) < 800


@pytest.mark.parametrize("begins", [b"\x78\x01\0\0", b"\x80\x03\0\0"])
def test_where_a_message_could_begin_in_the_same_way_it_is_taken_for_one(begins: bytes) -> None:
    assert body_words(begins + GOOD[4:]) == ""
