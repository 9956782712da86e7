"""One server behind every door: from Python in a thread, in workers, with a log; what a command can do, Python can."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import graphpipe
from graphpipe.backends.echo import Echo
from graphpipe.errors import LoadError
from graphpipe.server.life.listener import BindError
from graphpipe.server.life.server import Server
from graphpipe.server.settings.values import ModelSettings, Settings
from tests.serving import environment

X = np.arange(4, dtype=np.float32)
QUICK = Settings(listen="127.0.0.1:0", drain_grace_s=0.0)


class Waiting:
    """A model that goes on when it is told to."""

    def __init__(self) -> None:
        self.began, self.go, self.closed = threading.Event(), threading.Event(), threading.Event()
        x = graphpipe.TensorSpec("x", np.dtype("f4"), ("n",))
        self.signature = graphpipe.Signature((x,), (graphpipe.TensorSpec("y", np.dtype("f4"), ("n",)),))

    def infer(self, inputs, outputs=None, *, config=""):
        self.began.set()
        assert self.go.wait(60)
        return {"y": inputs["x"] + 1}

    def close(self):
        self.closed.set()


def test_a_server_in_a_thread_answers_until_it_is_stopped_and_finishes_what_is_in_flight() -> None:
    model, answers = Waiting(), []
    server = Server([(ModelSettings("m", "", warmup=0), model)], QUICK)
    url = server.start()
    assert url == server.url
    caller = threading.Thread(target=lambda: answers.append(graphpipe.remote.execute(url, X)))
    caller.start()
    assert model.began.wait(60)
    stopping = threading.Thread(target=server.stop)
    stopping.start()
    model.go.set()
    stopping.join(60)
    caller.join(60)
    assert [answer.tolist() for answer in answers] == [(X + 1).tolist()]
    assert model.closed.is_set()
    server.stop()  # said again, it changes nothing
    with pytest.raises(graphpipe.NoAnswer):
        graphpipe.remote.execute(url, X)


def test_what_stands_in_the_way_is_raised_where_the_server_was_started() -> None:
    with Server([(ModelSettings("echo", "", warmup=0), Echo())], QUICK) as server:
        taken = Settings(listen=server.url.removeprefix("http://"))
        with pytest.raises(BindError, match="already in use"):
            Server([(ModelSettings("echo", "echo"), None)], taken).start()
        with pytest.raises(LoadError, match="no such file"):
            Server([(ModelSettings("m", "missing.onnx"), None)], QUICK).start()
        assert graphpipe.remote.execute(server.url, X).tolist() == X.tolist()


def test_a_server_that_was_stopped_before_it_ran_does_not_stay() -> None:
    server = Server([(ModelSettings("echo", "", warmup=0), Echo())], QUICK)
    server.stop()
    with pytest.raises(graphpipe.GraphPipeError, match="told to end before it was ready"):
        server.start()


def test_a_server_of_workers_in_a_thread_answers_until_it_is_stopped() -> None:
    with Server([(ModelSettings("echo", "echo"), None)], Settings(listen="127.0.0.1:0", workers=2)) as server:
        assert graphpipe.remote.execute(server.url, X).tolist() == X.tolist()
        children = Path("/proc/self/task").glob("*/children")
        workers = [pid for path in children for pid in path.read_text().split() if is_worker(pid)]
        assert len(workers) == 2
    assert not any(is_worker(pid) for pid in workers)


def is_worker(pid: str) -> bool:
    try:
        return b"graphpipe.server.life.worker" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


@pytest.mark.parametrize("setting", ["workers=2", "memory_limit_bytes='8GiB'"])
def test_python_serves_a_function_of_a_module_by_workers_as_the_command_does(serve, tmp_path, setting) -> None:
    """The workers find the module where the program does: beside it."""
    (tmp_path / "beside.py").write_text("import os\ndef pid(x):\n    return x * 0 + os.getpid()\n")
    program = tmp_path / "program.py"
    program.write_text(f"import beside, graphpipe\ngraphpipe.serve(beside.pid, '127.0.0.1:0', {setting})\n")
    server = serve(code=f"import runpy, sys; sys.path.insert(0, {str(tmp_path)!r}); runpy.run_path({str(program)!r})")
    assert graphpipe.remote.metadata(server.url).name == "pid"
    assert int(graphpipe.remote.execute(server.url, np.zeros(1, np.int64))[0]) != server.process.pid
    assert server.stop() == 0


def test_what_only_this_process_has_is_not_for_workers() -> None:
    for model in (lambda x: x, Echo(), graphpipe.load(lambda x: x)):
        with pytest.raises(LoadError, match=r"is in this process only, and workers .* are others"):
            graphpipe.serve(model, "127.0.0.1:0", workers=2)
    with pytest.raises(TypeError, match="inputs is about loading, and this model is loaded"):
        graphpipe.serve(Echo(), inputs=["x"])


def test_python_may_say_how_a_model_is_loaded_and_how_the_log_looks(tmp_path) -> None:
    code = """if True:
        import logging, sys, threading, urllib.request, graphpipe
        logging.basicConfig(stream=sys.stderr, format="own %(message)s")
        def ask(url):
            def call():
                for path in ("/readyz", "/nowhere"):
                    try:
                        urllib.request.urlopen(url + path).read()
                    except OSError:
                        pass
                urllib.request.urlopen(urllib.request.Request(url + "/control/shutdown", method="POST")).read()
            threading.Thread(target=call).start()
        graphpipe.serve("echo", "127.0.0.1:0", name="m", backend="echo", on_ready=ask, log_format="json",
                        verbose=1, enable_shutdown=True, drain_grace_s=0)
        logging.warning("afterwards")
    """
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    *lines, last = done.stderr.splitlines()
    assert last == "own afterwards"
    assert "draining" in [json.loads(line).get("event") for line in lines]


def test_every_setting_reaches_the_server_that_python_starts(serve, tmp_path) -> None:
    """Of each kind one, seen from outside."""
    code = f"""if True:
        import graphpipe
        graphpipe.serve("echo", "unix:{tmp_path}/s", body_bytes_max="1KiB", metrics_listen="unix:{tmp_path}/m",
                        batch_rows_max=4, access_lines_per_s=0)
    """
    server = serve(code=code)
    with pytest.raises(graphpipe.ServiceError, match=r"--body-bytes-max|1024"):
        graphpipe.remote.execute(server.url, np.zeros(4096, np.float32))
    assert (tmp_path / "m").exists()
