"""``graphpipe.serving``: a server beside what a program does, in a notebook, a test, an application."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import graphpipe
from graphpipe.backends.echo import Echo
from graphpipe.errors import LoadError
from graphpipe.server.extra import NeedsExtra, require_extra
from graphpipe.server.life.listener import BindError
from tests.serving import environment

X = np.arange(4, dtype=np.float32)


def plus_one(x):
    return x + 1


def is_gone(url: str) -> bool:
    try:
        graphpipe.remote.execute(url, X)
    except graphpipe.NoAnswer:
        return True
    return False


def test_a_function_is_served_within_a_with_and_no_longer():
    with graphpipe.serving(plus_one) as server:
        assert server.url.startswith("http://127.0.0.1:")
        assert graphpipe.remote.execute(server.url, X).tolist() == (X + 1).tolist()
        assert graphpipe.remote.metadata(server.url).name == server.name == "plus_one"
        assert repr(server) == f"<serving plus_one at {server.url}>"
    assert is_gone(server.url)
    server.stop()  # said again, it changes nothing


def test_it_serves_without_a_with_until_it_is_stopped():
    server = graphpipe.serving("echo", name="mirror", threads=1)
    assert graphpipe.remote.metadata(server.url).name == "mirror"
    server.stop()
    assert is_gone(server.url)


def test_whatever_is_raised_within_ends_the_server_and_goes_on():
    with pytest.raises(ZeroDivisionError), graphpipe.serving("echo") as server:
        raise ZeroDivisionError
    assert is_gone(server.url)


def test_a_server_that_nobody_has_any_more_ends():
    """As when a cell of a notebook is run again."""
    server = graphpipe.serving("echo")
    url, thread = server.url, next(t for t in threading.enumerate() if t.name == "graphpipe server")
    del server
    gc.collect()
    thread.join(60)
    assert is_gone(url)


def test_what_stands_in_the_way_is_raised_in_the_caller():
    with graphpipe.serving("echo") as server:
        for process in (False, True):
            with pytest.raises(BindError, match="already in use"):
                graphpipe.serving("echo", server.url.removeprefix("http://"), process=process)
            with pytest.raises(LoadError, match="nothing.onnx: no such file"):
                graphpipe.serving("nothing.onnx", process=process)
    with pytest.raises(TypeError, match=r"serving\(\) has no setting 'thread'; did you mean 'threads'\?"):
        graphpipe.serving("echo", thread=4)
    with pytest.raises(ValueError, match="--batch-pad does nothing without"):
        graphpipe.serving("echo", batch_pad=["x:1:0"])


def test_a_model_that_was_loaded_before_stays_open_and_may_be_served_again():
    with graphpipe.load("examples/digits/digits.onnx") as model:
        zeros = {"pixels": np.zeros((1, 64), np.float32)}
        for _ in range(2):
            with graphpipe.serving(model) as server, graphpipe.Client(server.url) as client:
                assert client.infer(zeros)["label"] == model.infer(zeros)["label"]
            assert is_gone(server.url)


def test_a_model_of_the_users_own_is_served_as_it_is():
    class Mine(Echo):
        closed = False

        def close(self):
            self.closed = True

    mine = Mine()
    with graphpipe.serving(mine) as server:
        assert graphpipe.remote.execute(server.url, X).tolist() == X.tolist()
    assert not mine.closed


def test_it_serves_from_within_a_running_loop_where_serve_says_that_it_would_block():
    async def cell():
        with pytest.raises(RuntimeError, match=r"an event loop runs .*: graphpipe.serving\(model\) serves beside it"):
            graphpipe.serve("echo", "127.0.0.1:0")
        with graphpipe.serving("echo") as server:
            async with graphpipe.AsyncClient(server.url) as client:
                return (await client.execute(X)).tolist()

    assert asyncio.run(cell()) == X.tolist()


def test_it_serves_from_a_thread():
    answers = []

    def work():
        with graphpipe.serving("echo") as server:
            answers.append(graphpipe.remote.execute(server.url, X).tolist())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(60)
    assert answers == [X.tolist()]


def test_a_process_of_its_own_serves_what_it_can_load(tmp_path, monkeypatch, capfd):
    (tmp_path / "own.py").write_text("import os\ndef pid(x):\n    return x * 0 + os.getpid()\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    import own

    for model in (own.pid, f"{tmp_path}/own.py:pid"):
        with graphpipe.serving(model, process=True) as server:
            there = int(graphpipe.remote.execute(server.url, np.zeros(1, np.int64))[0])
            assert there != os.getpid()
        assert not Path(f"/proc/{there}").exists()
    assert capfd.readouterr().err == ""  # a notebook is no place for its access lines


def test_what_only_this_process_has_is_not_for_another():
    for model in (lambda x: x, Echo(), graphpipe.load(lambda x: x)):
        with pytest.raises(
            LoadError, match=r"is in this process only, .*: put it into a file and serve 'file.py:name'"
        ):
            graphpipe.serving(model, process=True)


def test_a_program_that_stops_nothing_ends_all_the_same_and_leaves_no_process():
    code = """if True:
        import graphpipe, numpy as np
        servers = [graphpipe.serving("echo"), graphpipe.serving("json:dumps", process=True, name="m")]
        print(*[server.url for server in servers])
    """
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert [is_gone(url) for url in done.stdout.split()] == [True, True]


def test_the_log_goes_to_standard_error_while_it_serves_and_is_left_alone_afterwards():
    code = """if True:
        import graphpipe, logging, numpy as np, sys
        logging.basicConfig(stream=sys.stderr, format="own %(message)s")
        with graphpipe.serving("echo", log_format="json") as server:
            graphpipe.remote.execute(server.url, np.zeros(1))
        logging.warning("afterwards")
    """
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[0].startswith("{")
    assert done.stderr.splitlines()[-1] == "own afterwards"


def test_two_servers_at_once_leave_the_programs_log_as_it_was_and_with_what_it_added():
    root, access = logging.getLogger(), logging.getLogger("graphpipe.access")
    before, levels = list(root.handlers), (root.level, access.level)
    added = logging.NullHandler()
    a = graphpipe.serving("echo", verbose=1)
    b = graphpipe.serving("echo", verbose=1, log_format="json")
    (ours,) = root.handlers
    root.addHandler(added)
    try:
        a.stop()
        assert root.handlers == [ours, added]  # b's log goes on
        assert root.level == logging.INFO
        b.stop()
        assert root.handlers == [*before, added]
        assert (root.level, access.level) == levels
    finally:
        root.removeHandler(added)


def test_a_server_that_no_signal_stops_promises_none():
    code = """if True:
        import graphpipe, sys, threading, time
        with graphpipe.serving("echo", verbose=0, log_format="human"):
            pass
        graphpipe.serving("echo", verbose=0, log_format="human")  # ends with the program
    """
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=False)
    assert done.stderr.count("/metrics; server.stop() to stop\n") == 2, done.stderr
    assert "Ctrl-C" not in done.stderr
    assert "SIGTERM" not in done.stderr
    assert "cutting" not in done.stderr  # no request was in flight


def test_a_name_that_is_no_text_is_refused_in_words():
    with pytest.raises(TypeError, match=r"serving\(\): name: expected text, as in name='digits'; 3 came"):
        graphpipe.serving(plus_one, name=3)


def test_who_says_a_port_or_a_host_is_told_of_listen_and_of_nothing_else():
    for said in ({"port": 9000}, {"host": "127.0.0.1"}, {"address": "127.0.0.1:9000"}):
        with pytest.raises(TypeError, match=r"where it listens is one text: listen='HOST:PORT'$"):
            graphpipe.serving(plus_one, **said)


def test_a_server_that_is_stopped_is_not_entered_again():
    server = graphpipe.serving("echo")
    server.stop()
    with pytest.raises(RuntimeError, match="this server is stopped"), server:
        pass


def test_a_process_that_cannot_load_its_model_says_so_in_the_error_alone(tmp_path, capfd):
    (tmp_path / "mine.py").write_text("")
    with pytest.raises(LoadError, match="nope"):
        graphpipe.serving(f"{tmp_path}/mine.py:nope", process=True)
    assert capfd.readouterr().err == ""


def test_a_function_that_was_loaded_before_is_found_again_by_a_process_of_its_own(tmp_path, monkeypatch):
    (tmp_path / "mine_too.py").write_text("def double(x):\n    return x * 2\n\ntwice = lambda x: x * 2\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    import mine_too

    for function in (mine_too.double, mine_too.twice):
        with graphpipe.load(function) as model, graphpipe.serving(model, process=True) as server:
            assert graphpipe.remote.execute(server.url, X).tolist() == (X * 2).tolist()


def test_without_the_extra_one_sentence_says_what_to_install():
    code = """if True:
        import importlib.abc, sys
        class Missing(importlib.abc.MetaPathFinder):
            def find_spec(self, name, path=None, target=None):
                if name.partition(".")[0] in ("aiohttp", "lmdb", "blake3", "uvloop", "onnxruntime"):
                    raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        sys.meta_path.insert(0, Missing())
        import importlib.util
        find = importlib.util.find_spec
        import graphpipe, graphpipe.server.extra as extra
        extra.find_spec = lambda name: None
        for call in (graphpipe.serve, graphpipe.serving, graphpipe.load):
            try:
                call("examples/digits/digits.onnx")
            except (ImportError, graphpipe.LoadError) as error:
                print(error)
    """
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == [
        "graphpipe.serve() needs the server extra: pip install 'graphpipe-rpc[server]'",
        "graphpipe.serving() needs the server extra: pip install 'graphpipe-rpc[server]'",
        "examples/digits/digits.onnx: onnxruntime is not installed, and this model needs it: "
        "pip install 'graphpipe-rpc[onnx]'",
    ], done.stderr
    assert issubclass(NeedsExtra, ImportError)
    assert issubclass(NeedsExtra, graphpipe.GraphPipeError)
    require_extra("this test")
