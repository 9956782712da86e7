"""The table of docs/clients.md that says what may be sent again, row by row against real servers and sockets."""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import trustme

import graphpipe
from graphpipe.wire.messages import ErrorInfo, encode_infer_response
from tests.canned import Caller, X, answer, canned
from tests.serving import ROOT, serving

FAILS = "def fails(x):\n    raise ValueError\n"
ROWS = {
    what: (error, safe == "yes")
    for what, error, safe in re.findall(
        r"^\| ([^|]+) \| `(\w+)` \| (yes|no) \|$", (ROOT / "docs" / "clients.md").read_text(), re.MULTILINE
    )
}
GRAPHPIPE = "Content-Type: application/vnd.graphpipe"


@contextmanager
def says(raw: bytes) -> Iterator[graphpipe.Client]:
    """A client of a server that answers so, and closes."""

    def talk(caller: Caller) -> None:
        caller.read_request()
        caller.send(raw)

    with canned(talk) as server, graphpipe.Client(server.url, timeout=30) as client:
        yield client


def refuses(code: int, status: str) -> Callable[[str], None]:
    def provoke(real: str) -> None:
        body = b"".join(encode_infer_response([], [ErrorInfo(code, "words")]))
        with says(answer(body, status, GRAPHPIPE)) as client:
            client.execute(X)

    return provoke


def answers(raw: bytes) -> Callable[[str], None]:
    def provoke(real: str) -> None:
        with says(raw) as client:
            client.execute(X)

    return provoke


def silent(url: str = "", **options: float) -> Callable[[str], None]:
    def provoke(real: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:  # which takes nobody in
            with graphpipe.Client(f"{url}://127.0.0.1:{listener.getsockname()[1]}", **options) as client:
                client.execute(X)

    return provoke


def untrusted(real: str) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("localhost").configure_cert(context)
    with canned(tls=context) as server, graphpipe.Client(server.url) as client:
        client.execute(X)


def of_real(path: str, value: object) -> Callable[[str], None]:
    def provoke(real: str) -> None:
        graphpipe.remote.execute(f"{real}/models/{path}", value)

    return provoke


PROVOKED: dict[str, Callable[[str], None]] = {
    "nobody listens there": lambda real: graphpipe.Client("http://127.0.0.1:1").execute(X),
    "no connection in time": silent("https", connect_timeout=0.1),
    "a certificate is not trusted": untrusted,
    "the server is too busy": refuses(6, "503 Service Unavailable"),
    "the caller is over his own limit (429)": refuses(6, "429 Too Many Requests"),
    "the server is starting or draining": refuses(10, "503 Service Unavailable"),
    "what was sent is no message": refuses(1, "400 Bad Request"),
    "it does not fit the model": of_real("digits", X),
    "there is no such model": of_real("other", X),
    "the model failed": of_real("fails", X),
    "it is too large": of_real("echo", [0.0] * 100_000),
    "the deadline passed at the server": refuses(7, "504 Gateway Timeout"),
    "a key is missing": refuses(8, "401 Unauthorized"),
    "a key does not allow it": refuses(9, "403 Forbidden"),
    "the way of asking is not served": refuses(11, "405 Method Not Allowed"),
    "the server behind the server is silent": refuses(12, "502 Bad Gateway"),
    "the connection closed without an answer": answers(b""),
    "the answer breaks off": answers(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"),
    "the answer is not GraphPipe's": answers(answer(b"hello")),
    "no answer in time": silent("http", timeout=0.1),
}


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    path = tmp_path_factory.mktemp("models") / "fails.py"
    path.write_text(FAILS)
    digits = ROOT / "examples" / "digits" / "digits.onnx"
    with serving(
        "-m", digits, "-m", f"{path}:fails", "-m", "echo", "--body-bytes-max", "64KiB", tracebacks=True
    ) as server:
        yield server.url


def test_every_row_is_tried() -> None:
    assert ROWS.keys() == PROVOKED.keys()


@pytest.mark.parametrize("what", ROWS)
def test_the_docs_say_after_what_another_try_is_safe(real: str, what: str) -> None:
    name, safe = ROWS[what]
    with pytest.raises(graphpipe.GraphPipeError) as caught:
        PROVOKED[what](real)
    kind = getattr(graphpipe, name)
    # The one for no connection in time is both.
    assert isinstance(caught.value, kind)
    assert type(caught.value) is kind or what == "no connection in time"
    assert caught.value.safe_to_retry == safe
