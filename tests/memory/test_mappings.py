"""What another process shows us is mapped only if nobody can harm us by it, and nothing of it stays."""

from __future__ import annotations

import ctypes
import fcntl
import gc
import mmap
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from graphpipe.memory.discard import discard, waiting
from graphpipe.memory.mappings import Mapped, Mappings, Refused
from graphpipe.memory.segment import Segment, available
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


@pytest.fixture
def nothing_is_left() -> Iterator[None]:
    before = descriptors(), mappings()
    yield
    settle()
    assert (descriptors(), mappings()) == before


def settle() -> None:
    """Wait until all that was let go of is gone."""
    ends = time.monotonic() + 60
    while waiting() and time.monotonic() < ends:
        time.sleep(0.001)
    assert waiting() == 0


def shown(segment: Segment) -> int:
    """The descriptor as another process would get it."""
    return os.dup(segment.fd)


def memfd(size: int, seals: int, flags: int = 0) -> int:
    fd = os.memfd_create("foreign", os.MFD_ALLOW_SEALING | flags)
    os.ftruncate(fd, size)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    return fd


BOTH = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW


# --- what is taken ----------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("nothing_is_left")
def test_what_is_shown_is_seen_and_its_descriptor_closed():
    segment, taken = Segment.create(MIB), Mappings(8 * MIB, 4)
    before = descriptors()
    mapped = taken.take(shown(segment))
    assert descriptors() == before
    assert (mapped.size, mapped.key) == (MIB, segment.key)
    segment.view[100:105] = b"hello"
    assert bytes(mapped.view(100, 5)) == b"hello"
    mapped.view(MIB - 5, 5, writable=True)[:] = b"there"
    assert bytes(segment.view[-5:]) == b"there"


@pytest.mark.usefixtures("nothing_is_left")
def test_a_segment_that_is_shown_again_costs_no_mapping():
    segment, taken = Segment.create(MIB), Mappings(8 * MIB, 4)
    first = taken.take(shown(segment))
    before = mappings()
    assert all(taken.take(shown(segment)) is first for _ in range(100))
    assert (mappings(), len(taken)) == (before, 1)


@pytest.mark.usefixtures("nothing_is_left")
def test_memory_that_others_sealed_is_taken_whether_or_not_more_seals_may_come():
    taken = Mappings(8 * MIB, 4)
    for seals in (BOTH, BOTH | fcntl.F_SEAL_SEAL):
        assert taken.take(memfd(5000, seals)).size == 5000


@pytest.mark.usefixtures("nothing_is_left")
def test_views_are_read_only_unless_they_are_to_be_written():
    segment, taken = Segment.create(MIB), Mappings(8 * MIB, 4)
    mapped = taken.take(shown(segment))
    view = mapped.view(0, 64)
    assert view.readonly
    assert not np.frombuffer(view, np.uint8).flags.writeable
    with pytest.raises(TypeError):
        view[0] = 1  # type: ignore[index]
    assert not mapped.view(0, 64, writable=True).readonly


@pytest.mark.parametrize(
    ("offset", "length"),
    [(-1, 5), (0, -1), (0, MIB + 1), (MIB, 1), (MIB + 1, 0), (1 << 63, 1), (1, 1 << 64), (-64, 128), (5, -5)],
)
@pytest.mark.usefixtures("nothing_is_left")
def test_no_view_reaches_out_of_the_segment(offset, length):
    segment, taken = Segment.create(MIB), Mappings(8 * MIB, 4)
    mapped = taken.take(shown(segment))
    with pytest.raises(Refused, match="segment of 1048576 bytes"):
        mapped.view(offset, length)
    assert not mapped.in_use


@pytest.mark.usefixtures("nothing_is_left")
def test_a_view_of_nothing_is_empty_and_keeps_nothing():
    segment, taken = Segment.create(MIB), Mappings(8 * MIB, 4)
    mapped = taken.take(shown(segment))
    views = [mapped.view(0, 0), mapped.view(MIB, 0, writable=True)]
    assert [bytes(view) for view in views] == [b"", b""]
    assert not mapped.in_use


# --- what is refused --------------------------------------------------------------------------------------------------


def _file() -> int:
    fd, path = tempfile.mkstemp()
    os.truncate(path, MIB)
    os.unlink(path)
    return fd


