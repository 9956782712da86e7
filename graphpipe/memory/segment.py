"""A piece of memory behind a descriptor: who is given the descriptor sees the same bytes.

It has no name, so nothing is left when the processes that hold it are gone, however they end; and it is sealed: nobody
can make it shorter, which would kill whoever looks at what was cut off, or longer.

Making one costs much more than using one again: its pages are touched for the first time. So pools keep them.
"""

from __future__ import annotations

import ctypes
import functools
import mmap
import os
import sys
import threading
import weakref
from bisect import bisect_right
from typing import Any

__all__ = ["GROW", "SHRINK", "Segment", "available", "device", "make_private", "map_shared", "seals_of", "segment_at"]

# Written here, since an interpreter that was built on an old system does not know them, wherever it runs.
_MFD_CLOEXEC, _MFD_ALLOW_SEALING = 1, 2
_F_ADD_SEALS, _F_GET_SEALS = 1033, 1034
_SEAL, SHRINK, GROW = 1, 2, 4
_MAP_SHARED, _MAP_PRIVATE, _MAP_FIXED = 1, 2, 16
_MREMAP_MAYMOVE, _MREMAP_FIXED = 1, 2
_MAP_FAILED = ctypes.c_void_p(-1).value


class Segment:
    """``size`` bytes of memory that can be shown to other processes: by ``fd``, which lives as long as this object.

    ``memory`` and ``view``, both writable, live as long as anybody looks at them; ``address`` is their first byte's.
    ``key`` tells segments apart, in every process that sees them: device and inode. One that is ``spent`` is not used again
    for something else: a process that we know nothing of may look at it.
    """

    __slots__ = ("__weakref__", "address", "fd", "key", "memory", "size", "spent", "view")

    def __init__(self, fd: int, size: int, memory: mmap.mmap) -> None:
        self.fd = fd
        self.size = size
        self.memory = memory
        self.view = memoryview(memory)
        self.address = _address_of(memory)
        status = os.fstat(fd)
        self.key = status.st_dev, status.st_ino
        self.spent = False
        weakref.finalize(self, os.close, fd).atexit = False
        _enter(self)

    @classmethod
    def create(cls, size: int) -> Segment:
        """A fresh segment of ``size`` bytes, all 0, which is sealed and mapped.

        Raises OSError where the system has none to give: no descriptor, no memory, or no such thing (``available``).
        """
        import fcntl  # which not every system has

        fd = _memfd()
        try:
            os.ftruncate(fd, size)
            # The last of the seals: nobody may add one that keeps others from writing.
            fcntl.fcntl(fd, _F_ADD_SEALS, _SEAL | SHRINK | GROW)
            memory = map_shared(fd, size)
        except BaseException:
            os.close(fd)
            raise
        return cls(fd, size, memory)


def available() -> bool:
    """Whether this system has such memory: Linux has."""
    return device() is not None


def device() -> int | None:
    """The device that all memory of this kind is on, and nothing else; None where there is none to be had."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        return _device()
    except (OSError, AttributeError):  # no descriptor is left at the moment, or the system is too old
        return None


@functools.cache
def _device() -> int:
    fd = _memfd()
    try:
        return os.fstat(fd).st_dev
    finally:
        os.close(fd)


def map_shared(fd: int, size: int) -> mmap.mmap:
    """The first ``size`` bytes behind a descriptor, to read and to write. The descriptor is not needed any more.

    Raises OSError where they cannot be mapped.
    """
    # mmap would keep a descriptor of its own for as long as the memory is mapped. So it only gets the addresses, which it
    # gives back when nobody looks at them any more, and what lies there is put in its place.
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    address = _address_of(memory)
    flags = _MAP_SHARED | _MAP_FIXED
    if _libc().mmap(address, size, mmap.PROT_READ | mmap.PROT_WRITE, flags, fd, 0) != address:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return memory


def make_private(memory: mmap.mmap, size: int) -> None:
    """Put a copy of a mapping in its place, in one step: who looks at it sees the same bytes, and those of others no more.

    Raises OSError where there is no memory for it; then nothing has changed.
    """
    libc, target = _libc(), _address_of(memory)
    # Not an mmap of Python's: its addresses are given away here, and it would unmap whoever has them later.
    copy = libc.mmap(None, size, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, 0)
    if copy == _MAP_FAILED:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    ctypes.memmove(copy, target, size)
    if libc.mremap(copy, size, size, _MREMAP_MAYMOVE | _MREMAP_FIXED, target) != target:
        number = ctypes.get_errno()
        libc.munmap(copy, size)
        raise OSError(number, os.strerror(number))


def seals_of(fd: int) -> int:
    """The seals of a descriptor's memory.

    Raises OSError for what is none, and asks nobody about it: no file system, however strange, can make us wait.
    """
    import fcntl

    return fcntl.fcntl(fd, _F_GET_SEALS)


def segment_at(address: int) -> Segment | None:
    """The segment of this process that has this address."""
    starts, segments = _known
    at = bisect_right(starts, address) - 1
    if at < 0:
        return None
    segment = segments[at]()
    return segment if segment is not None and address < segment.address + segment.size else None


# All segments, by address. Always replaced, never changed, so that who looks needs no lock. One that is gone stays until the
# next one comes: a finalizer may run inside anything, and could wait for no lock.
_known: tuple[list[int], list[weakref.ref[Segment]]] = ([], [])
_entering = threading.Lock()


def _enter(segment: Segment) -> None:
    global _known
    _watch_forks()
    with _entering:
        # A segment's addresses are used again only after it is gone.
        alive = [each for ref in _known[1] if (each := ref()) is not None]
        alive.append(segment)
        alive.sort(key=lambda each: each.address)
        _known = [each.address for each in alive], [weakref.ref(each) for each in alive]


@functools.cache
def _watch_forks() -> None:
    os.register_at_fork(before=_before_fork, after_in_child=_after_fork)


def _before_fork() -> None:
    """The child will look at what is looked at here, so nothing else may come there."""
    for ref in _known[1]:
        if (segment := ref()) is not None:
            segment.spent = True


def _after_fork() -> None:
    """In the child: what it writes to memory that was its parent's does not show there, as with any other memory. So it is
    not what the descriptor shows any more.
    """
    global _known, _entering
    (_, refs), _known, _entering = _known, ([], []), threading.Lock()
    flags = _MAP_PRIVATE | _MAP_FIXED
    for ref in refs:
        if (segment := ref()) is not None:
            _libc().mmap(segment.address, segment.size, mmap.PROT_READ | mmap.PROT_WRITE, flags, segment.fd, 0)


def _address_of(memory: mmap.mmap) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(memory))


def _memfd() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("graphpipe", _MFD_CLOEXEC | _MFD_ALLOW_SEALING)
    fd: int = _libc().memfd_create(b"graphpipe", _MFD_CLOEXEC | _MFD_ALLOW_SEALING)
    if fd < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return fd


@functools.cache
def _libc() -> Any:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = (
        ctypes.c_void_p,
        ctypes.c_size_t,
        ctypes.c_int,
        ctypes.c_int,
        ctypes.c_int,
        ctypes.c_long,
    )
    libc.mremap.restype = ctypes.c_void_p
    libc.mremap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t, ctypes.c_int, ctypes.c_void_p)
    libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
    return libc
