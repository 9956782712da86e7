"""Pooled memory is aligned, bounded and reused, and never handed out again while anybody can still see it."""

import ctypes
import functools
import gc
import random
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphpipe.buffers import POOLED_FROM, BufferPool, size_class

MIB = 1 << 20


def leased(pool: BufferPool, size: int = MIB) -> memoryview:
    lease = pool.lease(size)
    assert lease is not None
    return lease


def address(view: memoryview) -> int:
    return int(np.frombuffer(view, np.uint8).ctypes.data)


@pytest.mark.parametrize("size", [0, 1, POOLED_FROM - 1, POOLED_FROM, POOLED_FROM + 1, 3 * MIB + 7])
def test_a_lease_has_the_size_that_was_asked_for_and_can_be_written(size):
    lease = leased(BufferPool(64 * MIB), size)
    assert (len(lease), lease.format, lease.readonly) == (size, "B", False)
    lease[:] = bytes(size)


@pytest.mark.parametrize("size", [POOLED_FROM, 100_001, MIB, 9 * MIB + 1])
def test_large_leases_start_at_a_multiple_of_64(size):
    pool = BufferPool(64 * MIB)
    held = [leased(pool, size) for _ in range(3)]
    assert all(address(lease) % 64 == 0 for lease in held)
    assert len({address(lease) for lease in held}) == 3


@given(st.integers(POOLED_FROM, 1 << 40))
def test_a_size_class_wastes_at_most_a_quarter(size):
    got = size_class(size)
    assert got >= size
    assert got <= size * 5 / 4 + POOLED_FROM
    assert size_class(got) == got


def test_a_buffer_is_used_again():
    pool = BufferPool(64 * MIB)
    first = leased(pool)
    was = address(first)
    del first
    assert (pool.leased_bytes, pool.idle_bytes) == (0, MIB)
    second = leased(pool, MIB - 1000)  # the same class
    assert address(second) == was
    assert (pool.leased_bytes, pool.idle_bytes) == (MIB, 0)


def test_small_leases_are_no_matter_of_the_pool():
    pool = BufferPool(0)
    assert len(leased(pool, POOLED_FROM - 1)) == POOLED_FROM - 1
    assert pool.leased_bytes == 0
    assert pool.lease(POOLED_FROM) is None


# --- who may still be looking -----------------------------------------------------------------------------------------


def _torch_tensor(lease: memoryview) -> object:
    torch = pytest.importorskip("torch")
    return torch.from_numpy(np.frombuffer(lease, np.float32))[1:][::2]


def _torch_frombuffer(lease: memoryview) -> object:
    torch = pytest.importorskip("torch")
    return torch.frombuffer(lease, dtype=torch.float32)[5:]


VIEWS: dict[str, Callable[[memoryview], object]] = {
    "the lease": lambda lease: lease,
    "a slice": lambda lease: lease[10:20],
    "a slice of a slice": lambda lease: lease[10:2000][5:50][1:2],
    "a read-only view": lambda lease: lease.toreadonly()[3:],
    "a cast": lambda lease: lease.cast("f"),
    "a cast of a cast": lambda lease: lease.cast("d").cast("B")[8:],
    "a memoryview of it": lambda lease: memoryview(lease),
    "an array": lambda lease: np.frombuffer(lease, np.float32),
    "an array by ndarray()": lambda lease: np.ndarray((2, 3), "<f4", lease, 64),
    "an array by asarray()": lambda lease: np.asarray(lease),
    "a slice of an array": lambda lease: np.frombuffer(lease, np.float32)[10:],
    "a slice of slices": lambda lease: np.frombuffer(lease, np.float32)[10:][::2][3:4],
    "a reshaped array": lambda lease: np.frombuffer(lease, np.uint8).reshape(1024, -1).T[1:],
    "an array of another type": lambda lease: np.frombuffer(lease, np.uint8).view(np.int16)[1:],
    "the memory of an array": lambda lease: np.frombuffer(lease, np.float32).data,
    "the memory of a slice": lambda lease: np.frombuffer(lease, np.float32)[7:].data.cast("B"),
    "a broadcast": lambda lease: np.broadcast_to(np.frombuffer(lease, np.float32)[:1], (5, 1)),
    "one element's array": lambda lease: np.frombuffer(lease, np.float32)[3:4].reshape(()),
    "an iterator": lambda lease: iter(np.frombuffer(lease, np.float32)),
    "what a function was bound to": lambda lease: functools.partial(len, np.frombuffer(lease, np.uint8)),
    "a torch tensor": _torch_tensor,
    "a torch tensor of the lease": _torch_frombuffer,
    "a DLPack capsule's array": lambda lease: np.from_dlpack(np.frombuffer(lease, np.float32)),
}


@pytest.mark.parametrize("kind", VIEWS)
def test_a_buffer_stays_leased_while_a_view_of_it_lives(kind):
    pool = BufferPool(64 * MIB)
    view = VIEWS[kind](leased(pool))
    gc.collect()
    assert pool.leased_bytes == MIB
    other = leased(pool)
    assert (pool.leased_bytes, pool.idle_bytes) == (2 * MIB, 0)
    del view
    assert (pool.leased_bytes, pool.idle_bytes) == (MIB, MIB)
    del other