def _file_of_shared_memory() -> int:
    fd, path = tempfile.mkstemp(dir="/dev/shm")
    os.truncate(path, MIB)
    os.unlink(path)
    return fd


def _pipe() -> int:
    reading, writing = os.pipe()
    os.close(writing)
    return reading


def _socket() -> int:
    return socket.socket(socket.AF_UNIX).detach()


def _poll() -> int:
    with select.epoll() as poll:
        return os.dup(poll.fileno())


def _read_only() -> int:
    fd = memfd(MIB, BOTH)
    again = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY)
    os.close(fd)
    return again


def _path_alone() -> int:
    fd = memfd(MIB, BOTH)
    again = os.open(f"/proc/self/fd/{fd}", os.O_PATH)
    os.close(fd)
    return again


def _anonymous() -> int:
    """Shared memory of a process without a descriptor, opened by a back door."""
    memory = mmap.mmap(-1, MIB)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    name = next(name for name in os.listdir("/proc/self/map_files") if name.startswith(f"{address:x}-"))
    return os.open(f"/proc/self/map_files/{name}", os.O_RDWR)


STRANGERS: dict[str, tuple[Callable[[], int], str]] = {
    "a file": (_file, "no memory|of a file"),
    "a file in shared memory": (_file_of_shared_memory, "of a file"),
    "shared memory of no descriptor": (_anonymous, "not sealed"),
    "a folder": (lambda: os.open("/", os.O_RDONLY), "no memory"),
    "/dev/zero": (lambda: os.open("/dev/zero", os.O_RDWR), "no memory"),
    "/dev/null": (lambda: os.open("/dev/null", os.O_RDWR), "no memory"),
    "/proc/self/mem": (lambda: os.open("/proc/self/mem", os.O_RDWR), "no memory"),
    "a pipe": (_pipe, "no memory"),
    "a socket": (_socket, "no memory"),
    "a poll": (_poll, "no memory"),
    "a counter": (lambda: os.eventfd(0), "no memory"),
    "a process": (lambda: os.pidfd_open(os.getpid()), "no memory"),
    "a memfd that takes no seals": (lambda: os.memfd_create("foreign"), "not sealed"),
    "no seals": (lambda: memfd(MIB, 0), "not sealed"),
    "sealed against growing alone": (lambda: memfd(MIB, fcntl.F_SEAL_GROW), "not sealed"),
    "sealed against shrinking alone": (lambda: memfd(MIB, fcntl.F_SEAL_SHRINK), "not sealed"),
    "sealed against more seals alone": (lambda: memfd(MIB, fcntl.F_SEAL_SEAL), "not sealed"),
    "sealed against writing": (lambda: memfd(MIB, BOTH | fcntl.F_SEAL_WRITE), "cannot be mapped"),
    "opened to be read": (_read_only, "cannot be mapped"),
    "a path alone": (_path_alone, "no memory"),
    "nothing in it": (lambda: memfd(0, BOTH), "has 0 bytes; 1 to 8388608"),
    "one byte too many": (lambda: memfd(8 * MIB + 1, BOTH), "has 8388609 bytes; 1 to 8388608"),
    "a TiB that nobody has": (lambda: memfd(1 << 40, BOTH), "has 1099511627776 bytes"),
    "more than there are addresses": (lambda: memfd((1 << 63) - 4096, BOTH), "bytes"),
}


@pytest.mark.parametrize("kind", STRANGERS)
@pytest.mark.usefixtures("nothing_is_left")
def test_what_is_no_sealed_memory_is_refused_in_words_and_closed(kind):
    make, words = STRANGERS[kind]
    try:
        fd = make()
    except OSError as error:
        pytest.skip(f"this system does not give {kind}: {error}")
    taken = Mappings(8 * MIB, 4)
    with pytest.raises(Refused, match=words):
        taken.take(fd)
    assert len(taken) == 0


@pytest.mark.usefixtures("nothing_is_left")
def test_huge_pages_are_refused():
    try:
        fd = memfd(1 << 21, BOTH, os.MFD_HUGETLB)
    except OSError as error:
        pytest.skip(f"this system gives no huge pages: {error}")
    with pytest.raises(Refused, match="huge pages"):
        Mappings(8 * MIB, 4).take(fd)


