"""What other processes see of a client's memory, and what is left of it. The garbage collector is off."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import resource
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import graphpipe
from graphpipe.errors import NoAnswer, TimedOut
from graphpipe.memory.segment import available
from tests.canned import Caller
from tests.sharing.peer import ASKED, YES, Look, Shown, hand_made, looking

pytestmark = pytest.mark.skipif(not available(), reason="this system has no memory that can be passed")

LARGE = np.arange(200_000, dtype=np.float32)


@pytest.fixture(autouse=True)
def without_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def doubled(shown: Shown) -> bytes:
    return shown.answer(*[2 * array for array in shown.inputs])


def segments() -> list[str]:
    """The descriptors and mappings of this process that are memory of this kind."""
    found = []
    for fd in os.listdir("/proc/self/fd"):
        try:
            found.append(os.readlink(f"/proc/self/fd/{fd}"))
        except FileNotFoundError:  # that of the listing itself
            continue
    with open("/proc/self/maps") as maps:
        found += maps.read().splitlines()
    return [line for line in found if "memfd:graphpipe" in line]


@pytest.fixture(autouse=True)
def _others() -> None:
    """What tests of other rooms hold, where they run in the same process, is nobody's here."""
    global _before
    _before = len(segments())


_before = 0


def until_none_is_left() -> None:
    """The server by hand is in this process too, and lets go of what it was shown in its own time."""
    deadline = time.monotonic() + 20
    while len(segments()) > _before:
        assert time.monotonic() < deadline, segments()
        time.sleep(0.01)


def test_nothing_is_left_after_close(tmp_path: Path) -> None:
    with hand_made(tmp_path, looking(doubled)) as server:
        client = graphpipe.Client(server.url)
        array = client.empty("x", LARGE.shape, "float32")
        for i in range(5):
            array[:] = LARGE
            kept = client.execute(array)
            client.execute(LARGE + i)
        client.close()
        assert np.array_equal(kept, 2 * LARGE)
        del array, kept
        until_none_is_left()


def test_nothing_is_left_of_an_asynchronous_client(tmp_path: Path) -> None:
    async def main(url: str) -> None:
        async with graphpipe.AsyncClient(url) as client:
            array = await client.empty("x", LARGE.shape, "float32")
            array[:] = LARGE
            for _ in range(3):
                assert np.array_equal(await client.execute(array), 2 * LARGE)
                with pytest.raises(TimedOut):
                    await client.execute(LARGE - 1, timeout=0.05)

    def run(shown: Shown) -> bytes:
        if shown.inputs[0][0] < 0:
            time.sleep(0.3)
        return doubled(shown)

    with hand_made(tmp_path, looking(run)) as server:
        asyncio.run(main(server.url))
        until_none_is_left()


def test_a_client_that_is_dropped_leaves_nothing(tmp_path: Path) -> None:
    with hand_made(tmp_path, looking(doubled)) as server:
        client = graphpipe.Client(server.url)
        client.execute(LARGE)
        client.close_idle()
        client.execute(LARGE)
        del client
        until_none_is_left()


def test_calls_that_fail_leave_nothing(tmp_path: Path) -> None:
    def talk(caller: Caller) -> None:
        if caller.read_head() != ASKED:
            caller.unread_head()
            caller.serve()
            return
        caller.send(YES)
        look = Look(caller)
        shown = look.request()
        assert shown is not None
        if int(shown.inputs[0][0]) % 2:
            look.request()  # no answer: until the caller leaves

    with hand_made(tmp_path, talk) as server, graphpipe.Client(server.url) as client:
        for i in range(10):
            with pytest.raises(NoAnswer):
                client.execute(LARGE + i, timeout=0.05 if i % 2 else 10)
        client.close()
        until_none_is_left()


