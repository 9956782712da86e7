"""Shared memory is sealed, has no name, and is gone with the last who holds it."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import gc
import mmap
import os
import resource
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphpipe.buffers import POOLED_FROM, BufferPool
from graphpipe.memory.places import place_of
from graphpipe.memory.segment import Segment, available, segment_at
from tests.memory.held import descriptors, mappings

pytestmark = pytest.mark.skipif(not available(), reason="this system has no sealed memory without a name")

MIB = 1 << 20


@pytest.fixture(autouse=True)
def no_collector() -> Iterator[None]:
    """What is freed only by the collector is freed too late."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def test_two_processes_see_the_same_bytes():
    segment = Segment.create(MIB)
    segment.view[:5] = b"hello"
    child = (
        "import mmap, os, sys\n"
        "memory = mmap.mmap(int(sys.argv[1]), 0)\n"
        "assert len(memory) == 1 << 20 and memory[:5] == b'hello'\n"
        "memory[-5:] = b'there'\n"
    )
    subprocess.run([sys.executable, "-c", child, str(segment.fd)], pass_fds=[segment.fd], check=True, timeout=60)
    assert bytes(segment.view[-5:]) == b"there"


def test_nobody_can_make_it_shorter_or_longer_or_read_only():
    segment = Segment.create(MIB)
    for size in (0, MIB - 1, MIB + 1, 2 * MIB):
        with pytest.raises(PermissionError):
            os.ftruncate(segment.fd, size)
    with pytest.raises(PermissionError):
        fcntl.fcntl(segment.fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)
    segment.view[-1:] = b"x"


def test_no_program_that_is_started_gets_its_descriptor():
    assert not os.get_inheritable(Segment.create(MIB).fd)


def test_a_thousand_in_turn_leave_no_descriptor_and_no_mapping():
    Segment.create(MIB)
    before = descriptors(), mappings()
    for number in range(1000):
        segment = Segment.create(POOLED_FROM)
        segment.view[:1] = bytes([number % 256])
    del segment
    assert (descriptors(), mappings()) == before


def test_who_looks_at_the_memory_may_outlive_the_segment():
    segment = Segment.create(MIB)
    array = np.frombuffer(segment.view, np.uint8)
    array[7] = 9
    del segment
    assert array[7] == 9
    assert place_of(array) is None  # there is no descriptor to send any more
    before = mappings()
    del array
    assert mappings() == before - 1


def test_where_no_descriptor_is_left_it_says_so():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))), hard))
    held = []
    try:
        with pytest.raises(OSError, match=os.strerror(errno.EMFILE)):
            for _ in range(soft):
                held.append(Segment.create(mmap.PAGESIZE))
        # A pool has memory all the same.
        pool = BufferPool(64 * MIB, shared=True)
        lease = pool.lease(MIB)
        assert lease is not None
        assert place_of(np.frombuffer(lease, np.uint8)) is None
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_what_cannot_be_mapped_leaves_nothing():
    before = descriptors(), mappings()
    for size in (1 << 62, (1 << 63) - 1):
        with pytest.raises((OSError, OverflowError, ValueError)):
            Segment.create(size)
    assert (descriptors(), mappings()) == before


# --- places -----------------------------------------------------------------------------------------------------------


@given(st.integers(0, 2 * MIB), st.integers(1, MIB))
def test_an_array_is_found_where_it_lies(offset, length):
    segments = [Segment.create(3 * MIB) for _ in range(3)]
    array = np.frombuffer(segments[1].view, np.uint8)[offset : offset + length]
    place = place_of(array)
    assert place is not None
    assert (place.fd, place.offset, place.length) == (segments[1].fd, offset, length)
    assert place.key == segments[1].key != segments[0].key
    assert place.segment is segments[1]


def test_arrays_elsewhere_have_no_place():
    segment = Segment.create(MIB)
    whole = np.frombuffer(segment.view, np.uint8)
    assert place_of(np.zeros(MIB, np.uint8)) is None
    assert place_of(whole.copy()) is None
    assert place_of(whole[::2]) is None
    assert place_of(whole.reshape(1024, -1).T) is None
    assert place_of(whole[:0]) is None
    assert place_of(np.float32(3) * np.ones(())) is None
    wide = np.lib.stride_tricks.as_strided(whole, (MIB + 1,), (1,))  # it reaches out of the segment
    assert place_of(wide) is None


def test_the_bytes_around_a_segment_are_not_its_own():
    segment = Segment.create(MIB)
    assert segment_at(segment.address) is segment
    assert segment_at(segment.address + MIB - 1) is segment
    assert segment_at(segment.address + MIB) is not segment
    assert segment_at(segment.address - 1) is not segment