@pytest.mark.usefixtures("nothing_is_left")
def test_what_is_too_large_for_the_machine_is_refused():
    taken = Mappings(1 << 62, 4)
    with pytest.raises(Refused, match="cannot be mapped"):
        taken.take(memfd(1 << 60, BOTH))
    assert len(taken) == 0


def test_a_number_that_is_no_descriptor_is_refused():
    fd = os.dup(0)
    os.close(fd)
    with pytest.raises(Refused, match="no memory"):
        Mappings(MIB, 4).take(fd)
    settle()


@pytest.mark.usefixtures("nothing_is_left")
def test_a_peer_that_ends_or_tries_to_cut_its_memory_short_harms_nobody():
    """It tries everything that would kill whoever looks, and is killed itself."""
    ours, theirs = socket.socketpair()
    peer = (
        "import fcntl, mmap, os, socket, sys, time\n"
        "fd = os.memfd_create('p', os.MFD_ALLOW_SEALING)\n"
        "os.ftruncate(fd, 1 << 20)\n"
        "os.pwrite(fd, b'x' * (1 << 20), 0)\n"
        "fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)\n"
        "s = socket.socket(fileno=int(sys.argv[1]))\n"
        "socket.send_fds(s, [b'.'], [fd])\n"
        "s.recv(1)\n"
        "done = []\n"
        "for size in (0, 4096, (1 << 20) - 1, 1 << 30):\n"
        "    try: os.ftruncate(fd, size); done.append(size)\n"
        "    except PermissionError: pass\n"
        "try: fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE); done.append('write')\n"
        "except OSError: pass\n"
        "mmap.mmap(fd, 0).madvise(mmap.MADV_REMOVE, 0, 1 << 19)\n"  # holes can be made
        "s.sendall(repr(done).encode())\n"
        "time.sleep(600)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", peer, str(theirs.fileno())], pass_fds=[theirs.fileno()])
    try:
        theirs.close()
        ours.settimeout(60)
        _, (fd,), _, _ = socket.recv_fds(ours, 1, 4)
        mapped = Mappings(8 * MIB, 4).take(fd)
        view = mapped.view(0, MIB)
        ours.sendall(b".")
        assert ours.recv(100) == b"[]"  # nothing worked
        assert len(bytes(view)) == MIB
        assert bytes(view[-100:]) == b"x" * 100  # holes are zeros, no more
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        ours.close()
    assert bytes(view[-100:]) == b"x" * 100
    del view, mapped


