"""Connections: kept, shared by threads, not shared with children, and never a request run twice."""

from __future__ import annotations

import gc
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import graphpipe
from graphpipe.errors import TimedOut, TooLarge, Unreachable
from graphpipe.wire import InferRequest, decode_request
from tests.canned import Caller, X, answer, canned, outputs
from tests.serving import environment

LARGE = np.zeros(5_000_000, np.float32)  # more than the sockets' buffers hold


def test_calls_one_after_another_share_one_connection() -> None:
    with canned() as server, graphpipe.Client(server.url) as client:
        for i in range(50):
            assert np.array_equal(client.execute(X + i), X + i)
        assert (server.connections, server.requests) == (1, 50)


def test_the_module_level_calls_share_connections_too() -> None:
    with canned() as server:
        for _ in range(5):
            graphpipe.remote.execute(server.url, X)
        assert graphpipe.remote.get_input_names(server.url) == ["x"]
        assert server.connections == 1


def test_an_answer_that_says_close_ends_its_connection() -> None:
    def talk(caller: Caller) -> None:
        caller.read_request()
        caller.send(answer(outputs(X), "200 OK", "Connection: close"))
        assert not caller.read_request()

    with canned(talk) as server, graphpipe.Client(server.url) as client:
        for _ in range(3):
            client.execute(X)
        assert (server.connections, server.requests) == (3, 3)


def test_http_1_0_ends_its_connection_unless_it_says_keep_alive() -> None:
    def closing(caller: Caller) -> None:
        caller.read_request()
        caller.send(answer(outputs(X), version="1.0"))

    def keeping(caller: Caller) -> None:
        while caller.read_request():
            caller.send(answer(outputs(X), "200 OK", "Connection: Keep-Alive", version="1.0"))

    with canned(closing, keeping) as server, graphpipe.Client(server.url) as client:
        for _ in range(4):
            assert np.array_equal(client.execute(X), X)
        assert server.connections == 2


def test_sixteen_threads_may_share_one_client() -> None:
    with canned() as server, graphpipe.Client(server.url) as client:

        def work(start: int) -> bool:
            arrays = (np.full((4, 5), i, np.float32) for i in range(start, start + 200))
            return all(np.array_equal(client.execute(array), array) for array in arrays)

        with ThreadPoolExecutor(16) as pool:
            assert all(pool.map(work, range(0, 16_000, 1000)))
        assert server.requests == 16 * 200
        assert server.connections <= 16


def test_sixteen_threads_may_share_one_client_of_a_real_server(serve) -> None:
    with graphpipe.Client(serve("-m", "echo").url) as client:

        def work(start: int) -> bool:
            arrays = (np.full((i % 7, 5), i, np.float32) for i in range(start, start + 200))
            return all(np.array_equal(client.execute(array), array) for array in arrays)

        with ThreadPoolExecutor(16) as pool:
            assert all(pool.map(work, range(0, 16_000, 1000)))


def test_a_connection_that_the_server_closed_while_idle_is_silently_replaced() -> None:
    closed = threading.Event()

    def once(caller: Caller) -> None:
        caller.serve(until=1)
        caller.socket.close()
        closed.set()

    with canned(once) as server, graphpipe.Client(server.url) as client:
        for _ in range(5):
            assert np.array_equal(client.execute(X), X)
            assert closed.wait(10)
            closed.clear()
        assert (server.connections, server.requests) == (5, 5)


def test_a_connection_that_a_restarted_server_forgot_is_silently_replaced(serve) -> None:
    first = serve("-m", "echo")
    with graphpipe.Client(first.url) as client:
        client.execute(X)
        first.stop()
        serve("-m", "echo", listen=f"127.0.0.1:{first.port}")
        assert np.array_equal(client.execute(X), X)


