"""From the first request to the last: what is in flight when a server is told to end is finished."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import graphpipe
from graphpipe.errors import DeadlineExceeded
from tests import onnx_graphs
from tests.messages import Tensor, infer_request
from tests.raw_http import Wire, request
from tests.serving import Server, serving

# A Python model that begins (makes the file `begun`) and goes on when it is told to (by the file `go`).
WAITING = """
import pathlib, sys, time
import numpy as np
import graphpipe

folder = pathlib.Path(sys.argv[1])

class Waiting:
    signature = graphpipe.Signature(
        (graphpipe.TensorSpec("x", np.dtype("float32"), ("n",)),),
        (graphpipe.TensorSpec("y", np.dtype("float32"), ("n",)),),
    )
    closed = False

    def infer(self, inputs, outputs=None, *, config=""):
        (folder / f"begun{config}").touch()
        while not (folder / "go").exists():
            time.sleep(0.005)
        assert not self.closed
        return {"y": inputs["x"] + 1}

    def close(self):
        self.closed = True
        print("closed", flush=True)

graphpipe.serve(Waiting(), "127.0.0.1:0", threads=int(sys.argv[2]), warmup=0)  # it would wait for the file
print("serve() is over", flush=True)
"""
X = np.arange(4, dtype=np.float32)


@pytest.fixture
def waiting(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Starts servers of the model above: waiting(threads=1)."""
    with serving(tmp_path, "2", code=WAITING) as server:
        yield server
        (tmp_path / "go").touch()


def until(condition: Callable[[], bool]) -> None:
    """Wait for what must come; the test's own time limit ends the wait for what does not."""
    while not condition():
        time.sleep(0.005)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_told_to_end_a_server_finishes_what_is_in_flight_and_exits_0(tmp_path: Path, how: signal.Signals) -> None:
    with (
        serving(tmp_path, "2", code=WAITING) as server,
        graphpipe.Client(server.url) as client,
        ThreadPoolExecutor() as pool,
    ):
        calls = [pool.submit(client.execute, X + i, config=str(i)) for i in range(2)]
        until(lambda: all((tmp_path / f"begun{i}").exists() for i in range(2)))
        os.kill(server.process.pid, how)
        time.sleep(0.2)  # whatever it does in haste, it does now
        assert server.process.poll() is None
        (tmp_path / "go").touch()
        assert [call.result().tolist() for call in calls] == [(X + 1).tolist(), (X + 2).tolist()]
        assert server.process.wait(timeout=60) == 0
        assert server.process.stdout is not None
        assert server.process.stdout.read().decode() == "closed\nserve() is over\n"


def test_requests_that_wait_in_the_queue_are_finished_too(tmp_path: Path) -> None:
    with (
        serving(tmp_path, "1", code=WAITING) as server,
        graphpipe.Client(server.url) as client,
        ThreadPoolExecutor(8) as pool,
    ):
        calls = [pool.submit(client.execute, X + i, config=str(i)) for i in range(8)]
        until(lambda: any(tmp_path.glob("begun*")))
        with Wire(server.url) as wire:
            until(lambda: int(wire.call("GET", "/control/client_count").text) >= 9)
        server.process.send_signal(signal.SIGTERM)
        (tmp_path / "go").touch()
        assert [call.result()[0] for call in calls] == [i + 1 for i in range(8)]


def test_idle_connections_do_not_hold_up_the_end(serve) -> None:
    server = serve("-m", "echo")
    with Wire(server.url) as idle, Wire(server.url) as never_spoke:
        assert idle.call("GET").status == 200
        assert server.stop() == 0
        assert idle.ended()
        assert never_spoke.ended()


def test_half_a_request_does_not_hold_up_the_end_for_ever(serve) -> None:
    server = serve(code="import graphpipe; graphpipe.serve('echo', '127.0.0.1:0', drain_timeout_s=0.5)")
    with Wire(server.url) as half:
        half.send(request("POST", body=bytes(100))[:-50])
        assert server.stop() == 0


def test_the_unix_socket_file_is_gone_or_can_be_taken_over_after_the_end(serve, tmp_path: Path) -> None:
    path = tmp_path / "graphpipe.sock"
    assert serve("-m", "echo", listen=f"unix:{path}").stop() == 0
    assert graphpipe.remote.execute(serve("-m", "echo", listen=f"unix:{path}").url, X).tolist() == X.tolist()