def test_what_is_written_to_a_new_lease_never_shows_in_an_old_view():
    pool = BufferPool(64 * MIB)
    first = leased(pool)
    first[:] = b"\1" * MIB
    kept = np.frombuffer(first, np.uint8)[1000:][::3]
    del first
    for _ in range(5):
        leased(pool)[:] = b"\2" * MIB
    assert (kept == 1).all()


def test_a_view_in_a_cycle_gives_its_buffer_back_with_the_cycle():
    pool = BufferPool(64 * MIB)
    cycle: list[Any] = [np.frombuffer(leased(pool), np.uint8)[5:]]
    cycle.append(cycle)
    del cycle
    gc.collect()
    assert pool.leased_bytes == 0


def test_an_array_kept_by_another_thread_keeps_the_buffer():
    pool = BufferPool(64 * MIB)
    taken, let_go = threading.Event(), threading.Event()
    offered = [np.frombuffer(leased(pool), np.float32)[3:]]

    def hold() -> None:
        array = offered.pop()
        taken.set()
        let_go.wait()
        assert array.size

    thread = threading.Thread(target=hold)
    thread.start()
    taken.wait()
    assert pool.leased_bytes == MIB
    let_go.set()
    thread.join()
    assert pool.leased_bytes == 0


def test_an_exception_on_the_way_leaves_nothing_leased():
    pool = BufferPool(64 * MIB)

    def fail() -> None:
        array = np.frombuffer(leased(pool), np.float32)
        array.reshape(7, -1)

    failures = 0
    for _ in range(20):
        try:
            fail()
        except ValueError:
            failures += 1
    assert failures == 20
    assert pool.leased_bytes == 0
    assert pool.idle_bytes <= 2 * MIB


# --- limits -----------------------------------------------------------------------------------------------------------


def test_no_more_is_leased_than_the_cap():
    pool = BufferPool(3 * MIB)
    held = [leased(pool) for _ in range(3)]
    assert pool.lease(MIB) is None
    assert pool.lease(POOLED_FROM) is None
    held.pop()
    assert pool.lease(2 * MIB) is None
    held.append(leased(pool))
    assert pool.leased_bytes == 3 * MIB


def test_idle_buffers_make_room_for_other_sizes():
    pool = BufferPool(4 * MIB)
    held = [leased(pool) for _ in range(4)]
    held.clear()
    assert pool.idle_bytes == 4 * MIB
    large = leased(pool, 3 * MIB)
    assert pool.leased_bytes == len(large) == 3 * MIB
    assert pool.leased_bytes + pool.idle_bytes <= 4 * MIB
    pool_of_idle = BufferPool(4 * MIB)
    leases = [leased(pool_of_idle, 2 * MIB), leased(pool_of_idle)]
    leases.clear()
    leases = [leased(pool_of_idle), leased(pool_of_idle)]
    assert pool_of_idle.leased_bytes + pool_of_idle.idle_bytes <= 4 * MIB


def test_no_more_is_kept_idle_than_was_said_and_the_largest_go_first():
    pool = BufferPool(64 * MIB, idle_bytes_max=3 * MIB)
    held = [leased(pool, size) for size in (8 * MIB, MIB, 4 * MIB, MIB, MIB)]
    held.clear()
    assert (pool.leased_bytes, pool.idle_bytes) == (0, 3 * MIB)
    assert pool.lease(MIB) is not None


def test_a_pool_that_keeps_nothing_idle_leases_all_the_same():
    pool = BufferPool(64 * MIB, idle_bytes_max=0)
    leased(pool)[:] = bytes(MIB)
    assert (pool.leased_bytes, pool.idle_bytes) == (0, 0)


def test_whoever_waits_for_memory_is_told_when_some_came_back():
    pool = BufferPool(MIB)
    told: list[int] = []
    pool.on_return = lambda: told.append(1)
    held = [leased(pool)]
    assert pool.lease(MIB) is None
    view = held[0][5:]
    held.clear()
    assert told == []
    del view
    assert told == [1]
    assert pool.lease(MIB) is not None


def test_the_pool_may_go_before_its_leases():
    pool = BufferPool(64 * MIB)
    lease = leased(pool)
    array = np.frombuffer(lease, np.uint8)[9:]
    del pool, lease
    gc.collect()
    array[:] = 7
    assert (array == 7).all()
    del array


def test_threads_may_share_a_pool():
    """Each fills its lease with its own number: nobody may ever see another's."""
    pool = BufferPool(40 * MIB, idle_bytes_max=8 * MIB)
    wrong: list[object] = []

    def work(number: int) -> None:
        rng = random.Random(number)
        try:
            kept: list[np.ndarray[Any, Any]] = []
            for _ in range(150):
                lease = pool.lease(rng.randrange(POOLED_FROM, MIB))
                if lease is not None:
                    array = np.frombuffer(lease, np.uint8)
                    array[::4096] = number
                    kept.append(array[::4096])
                if len(kept) > 3:
                    mine = kept.pop(rng.randrange(len(kept)))
                    assert (mine == number).all()
            assert all((array == number).all() for array in kept)
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    del threads, thread
    assert wrong == []
    assert pool.leased_bytes == 0
    assert pool.idle_bytes <= 8 * MIB


