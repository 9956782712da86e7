"""https: certificates checked, large bodies both ways, refusals heard, time kept."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
import time
from datetime import UTC, datetime

import numpy as np
import pytest
import trustme

import graphpipe
from graphpipe.errors import TimedOut, TooLarge, Unreachable
from tests.canned import Caller, X, answer, canned

LARGE = np.arange(5_000_000, dtype=np.float32)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def theirs(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    return context


@pytest.fixture
def ours(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_calls_share_one_secured_connection(
    theirs: ssl.SSLContext, ours: ssl.SSLContext, version: ssl.TLSVersion
) -> None:
    theirs.maximum_version = version
    with canned(tls=theirs) as server, graphpipe.Client(server.url, tls=ours) as client:
        for i in range(20):
            assert np.array_equal(client.execute(X + i), X + i)
        assert np.array_equal(client.execute(LARGE), LARGE)
        assert np.array_equal(client.execute(X), X)
        assert server.connections == 1


def refused(url: str, tls: ssl.SSLContext | None, words: str) -> None:
    """Both clients refuse a server's certificate, with these words."""
    with graphpipe.Client(url, tls=tls) as client, pytest.raises(Unreachable, match=words):
        client.execute(X)

    async def run() -> None:
        async with graphpipe.AsyncClient(url, tls=tls) as client:
            await client.execute(X)

    with pytest.raises(Unreachable, match=words):
        asyncio.run(run())


def test_a_stranger_s_certificate_is_not_believed(theirs: ssl.SSLContext) -> None:
    with canned(tls=theirs) as server:
        refused(server.url, None, "nobody signed it whom this machine trusts .*SSL_CERT_FILE=ca.pem")


def test_a_certificate_for_another_host_is_not_believed(authority: trustme.CA, ours: ssl.SSLContext) -> None:
    theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("example.org").configure_cert(theirs)
    with canned(tls=theirs) as server:
        refused(server.url, ours, "its certificate is for another host than 'localhost'")


def test_a_certificate_that_has_expired_or_is_not_valid_yet_is_said_to_be_so(
    authority: trustme.CA, ours: ssl.SSLContext
) -> None:
    theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost", not_after=datetime(2020, 1, 1, tzinfo=UTC)).configure_cert(theirs)
    with canned(tls=theirs) as server:
        refused(server.url, ours, "its certificate has expired; the server needs a new one")


def test_plain_http_to_a_port_of_tls_is_told_how_the_url_begins(theirs: ssl.SSLContext) -> None:
    with canned(tls=theirs) as server, pytest.raises(graphpipe.NoAnswer, match="its URL begins with https://"):
        graphpipe.remote.execute(server.url.replace("https:", "http:"), X)
    alert = b"\x15\x03\x01\x00\x02\x02\x16"
    with canned(lambda caller: caller.read_request() and caller.send(alert)) as server:
        with pytest.raises(graphpipe.NoAnswer, match="speaks TLS: its URL begins with https://"):
            graphpipe.remote.execute(server.url, X)


def test_a_server_that_speaks_no_tls_is_said_to_be_unreachable(ours: ssl.SSLContext) -> None:
    with (
        canned(lambda caller: caller.send(answer(b"", "400 Bad Request"))) as server,
        graphpipe.Client(server.url.replace("http:", "https:"), tls=ours) as client,
        pytest.raises(Unreachable, match="does not speak TLS; does its URL begin with http://"),
    ):
        client.execute(X)


def test_a_refusal_is_heard_while_a_large_request_goes_out(theirs: ssl.SSLContext, ours: ssl.SSLContext) -> None:
    over = threading.Event()

    def refuses(caller: Caller) -> None:
        caller.read_head()
        caller.send(answer(b"too large, sorry\n", "413 Content Too Large", "Connection: close"))
        over.wait(30)

    with canned(refuses, tls=theirs) as server, graphpipe.Client(server.url, tls=ours, timeout=20) as client:
        with pytest.raises(TooLarge, match="too large, sorry"):
            client.execute(LARGE)
        over.set()


def test_a_connection_closed_while_idle_is_silently_replaced(theirs: ssl.SSLContext, ours: ssl.SSLContext) -> None:
    with (
        canned(lambda caller: caller.serve(until=1), tls=theirs) as server,
        graphpipe.Client(server.url, tls=ours) as client,
    ):
        for _ in range(5):
            assert np.array_equal(client.execute(X), X)
            time.sleep(0.05)
        assert server.requests == 5


def test_a_request_that_was_received_is_never_sent_again(theirs: ssl.SSLContext, ours: ssl.SSLContext) -> None:
    def dies(caller: Caller) -> None:
        caller.serve(until=1)
        assert caller.read_request()

    with canned(dies, tls=theirs) as server, graphpipe.Client(server.url, tls=ours) as client:
        client.execute(X)
        with pytest.raises(graphpipe.NoAnswer):
            client.execute(X)
        assert server.requests == 2


def test_a_handshake_that_never_ends_is_given_up_in_time(ours: ssl.SSLContext) -> None:
    """Even if a byte comes now and then."""
    over = threading.Event()

    def drips(caller: Caller) -> None:
        record = b"\x16\x03\x03\x40\x00\x02\x00\x3f\xfc" + bytes(16_000)  # the beginning of a ServerHello
        for i in range(len(record)):
            if over.wait(0.02):
                return
            caller.send(record[i : i + 1])

    with canned(drips) as server:
        with graphpipe.Client(server.url.replace("http:", "https:"), tls=ours, timeout=0.5) as client:
            began = time.monotonic()
            with pytest.raises(TimedOut):
                client.execute(X)
            assert time.monotonic() - began < 10
        over.set()


def test_a_server_that_stalls_is_given_up_in_time(theirs: ssl.SSLContext, ours: ssl.SSLContext) -> None:
    over = threading.Event()
    with canned(lambda caller: over.wait(30) and None, tls=theirs) as server:
        with graphpipe.Client(server.url, tls=ours, timeout=0.5) as client:
            for array in (X, LARGE):
                with pytest.raises(TimedOut):
                    client.execute(array)
        over.set()


def test_the_host_s_name_is_told_in_the_handshake(theirs: ssl.SSLContext, ours: ssl.SSLContext) -> None:
    names: list[str | None] = []
    theirs.sni_callback = lambda connection, name, context: names.append(name)
    with canned(tls=theirs) as server, graphpipe.Client(server.url, tls=ours) as client:
        client.execute(X)
    assert names == ["localhost"]
    assert socket.gethostbyname("localhost") == "127.0.0.1"
