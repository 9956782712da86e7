"""A request is sent again only where it cannot have run, and what breaks is told apart from what refuses."""

from __future__ import annotations

import socket
import struct
import threading
import time

import numpy as np
import pytest

import graphpipe
from tests.aio.conftest import answer_to, read_request, until

A = np.arange(6, dtype=np.float32)
LARGE = np.zeros(4 << 20, np.float32)


def answer(connection):
    connection.sendall(answer_to(read_request(connection)))


def reset(connection):
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def test_a_reused_connection_that_was_closed_meanwhile_is_replaced(scripted, run):
    async def call():
        async with graphpipe.AsyncClient(scripted(answer, answer)) as client:
            first = await client.execute(A)
            # Blocks the loop until the server has closed: the client cannot have noticed when it calls again.
            time.sleep(0.3)  # noqa: ASYNC251
            return first, await client.execute(A)

    np.testing.assert_array_equal(run(call()), [A, A])


def test_a_closed_connection_that_is_noticed_is_not_counted_any_more(scripted, run):
    async def call():
        async with graphpipe.AsyncClient(scripted(answer)) as client:
            await client.execute(A)
            await until(lambda: len(client._pool), 0)

    run(call())


def test_a_large_request_cut_off_in_the_middle_is_sent_again_on_a_reused_connection(scripted, run):
    def answer_then_read_a_little_and_go(connection):
        answer(connection)
        connection.recv(1000)
        reset(connection)

    async def call():
        async with graphpipe.AsyncClient(scripted(answer_then_read_a_little_and_go, answer)) as client:
            await client.execute(A)
            return await client.execute(LARGE)

    assert run(call()).nbytes == LARGE.nbytes


@pytest.mark.parametrize("how", [socket.socket.close, reset], ids=["closed", "reset"])
def test_a_request_that_was_read_is_never_sent_again(scripted, run, how):
    def read_and_go(connection):
        answer(connection)
        read_request(connection)
        how(connection)

    async def call():
        async with graphpipe.AsyncClient(scripted(read_and_go), timeout=3) as client:
            await client.execute(A)
            with pytest.raises(graphpipe.NoAnswer, match="closed the connection without an answer"):
                await client.execute(A)
            assert len(client._pool) == 0

    run(call())


def test_a_first_connection_that_closes_is_not_tried_again(scripted, run):
    async def call():
        async with graphpipe.AsyncClient(scripted(reset)) as client:
            with pytest.raises(graphpipe.NoAnswer):
                await client.execute(A)

    run(call())


@pytest.mark.parametrize(
    ("sent", "message"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort", "in the middle of its answer"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nshort", "in the middle of its answer"),
        (b"HTTP/1.1 200 OK\r\nContent-", "in the middle of its answer"),
        (b"SSH-2.0-OpenSSH_9.6\r\n\r\n", "not HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nlonger", "more than its answer"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n", "at most 1000000 are taken"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nshort\r\n80000000\r\n", "more than 1,000,000"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabcd", "no GraphPipe message"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000, "head of more than"),
    ],
)
def test_what_is_no_answer_is_said_to_be_none(scripted, run, sent, message):
    def script(connection):
        read_request(connection)
        connection.sendall(sent)

    async def call():
        async with graphpipe.AsyncClient(scripted(script), answer_bytes_max=1_000_000) as client:
            with pytest.raises(graphpipe.NoAnswer, match=message):
                await client.execute(A)
            assert len(client._pool) == 0 or "message" in message

    run(call())


@pytest.mark.parametrize(
    "form",
    [
        lambda body: b"HTTP/1.1 200 OK\r\n\r\n" + body,
        lambda body: (
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
        ),
        lambda body: b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(body), body),
    ],
    ids=["to the end of the connection", "after 100 Continue", "chunked"],
)
def test_every_form_of_an_answer_is_understood_however_it_is_cut(scripted, run, form):
    def script(connection):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        whole = form(answer_to(read_request(connection)).partition(b"\r\n\r\n")[2])
        for at in range(0, len(whole), 7):
            connection.sendall(whole[at : at + 7])

    async def call():
        async with graphpipe.AsyncClient(scripted(script)) as client:
            return await client.execute(A)

    np.testing.assert_array_equal(run(call()), A)


def test_what_a_server_says_before_it_hangs_up_on_a_large_request_is_heard(scripted, run):
    def refuse(connection):
        connection.recv(1000)
        connection.sendall(b"HTTP/1.1 413 Too Large\r\nContent-Length: 9\r\n\r\ntoo large")
        reset(connection)

    async def call():
        for _ in range(5):
            async with graphpipe.AsyncClient(scripted(refuse)) as client:
                with pytest.raises(graphpipe.GraphPipeError) as error:
                    await client.execute(LARGE)
                # A reset may overtake the answer; it must then not be taken for one.
                assert isinstance(error.value, graphpipe.NoAnswer) or error.value.http_status == 413

    run(call())


def test_what_comes_on_an_idle_connection_ends_it(scripted, run):
    idle = threading.Event()

    def answer_and_go_on(connection):
        answer(connection)
        idle.wait(10)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        connection.recv(1)

    async def call():
        async with graphpipe.AsyncClient(scripted(answer_and_go_on)) as client:
            await client.execute(A)
            idle.set()
            await until(lambda: len(client._pool), 0)

    run(call())
