"""The asynchronous client's calls mean what the blocking client's mean."""

from __future__ import annotations

import asyncio
import contextlib
import ssl

import numpy as np
import pytest

import graphpipe
from tests import onnx_graphs


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    from tests.serving import serving

    folder = tmp_path_factory.mktemp("models")
    with serving(
        "-m", "echo", "-m", onnx_graphs.pair_sum(folder / "pair.onnx"), "-m", onnx_graphs.slow(folder / "slow.onnx"),
        "--body-bytes-max", "64MiB", "--threads", "2",
    ) as server:  # fmt: skip
        yield server.url


A = np.arange(6, dtype=np.float32).reshape(2, 3)
B = np.full((2, 3), 10, np.float32)


def test_every_call_gives_what_the_blocking_client_gives(url, run):
    async def calls(model):
        async with graphpipe.AsyncClient(f"{url}/models/pair") as client:
            return [
                await client.execute_multi([A, B]),
                await client.execute_multi([B, A], ["b", "a"], ["twice", "sum", "twice"]),
                await client.infer({"a": A, "b": B}),
                await client.infer({"a": A, "b": B}, outputs=["twice"]),
                await client.infer({"a": A.tolist(), "b": B.astype(np.float64)}, cast=True),
                await client.metadata(),
            ]

    with graphpipe.Client(f"{url}/models/pair") as client:
        expected = [
            client.execute_multi([A, B]),
            client.execute_multi([B, A], ["b", "a"], ["twice", "sum", "twice"]),
            client.infer({"a": A, "b": B}),
            client.infer({"a": A, "b": B}, outputs=["twice"]),
            client.infer({"a": A.tolist(), "b": B.astype(np.float64)}, cast=True),
            client.metadata(),
        ]
    got = run(calls("pair"))
    np.testing.assert_equal(got[:-1], expected[:-1])
    assert got[-1] == expected[-1]


@pytest.mark.parametrize(
    "value",
    [
        np.float32(3),
        np.zeros((0, 3), np.int64),
        np.array([b"a\0", "ä".encode()], object),
        np.array([str(i) for i in range(10_000)], object),
        np.arange(3_000_000, dtype=np.float64)[::3],
        np.ones((1000, 1000), np.float32),
    ],
    ids=["scalar", "empty", "bytes", "many strings", "strided", "large"],
)
def test_whatever_travels_comes_back(url, run, value):
    async def call():
        async with graphpipe.AsyncClient(url) as client:
            return await client.execute(value)

    want = np.asarray(value)
    got = run(call())
    assert got.dtype == want.dtype
    assert got.flags.writeable
    if want.dtype == object:
        want = np.array([item if isinstance(item, bytes) else item.encode() for item in want], object)
    np.testing.assert_array_equal(got, want)


def test_what_the_server_refuses_is_its_own_error(url, run):
    async def call():
        async with graphpipe.AsyncClient(f"{url}/models/pair") as client:
            with pytest.raises(graphpipe.InvalidRequest, match="there is no input 'c'"):
                await client.infer({"c": A})
            # The connection lives on: it was a proper answer.
            return await client.execute_multi([A, B])

    np.testing.assert_array_equal(run(call())[0], A + B)


def test_what_cannot_travel_is_refused_before_anything_is_sent(run):
    async def call():
        async with graphpipe.AsyncClient("http://127.0.0.1:1") as client:
            with pytest.raises(graphpipe.InvalidRequest, match="complex64"):
                await client.execute(np.zeros(2, np.complex64))

    run(call())


def test_a_body_that_the_server_refuses_to_read_is_refused_soon_and_with_its_words(url, run):
    async def call():
        big = np.zeros(200 << 20, np.uint8)
        async with graphpipe.AsyncClient(url) as client:
            with pytest.raises(graphpipe.ServiceError, match="body-bytes-max") as refused:
                await client.execute(big)
            assert refused.value.http_status == 413
            # That connection was left in the middle of a request, and is not used again.
            return await client.execute(A)

    np.testing.assert_array_equal(run(call()), A)


def test_nobody_there_is_unreachable(run, tmp_path):
    async def call():
        for url in ("http://127.0.0.1:1", f"unix:{tmp_path}/none.sock"):
            async with graphpipe.AsyncClient(url) as client:
                with pytest.raises(graphpipe.errors.Unreachable, match="is a server running there"):
                    await client.execute(A)

    run(call())


def test_a_call_that_takes_too_long_is_timed_out_and_its_connection_closed(url, run):
    async def call():
        async with graphpipe.AsyncClient(f"{url}/models/slow", timeout=0.2) as client:
            # The server keeps the deadline too: whose word comes first is a race of microseconds.
            with pytest.raises((graphpipe.errors.TimedOut, graphpipe.errors.DeadlineExceeded)):
                await client.execute(np.int64(300))
            return await client.metadata(timeout=30)

    assert run(call()).name == "slow"