@pytest.mark.usefixtures("nothing_is_left")
def test_what_cannot_be_closed_at_once_is_closed_elsewhere():
    """A socket that must send its last bytes first would have us wait for a peer who reads nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        sender = socket.create_connection(listener.getsockname())
        reader, _ = listener.accept()
    sender.setblocking(False)
    sender.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 3600))
    with pytest.raises(BlockingIOError):
        while True:
            sender.send(bytes(MIB))
    with pytest.raises(Refused):
        Mappings(MIB, 4).take(sender.detach())
    segment, taken = Segment.create(MIB), Mappings(MIB, 4)
    assert taken.take(shown(segment)).size == MIB  # others go on
    settle()  # and it is told not to wait either
    reader.close()


# --- limits -----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("nothing_is_left")
def test_who_was_not_shown_for_longest_goes_first():
    segments = [Segment.create(MIB) for _ in range(4)]
    taken = Mappings(64 * MIB, 3)
    first, second, third = (taken.take(shown(segment)) for segment in segments[:3])
    assert taken.take(shown(segments[0])) is first
    fourth = taken.take(shown(segments[3]))
    assert len(taken) == 3
    assert taken.take(shown(segments[0])) is first
    assert taken.take(shown(segments[2])) is third
    assert taken.take(shown(segments[3])) is fourth
    again = taken.take(shown(segments[1]))
    assert again is not second
    assert again.key == second.key


@pytest.mark.usefixtures("nothing_is_left")
def test_all_together_have_no_more_bytes_than_was_said():
    taken = Mappings(4 * MIB, 100)
    segments = [Segment.create(MIB) for _ in range(6)]
    before = mappings()
    for segment in segments:
        taken.take(shown(segment))
    settle()
    assert (len(taken), mappings() - before) == (4, 4)
    large = Segment.create(4 * MIB)
    taken.take(shown(large))
    assert len(taken) == 1


@pytest.mark.usefixtures("nothing_is_left")
def test_what_somebody_looks_at_stays_when_its_place_is_needed():
    segments = [Segment.create(MIB) for _ in range(3)]
    taken = Mappings(64 * MIB, 1)
    segments[0].view[:5] = b"hello"
    view = taken.take(shown(segments[0])).view(0, 5)
    for segment in segments[1:]:
        taken.take(shown(segment))
    taken.close()
    settle()
    assert bytes(view) == b"hello"
    before = mappings()
    del view
    assert mappings() == before - 1


@pytest.mark.usefixtures("nothing_is_left")
def test_nothing_is_taken_after_the_end():
    segment, taken = Segment.create(MIB), Mappings(64 * MIB, 4)
    taken.take(shown(segment))
    taken.close()
    taken.close()
    with pytest.raises(Refused, match="any more"):
        taken.take(shown(segment))
    assert len(taken) == 0


@pytest.mark.usefixtures("nothing_is_left")
def test_a_thousand_segments_in_turn_leave_nothing():
    taken = Mappings(64 * MIB, 8)
    fullest = descriptors() + 3  # a segment's own, the one that is shown, and the one that lists them
    before = mappings()
    for number in range(1000):
        segment = Segment.create(mmap.PAGESIZE * (1 + number % 5))
        mapped = taken.take(shown(segment))
        view = mapped.view(0, 64, writable=True)
        view[0] = number % 256
        assert segment.view[0] == number % 256
        assert descriptors() <= fullest
    del view, mapped, segment
    settle()
    assert mappings() <= before + 8
    taken.close()


# --- who still looks --------------------------------------------------------------------------------------------------

VIEWS: dict[str, Callable[[memoryview], object]] = {
    "the view": lambda view: view,
    "a slice": lambda view: view[10:20],
    "an array": lambda view: np.frombuffer(view, np.float32),
    "an array of arrays": lambda view: np.ndarray((2, 3), "<f4", view, 64)[1:].T,
    "what is read of it": lambda view: iter(np.frombuffer(view, np.float32)),
    "a cast of a cast": lambda view: view.cast("d").cast("B")[8:],
    "another's pointer": lambda view: (ctypes.c_ubyte * 64).from_buffer(view),
}


@pytest.mark.parametrize("kind", VIEWS)
@pytest.mark.usefixtures("nothing_is_left")
def test_a_segment_is_in_use_while_a_view_of_it_lives(kind):
    segment, taken = Segment.create(MIB), Mappings(8 * MIB, 4)
    mapped = taken.take(shown(segment))
    assert not mapped.in_use
    kept = VIEWS[kind](mapped.view(0, 4096, writable=True))
    other = mapped.view(8192, 64)
    assert mapped.in_use
    del other
    assert mapped.in_use
    del kept
    assert not mapped.in_use


@pytest.mark.usefixtures("nothing_is_left")
def test_threads_may_share_what_was_shown():
    segments = [Segment.create(MIB) for _ in range(6)]
    taken = Mappings(64 * MIB, 3)
    wrong: list[object] = []

    def work(number: int) -> None:
        try:
            for turn in range(200):
                segment = segments[(number + turn) % 6]
                mapped = taken.take(shown(segment))
                view = mapped.view(64 * number, 64, writable=True)
                view[:] = bytes([number]) * 64
                assert bytes(segment.view[64 * number : 64 * number + 64]) == bytes([number]) * 64
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    mapped: list[Mapped] = [taken.take(shown(segment)) for segment in segments[:3]]
    assert not any(each.in_use for each in mapped)
    taken.close()


@pytest.mark.usefixtures("nothing_is_left")
def test_descriptors_that_nobody_wanted_are_closed():
    ours, theirs = socket.socketpair()
    segment = Segment.create(MIB)
    with ours, theirs:
        socket.send_fds(theirs, [b"."], [segment.fd] * 20)
        _, fds, _, _ = socket.recv_fds(ours, 1, 253)
        assert len(fds) == 20
        things: list[object] = list(fds)
        discard(things)
        assert things == []


def test_there_is_no_thread_while_there_is_nothing_to_close():
    discard([os.dup(0)])
    settle()
    ends = time.monotonic() + 60
    while any(thread.name == "graphpipe-discard" for thread in threading.enumerate()) and time.monotonic() < ends:
        time.sleep(0.001)
    assert not any(thread.name == "graphpipe-discard" for thread in threading.enumerate())