def test_a_read_only_array_and_a_matrix_have_a_place_too():
    segment = Segment.create(MIB)
    array = np.frombuffer(segment.view.toreadonly(), "<f4").reshape(64, -1)[5:7]
    place = place_of(array)
    assert place is not None
    assert (place.offset, place.length) == (5 * MIB // 64, 2 * MIB // 64)


def test_places_are_right_while_threads_make_segments_and_let_them_go():
    wrong: list[object] = []
    lasting = [Segment.create(MIB) for _ in range(4)]

    def work(number: int) -> None:
        try:
            mine = np.frombuffer(lasting[number].view, np.uint8)[number:]
            for _ in range(200):
                segment = Segment.create(POOLED_FROM)
                array = np.frombuffer(segment.view, np.uint8)[5:]
                for each, of in ((array, segment), (mine, lasting[number])):
                    place = place_of(each)
                    assert place is not None
                    assert (place.key, place.fd) == (of.key, of.fd)
                del segment, place, of
                assert place_of(array) is None
                del array, each
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


# --- pools made of it -------------------------------------------------------------------------------------------------


def test_large_leases_of_a_shared_pool_have_a_place_and_small_ones_none():
    pool = BufferPool(64 * MIB, shared=True)
    large, small = pool.lease(MIB + 5), pool.lease(POOLED_FROM - 1)
    assert large is not None
    assert small is not None
    place = place_of(np.frombuffer(large, np.uint8))
    assert place is not None
    assert (place.offset, place.length) == (0, MIB + 5)
    assert place_of(np.frombuffer(small, np.uint8)) is None
    assert place_of(np.frombuffer(BufferPool(64 * MIB).lease(MIB) or b"", np.uint8)) is None


def test_a_segment_is_used_again_as_any_buffer():
    pool = BufferPool(64 * MIB, shared=True)
    keys = set()
    for _ in range(50):
        lease = pool.lease(MIB)
        assert lease is not None
        place = place_of(np.frombuffer(lease, np.uint8))
        assert place is not None
        keys.add(place.key)
        del lease, place
    assert len(keys) == 1


def test_a_descriptor_lives_as_long_as_anybody_looks():
    pool = BufferPool(64 * MIB, idle_bytes_max=0, shared=True)
    lease = pool.lease(MIB)
    assert lease is not None
    array = np.frombuffer(lease, np.uint8)[100:][:50]
    del lease
    place = place_of(array)
    assert place is not None
    fd = place.fd
    os.fstat(fd)
    del place
    os.fstat(fd)
    before = descriptors()
    del array
    assert pool.leased_bytes == 0
    assert descriptors() == before - 1


def test_memory_behind_what_is_leased_is_given_back_of_segments_too():
    pool = BufferPool(8 * MIB, shared=True)
    lease = pool.lease(4 * MIB)
    assert lease is not None
    lease[:] = b"\1" * (4 * MIB)
    del lease
    open_lease = pool.open_lease(4 * MIB)
    open_lease.view[: MIB + 1] = b"\2" * (MIB + 1)
    open_lease.touch(MIB + 1)
    place = place_of(np.frombuffer(open_lease.view, np.uint8))
    assert place is not None
    assert os.fstat(place.fd).st_blocks * 512 >= 4 * MIB
    other = pool.lease(6 * MIB)
    assert other is not None
    assert os.fstat(place.fd).st_blocks * 512 <= 2 * MIB
    assert open_lease.view[: MIB + 1].tobytes() == b"\2" * (MIB + 1)
    assert not any(open_lease.view[2 * MIB :])


def test_a_pool_of_many_small_buffers_leaves_descriptors_for_others():
    pool = BufferPool(1 << 30, shared=True)
    before = descriptors()
    held = [pool.lease(POOLED_FROM) for _ in range(600)]
    assert all(lease is not None for lease in held)
    assert descriptors() - before <= 256
    held.clear()
    # Idle ones of one size make room for those of another.
    lease = pool.lease(MIB)
    assert lease is not None
    assert place_of(np.frombuffer(lease, np.uint8)) is not None
    # What is no segment is not kept: the next one may be one.
    assert pool.leased_bytes + pool.idle_bytes == MIB + 255 * POOLED_FROM


def test_a_pool_and_its_leases_leave_nothing():
    BufferPool(MIB, shared=True).lease(MIB)
    before = descriptors(), mappings()
    pool = BufferPool(64 * MIB, shared=True)
    held = [pool.lease(size) for size in (MIB, MIB, 3 * MIB, POOLED_FROM)]
    arrays = [np.frombuffer(lease or b"", np.uint8)[3:] for lease in held]
    held.clear()
    del pool
    arrays.clear()
    assert (descriptors(), mappings()) == before


def test_a_shared_lease_can_be_received_into_and_sent_from():
    pool = BufferPool(64 * MIB, shared=True)
    lease = pool.lease(MIB)
    assert lease is not None
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(b"some bytes")
        assert ours.recv_into(lease) == 10
        ours.sendmsg([lease[:4]])
        assert theirs.recv(10) == b"some"
    assert ctypes.string_at(np.frombuffer(lease, np.uint8).ctypes.data, 4) == b"some"