def test_an_answer_that_does_not_end_is_timed_out_however_fast_it_goes_on(scripted, run):
    def script(connection):
        connection.recv(65536)
        with contextlib.suppress(OSError):
            connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            while True:
                connection.sendall(b"1\r\nx\r\n" * 100)

    async def call():
        async with graphpipe.AsyncClient(scripted(script), timeout=0.5) as client:
            with pytest.raises(graphpipe.errors.TimedOut, match="did not finish its answer in time"):
                await client.execute(A)

    run(call())


@pytest.mark.parametrize("timeout", [0, -1, float("nan")])
def test_a_timeout_of_a_call_is_a_positive_number(timeout, run):
    async def call():
        with pytest.raises(ValueError, match="positive number of seconds"):
            await graphpipe.AsyncClient("http://127.0.0.1:1").execute(A, timeout=timeout)

    run(call())


def test_infinity_means_to_wait_long(url, run):
    async def call():
        async with graphpipe.AsyncClient(url, timeout=float("inf")) as client:
            return await client.execute(A)

    np.testing.assert_array_equal(run(call()), A)


def test_the_timeout_is_told_to_the_server(scripted, run):
    from tests.aio.conftest import answer_to

    heads = []

    def script(connection):
        received = b""
        while not received.partition(b"\r\n\r\n")[2]:
            received += connection.recv(65536)
        head, _, body = received.partition(b"\r\n\r\n")
        heads.append(head.decode())
        connection.sendall(answer_to(body))

    async def call():
        async with graphpipe.AsyncClient(scripted(script)) as client:
            await client.execute(A, timeout=7)

    run(call())
    (line,) = (line for line in heads[0].splitlines() if line.startswith("GraphPipe-Timeout-Ms"))
    assert 6000 < int(line.split()[1]) <= 7000


def test_unix_sockets_serve_too(serve, run, tmp_path):
    server = serve("-m", "echo", listen=f"unix:{tmp_path}/s.sock")

    async def call():
        async with graphpipe.AsyncClient(server.url) as client:
            large = np.ones(5_000_000, np.float32)
            np.testing.assert_array_equal(await client.execute(large), large)

    run(call())


def test_a_client_belongs_to_one_loop_and_moves_on_when_that_is_closed(url, run):
    client = graphpipe.AsyncClient(url)

    async def call():
        result = await client.execute(A)
        await client.close_idle()
        return result

    async def call_from_another_loop():
        await client.execute(A)
        with pytest.raises(RuntimeError, match="event loop"):
            await asyncio.to_thread(lambda: asyncio.run(client.execute(A)))
        await client.close()

    for _ in range(2):
        np.testing.assert_array_equal(run(call()), A)
    run(call_from_another_loop())


def test_a_call_after_close_is_an_error_and_one_under_way_is_answered(url, run):
    async def call():
        client = graphpipe.AsyncClient(url)
        await client.execute(A)
        under_way = asyncio.create_task(client.execute(A))
        await asyncio.sleep(0)
        await client.close()
        np.testing.assert_array_equal(await under_way, A)
        assert len(client._pool) == 0
        with pytest.raises(graphpipe.GraphPipeError, match="is closed; make another one"):
            await client.execute(A)

    run(call())


@pytest.mark.parametrize("arguments", [{"timeout": 0}, {"connections_max": 0}, {"url": "ftp://x"}])
def test_arguments_that_make_no_sense_are_refused(arguments):
    with pytest.raises(ValueError, match=r"positive|at least 1|not a server's URL"):
        graphpipe.AsyncClient(**{"url": "http://127.0.0.1:1", **arguments})


@pytest.fixture(scope="module")
def authority():
    return pytest.importorskip("trustme").CA()


def test_tls_serves_large_calls_and_checks_who_answers(serve, run, tmp_path, authority):
    certificate = tmp_path / "server.pem"
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(certificate)
    server = serve("-m", "echo", "--tls-cert", certificate)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)

    async def call():
        large = np.arange(5_000_000, dtype=np.float32)
        async with graphpipe.AsyncClient(server.url, tls=trusting) as client:
            for value in (A, large, A):
                np.testing.assert_array_equal(await client.execute(value), value)
            task = asyncio.create_task(client.execute(large))
            await asyncio.sleep(0.01)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            np.testing.assert_array_equal(await client.execute(A), A)
        async with graphpipe.AsyncClient(server.url) as client:
            with pytest.raises(graphpipe.errors.Unreachable, match="certificate"):
                await client.execute(A)

    run(call())
