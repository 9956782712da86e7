"""TLS handshakes that are begun and left, and a second one on a connection that has had its own."""

from __future__ import annotations

import contextlib
import shutil
import ssl
import subprocess
from collections.abc import Iterator

import pytest
import trustme

from tests.front.servers import InProcess, in_process
from tests.front.test_room import until
from tests.raw_http import Wire

AUTHORITY = trustme.CA()


@pytest.fixture(scope="module")
def server() -> Iterator[InProcess]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    AUTHORITY.issue_cert("127.0.0.1").configure_cert(context)
    with in_process(tls=context, head_timeout_s=0.5) as server:
        yield server


def trusting() -> ssl.SSLContext:
    context = ssl.create_default_context()
    AUTHORITY.configure_trust(context)
    return context


def hello() -> bytes:
    out = ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        trusting().wrap_bio(ssl.MemoryBIO(), out, server_hostname="127.0.0.1").do_handshake()
    return out.read()


@pytest.mark.parametrize(
    "share", [0.01, 0.5, 1.0], ids=["a byte or two", "half of the first message", "the first message"]
)
def test_a_tls_handshake_that_is_left_in_the_middle_is_not_waited_for(server: InProcess, share: float) -> None:
    first = hello()
    with contextlib.ExitStack() as stack:
        wires = [stack.enter_context(Wire(server.url, 10)) for _ in range(20)]
        for wire in wires:
            wire.send(first[: max(1, int(len(first) * share))])
        with Wire(server.url, 10, trusting()) as other:
            assert other.call("GET", "/livez").status == 200
        for wire in wires:
            with contextlib.suppress(ConnectionError):
                while wire.socket.recv(65536):
                    pass
    until(lambda: server.ask(lambda: not server.app.hub.connections))


def test_nobody_gets_a_second_handshake_on_his_connection(server: InProcess) -> None:
    """Before TLS 1.3 a caller could ask for one, which costs a server more than him, again and again."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not installed")
    place = server.url.rpartition("/")[2]
    done = subprocess.run(
        [openssl, "s_client", "-connect", place, "-tls1_2", "-legacy_renegotiation", "-no_ign_eof"],
        input="R\nR\n", capture_output=True, text=True, timeout=20,
    )  # fmt: skip
    said = done.stdout + done.stderr
    assert "Cipher is (NONE)" not in said, said  # there was a first one
    assert "RENEGOTIATING" in said
    assert "no renegotiation" in said, said


def test_a_caller_who_does_not_answer_the_goodbye_of_tls_keeps_no_server_from_ending(server: InProcess) -> None:
    with Wire(server.url, 10, trusting()) as wire:
        assert wire.call("POST", "/", b"").status == 400
        server.ask(server.app.hub.drain)
        until(lambda: server.ask(lambda: not server.app.hub.connections))
