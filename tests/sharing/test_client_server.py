"""Clients and real servers on one host: the same answers as by bytes, whatever happens to either."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphpipe
from graphpipe.client.calls import Array
from graphpipe.errors import DeadlineExceeded, NoAnswer, TimedOut, Unauthenticated
from graphpipe.keyfile import digest_of, key_of, new_key, text_of
from graphpipe.memory.places import place_of
from graphpipe.memory.segment import available
from tests.serving import serving

pytestmark = pytest.mark.skipif(not available(), reason="this system has no memory that can be passed")

LARGE = np.arange(200_000, dtype=np.float32)

MODELS = """
import time
import numpy as np

kept = []

def keep(x):
    kept.append(x)
    return np.array([each[-1] for each in kept])

def slow(x):
    time.sleep(float(x[0]))
    with open({told!r}, "a") as file:
        file.write(f"{{x.min()}} {{x.max()}}\\n")
    return x

def grow(x):
    return np.full(200_000, x[0]), np.full(10, x[0])

def change(x):
    return x + 1, x[:5], np.array(["text"], object), x[::2]
"""


@pytest.fixture
def models(tmp_path: Path) -> Path:
    path = tmp_path / "models.py"
    path.write_text(MODELS.format(told=str(tmp_path / "told")))
    return path


@pytest.fixture
def by_bytes(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], graphpipe.Client]:
    def made(url: str) -> graphpipe.Client:
        with monkeypatch.context() as patch:
            patch.setattr("graphpipe.client.blocking.is_possible", lambda address: False)
            return graphpipe.Client(url)

    return made


def has_shown(client: graphpipe.Client) -> bool:
    """Whether memory went over a connection of this client: one of those that are kept for it."""
    return client._same_host is not None and bool(client._same_host._idle)


def odd_bools() -> Array:
    return np.frombuffer(np.random.default_rng(0).integers(0, 4, 600_000, dtype=np.uint8), bool)


def kinds() -> Iterator[tuple[str, dict[str, Any]]]:
    random = np.random.default_rng(7)
    for code in ("u1", "i1", "<u2", "<i2", "<u4", "<i4", "<u8", "<i8", "<f2", "<f4", "<f8", "?"):
        numbers = random.integers(0, 100, 600_000).astype(code)
        yield code, {"x": numbers}
        yield f"{code} in rows", {"x": numbers.reshape(600, 1000), "y": numbers[:1], "z": numbers[100_000:]}
    yield "others' byte order", {"x": LARGE.astype(">f4"), "y": LARGE.astype(">i8")}
    yield "turned", {"x": LARGE.reshape(200, 1000).T, "y": LARGE[::-1], "z": LARGE[::3]}
    yield "broadcast", {"x": np.broadcast_to(np.float32(3), (400, 500))}
    yield "booleans that are neither", {"x": odd_bools(), "y": odd_bools()[::2]}
    yield "none at all", {"x": LARGE, "y": np.empty((0, 7)), "z": np.empty((3, 0), np.int64), "w": np.float64(1)}
    yield "with text", {"x": np.array(["Grüße", b"\0\xff"], object), "y": LARGE, "z": np.array(["a"] * 100)}
    yield "many", {f"x{i}": LARGE[: 2000 * i] for i in range(40)}
    yield "more than are shown", {f"x{i}": LARGE[: 17_000 + i] for i in range(80)}
    read_only = LARGE.copy()
    read_only.flags.writeable = False
    yield "not to be written to", {"x": read_only, "y": read_only}
    yield "32 dimensions", {"x": LARGE.reshape(*[1] * 30, 200, 1000)}


def test_answers_are_those_that_come_by_bytes(tmp_path: Path, by_bytes: Callable[[str], graphpipe.Client]) -> None:
    url = f"unix:{tmp_path / 's.sock'}"
    with serving("--model", "echo", listen=url), graphpipe.Client(url) as client, by_bytes(url) as other:
        for name, inputs in kinds():
            asked = list(inputs)
            shown = {key: client.empty(key, np.shape(value), np.asarray(value).dtype) for key, value in inputs.items()}
            for key, value in inputs.items():
                shown[key][...] = value
            expected = other.execute_multi(list(inputs.values()), asked)
            assert not has_shown(other)
            for values in (inputs, inputs, shown, shown):
                found = client.execute_multi(list(values.values()), asked)
                assert has_shown(client), name
                assert len(found) == len(expected)
                for one, another in zip(found, expected, strict=True):
                    assert (one.dtype, one.shape) == (another.dtype, another.shape), name
                    assert one.flags.writeable
                    if one.dtype == object:
                        assert one.tolist() == another.tolist()
                    else:
                        assert one.tobytes() == another.tobytes(), name


def test_views_of_memory_that_is_shown_are_what_they_are(tmp_path: Path) -> None:
    url = f"unix:{tmp_path / 's.sock'}"
    with serving("--model", "echo", listen=url), graphpipe.Client(url) as client:
        array = client.empty("x", 400_000, "float32")
        array[:] = np.arange(400_000)
        answer = array
        for _ in range(4):
            views = [array, array[16:], array[1:], array[::2], array[::-1], array.reshape(400, 1000).T, answer, answer]
            views += [array.view("i4"), array.view("u1"), array.view(bool), array[:0], array[5:6], array.astype(">f4")]
            found = client.execute_multi(views)
            for one, another in zip(found, views, strict=True):
                assert np.array_equal(one, another)
            answer = found[0]
            answer[0] += 1
        assert array[0] == 0
        assert has_shown(client)


def test_outputs_of_all_sorts_come_back(models: Path, by_bytes: Callable[[str], graphpipe.Client]) -> None:
    url = f"unix:{models.parent / 's.sock'}"
    with serving("--model", f"{models}:change", listen=url), graphpipe.Client(url) as client, by_bytes(url) as other:
        for value in (LARGE, LARGE + 1, LARGE[:90_000], np.arange(400_000, dtype=np.int64)):
            for _ in range(3):
                for one, another in zip(client.execute_multi([value]), other.execute_multi([value]), strict=True):
                    assert (one.dtype, one.shape) == (another.dtype, another.shape)
                    assert np.array_equal(one, another)
        assert has_shown(client)


def test_a_small_question_may_have_a_large_answer(models: Path) -> None:
    url = f"unix:{models.parent / 's.sock'}"
    with serving("--model", f"{models}:grow", listen=url), graphpipe.Client(url) as client:
        kept = [client.execute(np.array([i], np.float64)) for i in range(5)]
        assert has_shown(client)
    for i, (large, small) in enumerate(kept):
        assert np.array_equal(large, np.full(200_000, i))
        assert np.array_equal(small, np.full(10, i))


def test_keys_are_asked_of_every_call(tmp_path: Path) -> None:
    key = new_key()
    keys = tmp_path / "keys.txt"
    keys.write_text(text_of(key_of("me", digest_of(key.encode()), ["infer"])) + "\n")
    keys.chmod(0o600)
    url = f"unix:{tmp_path / 's.sock'}"
    with (
        serving("--model", "echo", "--api-key-file", keys, listen=url),
        graphpipe.Client(url, api_key=key) as client,
        graphpipe.Client(url) as stranger,
    ):
        for _ in range(3):
            assert np.array_equal(client.execute(LARGE), LARGE)
            with pytest.raises(Unauthenticated):
                stranger.execute(LARGE)
        assert has_shown(client)
        assert has_shown(stranger)  # it may show, and nobody looks


def test_a_model_that_keeps_its_inputs_sees_them_unchanged(models: Path) -> None:
    url = f"unix:{models.parent / 's.sock'}"
    with serving("--model", f"{models}:keep", listen=url), graphpipe.Client(url) as client:
        for i in range(6):
            assert client.execute(LARGE + i).tolist() == [199_999 + j for j in range(i + 1)]
        assert has_shown(client)


def test_a_model_that_is_late_still_sees_what_it_was_sent(models: Path) -> None:
    told = models.parent / "told"
    url = f"unix:{models.parent / 's.sock'}"
    first = np.full(200_000, 0.8, np.float32)
    with serving("--model", f"{models}:slow", "--threads", "2", listen=url), graphpipe.Client(url) as client:
        quick = np.zeros(200_000, np.float32)
        client.execute(quick)
        with pytest.raises((TimedOut, DeadlineExceeded)):
            client.execute(first, timeout=0.2)
        deadline = time.monotonic() + 20
        while "0.8" not in told.read_text():
            assert np.array_equal(client.execute(quick), quick)
            assert time.monotonic() < deadline
    lines = told.read_text().split("\n")
    assert [line for line in lines if line and line != "0.0 0.0"] == [f"{first[0]} {first[0]}"]


def test_threads_and_their_own_answers(tmp_path: Path) -> None:
    url = f"unix:{tmp_path / 's.sock'}"
    with serving("--model", "echo", listen=url), graphpipe.Client(url) as client:

        def work(thread: int) -> None:
            kept = [(i, client.execute(LARGE + 1000 * thread + i)) for i in range(10)]
            for i, array in kept:
                assert np.array_equal(array, LARGE + 1000 * thread + i)

        with ThreadPoolExecutor(6) as threads:
            list(threads.map(work, range(6)))


def test_a_server_that_is_started_again_is_shown_memory_again(tmp_path: Path) -> None:
    url = f"unix:{tmp_path / 's.sock'}"
    with graphpipe.Client(url) as client:
        array = client.empty("x", LARGE.shape, "float32")
        array[:] = LARGE
        for _ in range(2):
            with serving("--model", "echo", listen=url):
                for _ in range(3):
                    assert np.array_equal(client.execute(array), LARGE)
                    assert np.array_equal(client.execute(LARGE + 1), LARGE + 1)
                assert has_shown(client)


def test_a_server_that_is_killed_in_a_call_takes_nobody_along(models: Path) -> None:
    url = f"unix:{models.parent / 's.sock'}"
    with graphpipe.Client(url) as client:
        with (
            pytest.raises(AssertionError, match="ended with status -9"),
            serving("--model", f"{models}:slow", listen=url) as server,
        ):
            array = client.empty("x", LARGE.shape, "float32")
            array[:] = 30
            killer = threading.Timer(0.3, lambda: server.stop(signal.SIGKILL))
            killer.start()
            with pytest.raises(NoAnswer):
                client.execute(array)
            killer.join()
        assert array.max() == 30
        os.unlink(models.parent / "s.sock")
        with serving("--model", "echo", listen=url):
            for _ in range(3):
                assert np.array_equal(client.execute(array), array)
            assert has_shown(client)


@contextlib.contextmanager
def forwarding(path: Path, onward: Path) -> Iterator[None]:
    """A program between client and server that knows of bytes alone: descriptors end there."""

    def forward(source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                target.sendall(data)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_WR)

    def accept() -> None:
        while True:
            try:
                caller, _ = listener.accept()
            except OSError:
                return
            server = socket.socket(socket.AF_UNIX)
            server.connect(str(onward))
            sockets.extend((caller, server))
            for pair in ((caller, server), (server, caller)):
                threading.Thread(target=forward, args=pair, daemon=True).start()

    sockets: list[socket.socket] = []
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    accepting = threading.Thread(target=accept, daemon=True)
    accepting.start()
    try:
        yield
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        accepting.join(10)
        for each in sockets:
            each.close()


def test_where_descriptors_are_lost_on_the_way_bytes_are_sent(tmp_path: Path) -> None:
    with (
        serving("--model", "echo", listen=f"unix:{tmp_path / 's.sock'}"),
        forwarding(tmp_path / "p.sock", tmp_path / "s.sock"),
        graphpipe.Client(f"unix:{tmp_path / 'p.sock'}") as client,
    ):
        for i in range(5):
            assert np.array_equal(client.execute(LARGE + i), LARGE + i)
        assert not has_shown(client)
        assert client._same_host is not None
        assert not client._same_host.memory.is_taken


def test_a_server_behind_a_server_is_shown_memory(tmp_path: Path) -> None:
    url = f"unix:{tmp_path / 's.sock'}"

    def check(execute: Callable[[Array], Array]) -> None:
        kept = [execute(LARGE + i) for i in range(5)]
        for i, array in enumerate(kept):
            assert np.array_equal(array, LARGE + i)

    with serving("--model", "echo", listen=url):
        check(lambda array: graphpipe.remote.execute(url, array))
        with serving("--model", url) as front:
            check(lambda array: graphpipe.remote.execute(front.url, array))
        with graphpipe.load(url) as model:
            check(lambda array: model.execute(array))
            found = model.execute_multi([LARGE, LARGE + 1])
            assert not np.may_share_memory(found[0], found[1])
            assert np.array_equal(found[1], LARGE + 1)
            array = model.empty("x", (2, 100_000), "float32")
            assert place_of(array) is not None
            array[:] = 3
            assert np.array_equal(model.execute(array), array)