def test_an_idle_connection_on_which_something_came_unasked_is_not_used_again() -> None:
    said, answered = threading.Event(), threading.Event()

    def talks_too_much(caller: Caller) -> None:
        caller.serve(until=1)
        answered.wait(10)
        caller.send(answer(outputs(X + 100)))
        said.set()
        caller.serve()

    with canned(talks_too_much, Caller.serve) as server, graphpipe.Client(server.url) as client:
        client.execute(X)
        answered.set()
        assert said.wait(10)
        time.sleep(0.05)
        assert np.array_equal(client.execute(X), X)
        assert server.connections == 2


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("reused", [False, True])
def test_a_request_that_was_received_is_never_sent_again(how: str, reused: bool) -> None:
    def dies(caller: Caller) -> None:
        if reused:
            caller.serve(until=1)
        assert caller.read_request()
        if how == "reset":
            caller.reset()

    with canned(dies, Caller.serve) as server, graphpipe.Client(server.url) as client:
        if reused:
            client.execute(X)
        with pytest.raises(graphpipe.NoAnswer, match="closed the connection without an answer"):
            client.execute(X)
        assert (server.connections, server.requests) == (1, 1 + reused)
        assert np.array_equal(client.execute(X), X)  # and the client is as good as new


def test_a_large_request_that_was_received_is_never_sent_again() -> None:
    def dies(caller: Caller) -> None:
        caller.serve(until=1)
        assert caller.read_request()

    with canned(dies, Caller.serve) as server, graphpipe.Client(server.url) as client:
        client.execute(X)
        with pytest.raises(graphpipe.NoAnswer):
            client.execute(LARGE)
        assert (server.connections, server.requests) == (1, 2)


def test_a_large_request_on_a_connection_that_was_closed_meanwhile_is_sent_on_a_new_one() -> None:
    def closes_after_the_head(caller: Caller) -> None:
        caller.serve(until=1)
        caller.read_head()

    with canned(closes_after_the_head, Caller.serve) as server, graphpipe.Client(server.url) as client:
        client.execute(X)
        assert client.execute(LARGE).shape == LARGE.shape
        assert (server.connections, server.requests) == (2, 2)


def test_a_server_that_never_accepts_a_whole_request_is_not_asked_for_ever() -> None:
    with canned(Caller.read_head) as server, graphpipe.Client(server.url) as client:
        with pytest.raises(graphpipe.NoAnswer):
            client.execute(LARGE)
        assert server.connections == 1


def test_a_refusal_that_comes_while_a_large_request_goes_out_is_what_is_reported() -> None:
    def refuses(caller: Caller) -> None:
        caller.read_head()
        caller.send(answer(b"too large, sorry\n", "413 Content Too Large", "Connection: close"))
        caller.socket.shutdown(socket.SHUT_WR)
        while caller.socket.recv(1 << 20):
            pass

    with canned(refuses) as server, graphpipe.Client(server.url) as client:
        with pytest.raises(TooLarge, match="too large, sorry"):
            client.execute(LARGE)
        assert server.connections == 1


def test_a_refusal_is_reported_even_if_the_server_hangs_up_on_the_rest() -> None:
    def refuses(caller: Caller) -> None:
        caller.read_head()
        caller.send(answer(b"too large, sorry\n", "413 Content Too Large", "Connection: close"))

    with canned(refuses) as server, graphpipe.Client(server.url) as client:
        with pytest.raises(TooLarge, match="too large, sorry"):
            client.execute(LARGE)
        assert server.connections == 1


def test_a_real_servers_refusal_of_a_large_body_is_reported_and_the_client_goes_on(serve) -> None:
    server = serve("-m", "echo", "--body-bytes-max", "1000000")
    with graphpipe.Client(server.url) as client:
        for _ in range(3):
            with pytest.raises(TooLarge, match="--body-bytes-max"):
                client.execute(LARGE)
            assert np.array_equal(client.execute(X), X)