def test_a_port_is_free_again_at_once_after_the_end(serve) -> None:
    first = serve("-m", "echo")
    graphpipe.remote.execute(first.url, X)
    assert first.stop() == 0
    again = serve("-m", "echo", listen=f"127.0.0.1:{first.port}")
    assert graphpipe.remote.execute(again.url, X).tolist() == X.tolist()


def test_a_request_whose_deadline_passes_in_the_queue_is_never_run(tmp_path: Path) -> None:
    with (
        serving(tmp_path, "1", code=WAITING) as server,
        graphpipe.Client(server.url) as client,
        ThreadPoolExecutor() as pool,
    ):
        first = pool.submit(client.execute, X, config="first")
        until((tmp_path / "begunfirst").exists)
        with Wire(server.url) as wire:
            body = infer_request([Tensor(shape=[6])], config="late")
            wire.send(request("POST", body=body, graphpipe_timeout_ms="50"))
            time.sleep(0.1)
            (tmp_path / "go").touch()
            answer = wire.answer()
        assert (answer.status, first.result().tolist()) == (504, (X + 1).tolist())
        assert not (tmp_path / "begunlate").exists()


def test_a_caller_who_gives_up_leaves_the_server_at_work_for_the_others(tmp_path: Path) -> None:
    with serving(tmp_path, "2", code=WAITING) as server:
        with graphpipe.Client(server.url) as impatient, pytest.raises((graphpipe.NoAnswer, DeadlineExceeded)):
            impatient.execute(X, timeout=0.2)
        (tmp_path / "go").touch()
        assert graphpipe.remote.execute(server.url, X).tolist() == (X + 1).tolist()


def test_calls_run_at_the_same_time_on_as_many_threads_as_were_asked_for(tmp_path: Path) -> None:
    with (
        serving(tmp_path, "3", code=WAITING) as server,
        graphpipe.Client(server.url) as client,
        ThreadPoolExecutor(3) as pool,
    ):
        calls = [pool.submit(client.execute, X, config=str(i)) for i in range(3)]
        until(lambda: len(list(tmp_path.glob("begun*"))) == 3)
        (tmp_path / "go").touch()
        assert [call.result().tolist() for call in calls] == 3 * [(X + 1).tolist()]


def test_health_and_metadata_are_answered_while_every_model_thread_is_busy(tmp_path: Path) -> None:
    with (
        serving(tmp_path, "1", code=WAITING) as server,
        graphpipe.Client(server.url) as client,
        ThreadPoolExecutor() as pool,
    ):
        busy = pool.submit(client.execute, X)
        until(lambda: any(tmp_path.glob("begun*")))
        with Wire(server.url) as wire:
            assert wire.call("GET", "/control/is_ready").text == "ok\n"
            assert wire.call("GET").status == 200
        assert graphpipe.remote.get_input_names(server.url) == ["x"]
        assert not busy.done()
        (tmp_path / "go").touch()
        busy.result()


def test_a_slow_onnx_model_is_waited_for_too(serve, tmp_path: Path) -> None:
    server = serve("-m", onnx_graphs.slow(tmp_path / "slow.onnx"))
    with graphpipe.Client(server.url) as client, ThreadPoolExecutor() as pool:
        client.execute(np.int64(1))  # it is warm, and the connection open
        running = pool.submit(client.execute, np.int64(100))
        time.sleep(0.05)
        assert server.stop() == 0
        assert running.result().shape == ()


def test_serve_from_python_can_be_ended_from_another_thread_of_the_program() -> None:
    """In a thread there are no signals; /control/shutdown is the way."""
    urls: list[str] = []
    ready = threading.Event()

    def on_ready(url: str) -> None:
        urls.append(url)
        ready.set()

    thread = threading.Thread(
        target=graphpipe.serve, args=("echo", "127.0.0.1:0"), kwargs={"on_ready": on_ready, "enable_shutdown": True}
    )
    thread.start()
    assert ready.wait(30)
    assert graphpipe.remote.execute(urls[0], X).tolist() == X.tolist()
    with Wire(urls[0]) as wire:
        assert wire.call("POST", "/control/shutdown").text == "ok\n"
    thread.join(30)
    assert not thread.is_alive()


def test_serve_from_python_names_a_setting_that_does_not_exist() -> None:
    with pytest.raises(TypeError, match="no setting 'thread'"):
        graphpipe.serve("echo", thread=4)
    with pytest.raises(graphpipe.LoadError, match="no such file"):
        graphpipe.serve("missing.onnx")