def test_a_lease_can_be_received_into_through_a_foreign_pointer():
    lease = leased(BufferPool(64 * MIB))
    ctypes.memmove(address(lease), b"hello", 5)
    assert lease[:5].tobytes() == b"hello"


# --- open leases: as large as was promised, counted as far as they are written ---------------------------------------


def test_an_open_lease_counts_as_far_as_it_is_touched_whether_or_not_there_is_room():
    pool = BufferPool(3 * MIB)
    lease = pool.open_lease(64 * MIB)
    assert len(lease.view) == 64 * MIB
    assert (pool.leased_bytes, pool.room) == (0, 3 * MIB)
    lease.touch(MIB)
    lease.touch(1000)
    assert (pool.leased_bytes, pool.room) == (MIB, 2 * MIB)
    assert pool.lease(3 * MIB) is None
    lease.touch(4 * MIB)
    assert pool.room == -MIB
    del lease
    assert (pool.leased_bytes, pool.room) == (0, 3 * MIB)
    assert pool.idle_bytes == 0  # hardly used: addresses are not worth keeping


def test_what_is_left_in_a_buffer_from_its_last_use_goes_when_there_is_no_room_for_it():
    pool = BufferPool(8 * MIB)
    leased(pool, 4 * MIB)[:] = b"\1" * (4 * MIB)
    assert pool.idle_bytes == 4 * MIB
    lease = pool.open_lease(4 * MIB)
    lease.view[: MIB + 1] = b"\2" * (MIB + 1)
    lease.touch(MIB + 1)
    assert (pool.leased_bytes, pool.idle_bytes) == (MIB + 1, 3 * MIB - 1)
    other = leased(pool, 6 * MIB)
    assert pool.leased_bytes + pool.idle_bytes <= 8 * MIB
    assert lease.view[: MIB + 1].tobytes() == b"\2" * (MIB + 1)
    assert not any(lease.view[2 * MIB :])  # it is fresh memory again
    lease.touch(2 * MIB)
    del other, lease
    assert pool.leased_bytes == 0


def test_what_is_put_aside_takes_room_from_leases_and_from_idle_memory():
    pool = BufferPool(4 * MIB)
    leased(pool, 3 * MIB)
    assert pool.idle_bytes == 3 * MIB
    pool.put_aside(2 * MIB)
    assert (pool.room, pool.idle_bytes) == (2 * MIB, 0)
    assert pool.lease(3 * MIB) is None
    pool.put_aside(-2 * MIB)
    assert pool.lease(3 * MIB) is not None


def test_what_is_elsewhere_counts_until_nobody_looks_at_what_it_is_for():
    pool = BufferPool(4 * MIB)
    array = np.empty(10, object)
    assert pool.count(array, MIB)
    assert pool.count(array, 2 * MIB)
    assert (pool.leased_bytes, pool.room, pool.idle_bytes) == (3 * MIB, MIB, 0)
    assert not pool.count(array, MIB + 1)
    assert not pool.count(array, MIB // 2, MIB)  # it is to leave more than that
    assert pool.room == MIB
    view = array.reshape(2, 5)[1:]
    del array
    assert pool.room == MIB
    del view
    assert (pool.leased_bytes, pool.room, pool.idle_bytes) == (0, 4 * MIB, 0)


def test_idle_memory_goes_where_what_is_elsewhere_takes_its_room():
    pool = BufferPool(4 * MIB)
    leased(pool, 3 * MIB)
    assert pool.idle_bytes == 3 * MIB
    array = np.empty(1, object)
    assert pool.count(array, 2 * MIB)
    assert (pool.leased_bytes, pool.idle_bytes) == (2 * MIB, 0)


@given(st.lists(st.tuples(st.sampled_from("otaedl"), st.integers(1, 3 * MIB)), max_size=30))
def test_whatever_is_done_leased_and_idle_memory_stay_below_the_limit(steps):
    pool = BufferPool(4 * MIB)
    leases: list[Any] = []
    for kind, size in steps:
        if kind == "o":
            leases.append(pool.open_lease(max(size, POOLED_FROM)))
        elif kind == "e":
            leases.append(np.empty(1, object))
            pool.count(leases[-1], size)
        elif kind == "l":
            leases.append(pool.lease(max(size, POOLED_FROM)))
        elif kind == "t" and leases and hasattr(leases[-1], "touch"):
            leases[-1].touch(min(size, max(0, pool.room), len(leases[-1].view)))
        elif kind == "d" and leases:
            leases.pop(size % len(leases))
        assert pool.leased_bytes + pool.idle_bytes <= 4 * MIB
        assert pool.idle_bytes >= 0
    leases.clear()
    assert pool.leased_bytes == 0