def test_where_no_descriptor_is_left_bytes_are_sent(tmp_path: Path) -> None:
    with hand_made(tmp_path, looking(doubled)) as server, graphpipe.Client(server.url) as client:
        assert np.array_equal(client.execute(LARGE[:10]), LARGE[:10])  # on a connection that is kept

        def work() -> None:
            resource.setrlimit(resource.RLIMIT_NOFILE, (300, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
            with graphpipe.Client(server.url) as mine:
                mine.execute(LARGE[:10])
                shown = mine.empty("x", LARGE.shape, "float32")
                shown[:] = LARGE
                taken = []
                with contextlib.suppress(OSError):
                    while True:
                        taken.append(os.open(os.devnull, os.O_RDONLY))
                assert np.array_equal(mine.execute(LARGE), LARGE)
                assert np.array_equal(mine.execute(shown), LARGE)
                assert mine.empty("x", LARGE.shape, "float32").shape == LARGE.shape
                for fd in taken:
                    os.close(fd)
                assert np.array_equal(mine.execute(shown), 2 * LARGE)
                assert np.array_equal(mine.execute(LARGE), 2 * LARGE)

        in_child(work)


def in_child(work: object) -> None:
    """Run ``work`` in a forked child, and fail if it fails there."""
    child = os.fork()
    if not child:
        status = 1
        try:
            signal.alarm(30)
            work()  # type: ignore[operator]
            status = 0
        except BaseException as error:
            os.write(2, f"{type(error).__name__}: {error}\n".encode())
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0


def test_a_child_has_its_own_connections_and_memory(tmp_path: Path) -> None:
    with hand_made(tmp_path, looking(doubled)) as server, graphpipe.Client(server.url) as client:
        array = client.empty("x", LARGE.shape, "float32")
        array[:] = LARGE
        answer = client.execute(array)

        def work() -> None:
            assert np.array_equal(answer, 2 * LARGE)
            assert np.array_equal(client.execute(array), 2 * LARGE)
            array[:] = 7
            answer[:] = 8
            for i in range(3):
                # What the child sends is what the child sees.
                assert np.array_equal(client.execute(array + i), np.full_like(LARGE, 14 + 2 * i))
            assert np.array_equal(client.execute(array), np.full_like(LARGE, 14))
            assert answer.max() == answer.min() == 8

        in_child(work)
        # What a child writes to memory of its parent does not show there.
        assert np.array_equal(answer, 2 * LARGE)
        assert np.array_equal(client.execute(array), 2 * LARGE)


def test_a_child_keeps_what_it_was_born_with(tmp_path: Path) -> None:
    """Its parent lets go of an answer, and has the next ones: they must not come where the child still looks."""
    with hand_made(tmp_path, looking(doubled)) as server, graphpipe.Client(server.url) as client:
        client.execute(LARGE)
        answer = client.execute(LARGE)
        go_read, go_write = os.pipe()
        child = os.fork()
        if not child:
            signal.alarm(30)
            os.read(go_read, 1)
            os._exit(0 if np.array_equal(answer, 2 * LARGE) else 1)
        del answer
        for i in range(10):
            client.execute(LARGE + 1000 + i)
        os.write(go_write, b"!")
        _, status = os.waitpid(child, 0)
        os.close(go_read)
        os.close(go_write)
        assert os.waitstatus_to_exitcode(status) == 0


def test_a_fork_in_the_middle_of_a_call_disturbs_nobody(tmp_path: Path) -> None:
    import threading

    with hand_made(tmp_path, looking(doubled)) as server, graphpipe.Client(server.url) as client:
        stop = threading.Event()
        wrong: list[object] = []

        def busy() -> None:
            i = 0
            while not stop.is_set():
                i += 1
                if not np.array_equal(client.execute(LARGE + i), 2 * (LARGE + i)):
                    wrong.append(i)

        threads = [threading.Thread(target=busy) for _ in range(3)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(5):
                in_child(lambda: np.testing.assert_array_equal(client.execute(LARGE), 2 * LARGE))
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        assert not wrong


def test_a_timeout_costs_the_memory_and_no_more(tmp_path: Path) -> None:
    def talk(caller: Caller) -> None:
        if caller.read_head() == ASKED:
            caller.send(YES)
            look = Look(caller)
            while (shown := look.request()) is not None:
                if shown.inputs[0][0]:
                    caller.send(shown.answer(shown.inputs[0]))

    with hand_made(tmp_path, talk) as server, graphpipe.Client(server.url) as client:
        for _ in range(20):
            with pytest.raises(TimedOut):
                client.execute(LARGE, timeout=0.02)
        assert np.array_equal(client.execute(LARGE + 1), LARGE + 1)