def test_an_interrupted_call_does_not_leave_its_answer_to_the_next() -> None:
    """Ctrl-C while the model runs: the answer that still comes belongs to nobody."""
    arrived, go = threading.Event(), threading.Event()

    def slow(caller: Caller) -> None:
        caller.serve(until=1)
        caller.read_request()
        arrived.set()
        go.wait(10)
        caller.send(answer(outputs(X + 100)))

    def interrupt() -> None:
        arrived.wait(10)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    with canned(slow, Caller.serve) as server, graphpipe.Client(server.url) as client:
        client.execute(X)
        threading.Thread(target=interrupt).start()
        with pytest.raises(KeyboardInterrupt):
            client.execute(X)
        go.set()
        for _ in range(3):
            assert np.array_equal(client.execute(X), X)
        assert server.connections == 2


def test_a_closed_client_keeps_no_connections() -> None:
    ended = threading.Event()

    def talk(caller: Caller) -> None:
        caller.serve()
        ended.set()

    with canned(talk) as server:
        client = graphpipe.Client(server.url)
        client.execute(X)
        client.close()
        assert ended.wait(10)


def test_a_client_that_is_dropped_closes_its_connections_without_a_word() -> None:
    ended = threading.Event()

    def talk(caller: Caller) -> None:
        caller.serve()
        ended.set()

    with canned(talk) as server:
        client = graphpipe.Client(server.url)
        client.execute(X)
        del client
        assert ended.wait(10)


FORKING = """
import os, sys, threading
import numpy as np
import graphpipe

url, x = sys.argv[1], np.arange(6, dtype=np.float32)
client = graphpipe.Client(url)

def right(call):
    for i in range(50):
        assert np.array_equal(call(x + i), x + i)

right(client.execute)
right(lambda array: graphpipe.remote.execute(url, array))
stop = threading.Event()
def busy():
    while not stop.is_set():
        right(client.execute)
threads = [threading.Thread(target=busy) for _ in range(4)]  # whatever they hold at the moment of the fork
for thread in threads:
    thread.start()
children = []
for _ in range(8):
    child = os.fork()
    if not child:
        try:
            right(client.execute)
            right(lambda array: graphpipe.remote.execute(url, array))
            client.close_idle()
            right(client.execute)
            client.close()
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    children.append(child)
assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0] * 8
stop.set()
for thread in threads:
    thread.join()
right(client.execute)
"""


def test_a_child_process_may_go_on_with_its_parents_client(serve) -> None:
    server = serve("-m", "echo")
    ended = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORKING, server.url],
        env=environment(), capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert (ended.returncode, ended.stderr) == (0, "")


# --- where servers are ------------------------------------------------------------------------------------------------


def test_no_server_is_said_to_be_unreachable(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    for url in (f"http://127.0.0.1:{port}", f"unix:{tmp_path / 'none'}", "http://no-such-host.invalid:1"):
        with pytest.raises(Unreachable, match=r"is a server running there\?"):
            graphpipe.remote.execute(url, X)


def test_a_server_that_does_not_accept_is_given_up_in_time() -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        url = f"http://127.0.0.1:{full.getsockname()[1]}"
        waiting = [socket.socket() for _ in range(4)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(full.getsockname())
        with pytest.raises(TimedOut, match="did not accept a connection in time"):
            graphpipe.Client(url, timeout=0.3).execute(X)
        for one in waiting:
            one.close()


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost:9000",
        "ftp://x",
        "http://",
        "unix:",
        "http://user:secret@",
        "http://user:secret@host:99999",
        "http://user:secret@host\n",
        "http://host:99999",
        "http://[::1",
    ],
)
def test_what_is_no_url_is_refused_at_once(url: str) -> None:
    with pytest.raises(ValueError) as refusal:  # noqa: PT011 - some words are the standard library's
        graphpipe.Client(url)
    assert "secret" not in str(refusal.value)


