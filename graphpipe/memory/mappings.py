"""Descriptors that another process has sent, mapped if they are what they should be, and kept for the next time.

What comes may be anything that has a descriptor. Of memory that could be cut short under us, a look would end this
process; of a file, a look could wait for a disk or a stranger's program. So nothing is looked at before it is known to be
memory, sealed against both. A segment is recognised by its inode when it is shown again, and costs no mapping then.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import threading
import weakref
from collections import OrderedDict

from graphpipe.memory.discard import discard
from graphpipe.memory.segment import GROW, SHRINK, device, make_private, map_shared, seals_of

__all__ = ["Mapped", "Mappings", "Refused"]


class Refused(Exception):
    """What came is not mapped. The words are for whoever sent it."""


class Mapped:
    """Another process's segment, as long as anybody looks at it. ``key`` is its device and inode, ``size`` counts bytes."""

    __slots__ = ("_live", "_memory", "key", "size")

    def __init__(self, memory: mmap.mmap, key: tuple[int, int], size: int) -> None:
        self._memory = memory
        self.key = key
        self.size = size
        # What finalizers do must need no lock: they run inside anything.
        self._live: set[object] = set()

    def view(self, offset: int, length: int, writable: bool = False) -> memoryview:
        """``length`` bytes from ``offset``. What the other process does to them shows.

        Raises Refused where they are not all inside.
        """
        if offset < 0 or length < 0 or offset + length > self.size:
            raise Refused(f"bytes {offset} to {offset + length} were named of a segment of {self.size} bytes")
        if not length:
            return memoryview(bytearray()) if writable else memoryview(b"")
        # Whoever looks at these bytes, by whatever way, holds this array (buffers.py says why).
        array = (ctypes.c_ubyte * length).from_buffer(self._memory, offset)
        token = object()
        self._live.add(token)
        weakref.finalize(array, self._live.discard, token).atexit = False
        view = memoryview(array).cast("B")
        return view if writable else view.toreadonly()

    @property
    def in_use(self) -> bool:
        """Whether anybody still looks at a view of it."""
        return bool(self._live)


class Mappings:
    """Segments that one peer has shown, at most ``count_max`` of them with ``bytes_max`` bytes together.

    Who was not shown for longest goes first, and is unmapped when nobody looks at it any more. Safe in threads.
    """

    def __init__(self, bytes_max: int, count_max: int) -> None:
        self.bytes_max = bytes_max
        self.count_max = count_max
        self._bytes = 0
        self._mapped: OrderedDict[tuple[int, int], Mapped] = OrderedDict()
        self._lock = threading.Lock()
        self._is_closed = False

    def __len__(self) -> int:
        return len(self._mapped)

    @property
    def size(self) -> int:
        """How many bytes they have together."""
        return self._bytes

    def forget_oldest(self) -> None:
        """Let go of the segment that was not shown for longest, if there is one."""
        with self._lock:
            gone = self._let_go(1)
        discard(gone)

    def take(self, fd: int) -> Mapped:
        """The segment behind a descriptor that was received, which is closed in every case.

        Raises Refused for what is no sealed memory, is too large, or cannot be mapped.
        """
        try:
            mapped = self._take(fd)
        except BaseException:
            discard([fd])
            raise
        os.close(fd)  # what is mapped does not end with it, so this takes no time
        return mapped

    def _take(self, fd: int) -> Mapped:
        try:
            seals = seals_of(fd)  # before anything else: it makes nobody wait
        except OSError:
            raise Refused("a descriptor is of something that is no memory; a memfd is expected") from None
        status = os.fstat(fd)
        # Huge pages can run out under whoever touches them, which ends him, and files of a tmpfs have a name.
        if status.st_dev != device():
            raise Refused("a descriptor is of a file or of huge pages; a memfd of ordinary pages is expected")
        if seals & (SHRINK | GROW) != SHRINK | GROW:
            raise Refused("a memfd is not sealed against becoming shorter and longer (F_SEAL_SHRINK, F_SEAL_GROW)")
        key, size = (status.st_dev, status.st_ino), status.st_size
        if not 0 < size <= self.bytes_max:
            raise Refused(f"a memfd has {size} bytes; 1 to {self.bytes_max} are taken")
        with self._lock:
            if self._is_closed:
                raise Refused("nothing is taken any more")
            known = self._mapped.get(key)
            if known is not None:
                self._mapped.move_to_end(key)
                return known
            try:
                memory = map_shared(fd, size)
            except (OSError, ValueError, OverflowError) as error:  # perhaps it was opened to be read only
                raise Refused(f"a memfd of {size} bytes cannot be mapped: {error}") from None
            mapped = self._mapped[key] = Mapped(memory, key, size)
            self._bytes += size
            gone = self._let_go()
        discard(gone)
        return mapped

    def _let_go(self, count: int = 0) -> list[object]:
        """Those that were not shown for longest: so many, and what is over the limits."""
        gone: list[object] = []
        while self._mapped and (
            len(gone) < count or len(self._mapped) > self.count_max or self._bytes > self.bytes_max
        ):
            _, oldest = self._mapped.popitem(last=False)
            self._bytes -= oldest.size
            gone.append(oldest)
        return gone

    def part(self, mapped: Mapped) -> None:
        """What is looked at of a segment becomes this process's own memory, with the bytes that it has now and at the same
        address; when the segment is shown again, it is mapped again. For who is about to let others write to it.

        Raises OSError where there is no memory for it.
        """
        make_private(mapped._memory, mapped.size)
        with self._lock:
            if self._mapped.get(mapped.key) is mapped:
                del self._mapped[mapped.key]
                self._bytes -= mapped.size

    def close(self) -> None:
        """Let go of everything. What somebody looks at stays mapped until he does not."""
        with self._lock:
            self._is_closed = True
            gone: list[object] = list(self._mapped.values())
            self._mapped.clear()
            self._bytes = 0
        discard(gone)
