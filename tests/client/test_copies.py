"""A client goes into other processes: by pickle, by fork, and under monkey patching. It connects anew there."""

from __future__ import annotations

import asyncio
import copy
import multiprocessing
import pickle
import ssl
import subprocess
import sys

import numpy as np
import pytest

import graphpipe
from tests.serving import environment, serving

A = np.arange(3, dtype=np.float32)


@pytest.fixture(scope="module")
def url():
    with serving("-m", "echo") as server:
        yield server.url


def answers(client) -> list[float]:
    if isinstance(client, graphpipe.Client):
        return client.execute(A).tolist()

    async def call():
        answer = (await client.execute(A)).tolist()
        await client.close_idle()
        return answer

    return asyncio.run(call())


@pytest.fixture(params=[graphpipe.Client, graphpipe.AsyncClient])
def kind(request):
    return request.param


@pytest.mark.parametrize("how", [copy.copy, copy.deepcopy, lambda client: pickle.loads(pickle.dumps(client))])
def test_a_copy_has_the_same_options_and_connections_of_its_own(url, kind, how):
    client = kind(url, 7, answer_bytes_max=1000)
    assert answers(client) == A.tolist()
    other = how(client)
    assert type(other) is kind
    assert other.url == url
    assert other._options.timeout == 7
    assert answers(other) == A.tolist()
    assert answers(client) == A.tolist()
    with pytest.raises(graphpipe.NoAnswer, match="at most 1000 are taken"):
        other = how(client)
        if kind is graphpipe.Client:
            other.execute(np.zeros(1000))
        else:
            asyncio.run(other.execute(np.zeros(1000)))


def test_an_asynchronous_clients_copy_keeps_its_number_of_connections(url):
    assert pickle.loads(pickle.dumps(graphpipe.AsyncClient(url, connections_max=3)))._connections_max == 3


def test_a_context_of_its_own_is_copied_along_and_not_pickled(kind):
    context = ssl.create_default_context()
    client = kind("https://h", tls=context)
    assert copy.copy(client)._options.tls is context
    assert copy.deepcopy(client)._options.tls is context
    with pytest.raises(
        TypeError, match="Client with a TLS context of its own cannot be pickled: .*make the client where"
    ):
        pickle.dumps(client)
    assert pickle.loads(pickle.dumps(kind("https://h"))).url == "https://h"


def test_a_client_works_in_a_process_that_was_spawned(url, kind):
    client = kind(url)
    answers(client)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(answers, (client,)) == A.tolist()


def test_a_child_and_its_parent_share_no_connection_after_fork(url):
    """Both go on with the client that has an idle connection: each gets its own answers."""
    code = """
import os, sys
import numpy as np, graphpipe
client = graphpipe.Client(sys.argv[1])
client.execute(np.zeros(1))
child = os.fork()
mark = 1.0 if child else 2.0
for number in range(200):
    sent = np.full(1000, mark * number)
    assert (client.execute(sent) == sent).all()
if not child:
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
"""
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, url], env=environment(), capture_output=True, text=True, timeout=60
    )
    assert ended.returncode == 0, ended.stderr


PATCHED = """
import sys
PATCH
import select
import numpy as np, graphpipe
from threading import Thread
client = graphpipe.Client(sys.argv[1])
large = np.arange(3_000_000, dtype=np.float32)
right = []
def call(number):
    right.append((client.execute(large + number) == large + number).all())
threads = [Thread(target=call, args=(number,)) for number in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert right == [True] * 8, right
import socket
turns = []
def tick():
    import time
    while len(turns) < 5:
        turns.append(1)
        time.sleep(0.01)
with socket.create_server(("127.0.0.1", 0)) as silent:
    ticking = Thread(target=tick)
    ticking.start()
    try:
        graphpipe.Client(f"http://127.0.0.1:{silent.getsockname()[1]}", timeout=0.5).execute(large)
    except graphpipe.errors.TimedOut:
        print(len(turns))
"""
PATCHES = {
    "eventlet": "import eventlet; eventlet.monkey_patch()",
    "gevent": "from gevent import monkey; monkey.patch_all()",
    # What eventlet's patching takes away.
    "select": "import select; del select.poll, select.epoll, select.POLLIN, select.POLLOUT",
}


@pytest.mark.parametrize("library", PATCHES)
def test_a_client_works_under_monkey_patching_and_lets_others_run_while_it_waits(url, library):
    pytest.importorskip(library, reason=f"{library} is not among what the tests install")
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PATCHED.replace("PATCH", PATCHES[library], 1), url],
        env=environment(), capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert ended.stdout.strip() == "5", ended.stderr