def test_ipv6_and_paths_and_queries_reach_the_server_as_they_are() -> None:
    heads: list[bytes] = []

    def talk(caller: Caller) -> None:
        while caller.read_request():
            heads.append(caller.head)
            caller.send(answer(outputs(X)))

    with canned(talk, listener=socket.create_server(("::1", 0), family=socket.AF_INET6)) as server:
        port = server.listener.getsockname()[1]
        for url in (f"http://[::1]:{port}", f"http://[::1]:{port}/models/a%20b?x=1&y=ü z", f"http://[::1]:{port}/ü /"):
            graphpipe.remote.execute(url, X)
    lines = [head.split(b"\r\n")[0] for head in heads]
    assert lines == [
        b"POST / HTTP/1.1", b"POST /models/a%20b?x=1&y=%C3%BC%20z HTTP/1.1", b"POST /%C3%BC%20/ HTTP/1.1"
    ]  # fmt: skip
    assert b"\r\nHost: [::1]:%d\r\n" % port in heads[0]


def test_a_host_name_beyond_ascii_is_looked_up_not_choked_on() -> None:
    with pytest.raises(Unreachable):
        graphpipe.remote.execute("http://bücher.invalid:1", X)
    with pytest.raises(ValueError, match="cannot be looked up"):
        graphpipe.remote.execute(f"http://{'a' * 70}.invalid:1", X)


def test_unix_sockets_with_and_without_a_path(tmp_path: Path) -> None:
    heads: list[bytes] = []

    def talk(caller: Caller) -> None:
        while caller.read_request():
            heads.append(caller.head)
            caller.send(answer(outputs(X)))

    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "p.sock"))
    listener.listen()
    with canned(talk, listener=listener):
        for end in ("", ":/models/NAME", ":models/NAME"):
            assert np.array_equal(graphpipe.remote.execute(f"unix:{tmp_path / 'p.sock'}{end}", X), X)
    assert [head.split(b" ")[1] for head in heads] == [b"/", b"/models/NAME", b"/models/NAME"]


def test_a_unix_connection_closed_while_idle_is_silently_replaced(tmp_path: Path) -> None:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "p.sock"))
    listener.listen()
    with (
        canned(lambda caller: caller.serve(until=1), listener=listener) as server,
        graphpipe.Client(server.url) as client,
    ):
        for _ in range(20):
            assert np.array_equal(client.execute(X), X)
        assert server.requests == 20


def test_in_a_race_with_a_server_that_closes_no_request_runs_twice() -> None:
    """It closes right after each answer, without a word: the next request may cross that on the way, or lie unread."""
    ran: list[float] = []
    causes: set[type[BaseException | None]] = set()

    def once(caller: Caller) -> None:
        message = decode_request(caller.read_request())
        assert isinstance(message, InferRequest)
        ran.append(float(message.inputs[0][0, 0]))
        caller.send(answer(outputs(*message.inputs)))

    with canned(once) as server, graphpipe.Client(server.url) as client:
        for i in range(500):
            try:
                assert np.array_equal(client.execute(X + i), X + i)
            except graphpipe.NoAnswer as failure:
                causes.add(type(failure.__cause__))
    assert len(set(ran)) == len(ran) > 250
    assert causes <= {ConnectionResetError}  # after which nobody can say whether it ran


def test_os_environment_proxies_are_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, "http_proxy", "http://127.0.0.1:1")
    with canned() as server:
        assert np.array_equal(graphpipe.remote.execute(server.url, X), X)


def test_a_connection_that_is_reset_holds_nothing_of_the_call_when_its_error_is_gone() -> None:
    """No garbage collection has to run for that."""

    def talk(caller: Caller) -> None:
        caller.read_head()
        caller.reset()

    gc.disable()
    try:
        with canned(talk) as server, graphpipe.Client(server.url) as client:
            for _ in range(5):
                array = np.zeros(1_000_000, np.float32)
                held = weakref.ref(array)
                with pytest.raises(graphpipe.NoAnswer):
                    client.execute(array)
                del array
                assert held() is None
    finally:
        gc.enable()
