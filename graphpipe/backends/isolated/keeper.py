"""The keeper of a model's processes: a thread that starts them, hears of their end, and starts others in their place.

One thread, from the first start to the last end: the kernel ends a child when the very thread that started it is gone.
Calls go past it. They take a free lane and give it back; they come to the keeper only with what went wrong: a lane whose
caller did not wait for the answer, a process that has gone astray.

A process that ends is replaced at once, and then, as long as no call succeeds, after longer and longer waits. One that
still owes an answer when the caller's deadline has passed is given as much time again as the slowest of the last good
answers took, then it counts as hung and is ended. To load may take much longer than to answer, so it has a bound of its own.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import selectors
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from time import monotonic

from graphpipe.backends.isolated.frames import Frame, Kind, TornFrame
from graphpipe.backends.isolated.hello import Loaded
from graphpipe.backends.isolated.process import Lane, Process
from graphpipe.errors import LoadError, ModelFailed, NotReady, Overloaded
from graphpipe.words import counted, first_line

__all__ = ["Keeper"]

log = logging.getLogger("graphpipe.model")

_BACK_OFF_S = (0.1, 30.0)
# To load takes seconds to minutes, whatever the calls take; who gives a call longer than this gives loading as long.
_LOAD_S = 600.0
_WHY_MAX = 4000
# A process that owes an answer is given at least so long; so long where none has answered yet.
_HUNG_S, _HUNG_AT_FIRST_S = 1.0, 10.0
_TIMES = 32
_MEMORY_LOOK_S = 0.5
# At the end calls may take so long to finish, and processes to end.
_FINISH_S, _END_S, _END_LOOK_S = 1.0, 2.0, 0.02


@dataclass(eq=False)
class _Place:
    """One of the N: who is there, how often that one and those before it have failed, and when the next one starts."""

    number: int
    process: Process | None = None
    failures: int = 0
    start_at: float | None = 0.0
    why: str = ""  # it could not be loaded


@dataclass(eq=False)
class _Owed:
    """A lane whose answer nobody waits for any more. ``held`` is memory that the call may still be looking at."""

    lane: Lane
    held: object
    began: float
    until: float


class Keeper:
    """N processes of one model. ``start`` makes one, which has so many seconds to load; ``lanes_of`` says how many lanes
    each is to have.
    """

    def __init__(
        self,
        name: str,
        count: int,
        start: Callable[[int, float], Process],
        lanes_of: Callable[[Loaded], int],
        timeout_s: float,
        memory_bytes: int = 0,
    ) -> None:
        self.name = name
        self.restarts = 0
        self._start = start
        self._lanes_of = lanes_of
        self._timeout_s = timeout_s
        self.load_timeout_s = max(_LOAD_S, timeout_s)
        self._memory_bytes = memory_bytes
        self._changed = threading.Condition()
        self._free: list[Lane] = []
        self._waiting = 0
        self._places = [_Place(number) for number in range(count)]
        self._loaded: Loaded | None = None
        self._is_closing = False
        self._is_over = False
        self._times: deque[float] = deque(maxlen=_TIMES)
        self._load_s = 0.0
        self._owed: list[_Owed] = []
        self._told: deque[Callable[[], None]] = deque()
        self._selector = selectors.DefaultSelector()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._waking = threading.RLock()  # a finalizer may come in between
        self._selector.register(self._wake, selectors.EVENT_READ, self._hear)
        self._end_at = 0.0
        self._memory_at = self._second_at = 0.0
        self._thread = threading.Thread(target=self._run, name=f"keeper of {name}", daemon=True)
        self._thread.start()

    # --- for callers, in any thread ---

    def wait_until_loaded(self) -> Loaded:
        """What the model says of itself, when all processes have loaded it. Raises LoadError if one cannot."""
        until = monotonic() + self.load_timeout_s
        with self._changed:
            while True:
                for place in self._places:
                    if place.why:
                        raise LoadError(place.why)
                if self._loaded is not None and all(each.process and each.process.is_up for each in self._places):
                    return self._loaded
                if self._is_over:
                    raise LoadError(f"{self.name}: its processes could not be started")
                if not self._changed.wait(max(0.0, until - monotonic())) and monotonic() >= until:
                    raise LoadError(f"{self.name}: it is not loaded after {self.load_timeout_s:g} s")

    def take(self, until: float) -> Lane:
        """A lane for one call, which is given back, owed or lost. Raises Overloaded or NotReady if there is none in time."""
        with self._changed:
            while True:
                if self._is_closing:
                    raise NotReady(f"model {self.name!r} is closed; graphpipe.load() loads another")
                if self._free:
                    lane = self._next_lane()
                    lane.process.busy += 1
                    return lane
                if all(place.why for place in self._places):
                    raise self._not_ready(self._places[0].why)
                left = until - monotonic()
                if left <= 0:
                    if any(place.process and place.process.is_up for place in self._places):
                        what = counted(len(self._places), "process").replace("processs", "processes")
                        raise Overloaded(f"the {what} of model {self.name!r} had other calls all the time; try again")
                    raise self._not_ready(f"the process of model {self.name!r} is being started anew")
                self._waiting += 1
                try:
                    self._changed.wait(left)
                finally:
                    self._waiting -= 1

    def _next_lane(self) -> Lane:
        free = self._free
        if len(self._places) == 1:
            return free.pop()
        best = min(range(len(free)), key=lambda i: free[i].process.busy)
        return free.pop(best)

    def _not_ready(self, why: str) -> NotReady:
        error = NotReady(why)
        starts = [place.start_at for place in self._places if place.start_at is not None]
        error.retry_after_s = max(0.1, min(starts, default=0.0) - monotonic()) if starts else 1.0
        return error

    def process_ids(self) -> list[int]:
        """The processes that have loaded the model, by their numbers."""
        with self._changed:
            return [place.process.pid for place in self._places if place.process is not None and place.process.is_up]

    def give(self, lane: Lane, took_s: float) -> None:
        """A call has its answer; the lane is free for the next one."""
        process = lane.process
        process.answered = True
        self._times.append(took_s)
        with self._changed:
            process.busy -= 1
            if process.over.is_set():
                lane.frames.close()
                return
            self._free.append(lane)
            if self._waiting:
                self._changed.notify()

    def owe(self, lane: Lane, held: object, began: float) -> None:
        """A caller waits no more: the answer will come, or the process counts as hung. Until then ``held`` is kept."""
        now = monotonic()
        slowest = max(self._times, default=_HUNG_AT_FIRST_S + self._load_s)
        until = now if now - began >= self._timeout_s else now + max(_HUNG_S, slowest)
        self._tell(partial(self._note_debt, _Owed(lane, held, began, until)))

    def lost(self, lane: Lane, why: str) -> ModelFailed:
        """The error of a call whose lane ended before its answer, with the end of the process in words."""
        process = lane.process
        if not process.over.wait(process.epitaph_s):
            self._tell(partial(process.kill, why))
            process.over.wait(process.epitaph_s)
        with self._changed:
            process.busy -= 1
            lane.frames.close()
        return ModelFailed(
            f"the process of model {self.name!r} {process.epitaph or why} while it worked on this; it is started anew"
        )

    def stop(self) -> None:
        """Begin the end. Waits for nothing: it may be called out of anything, a finalizer say, and more than once."""
        self._is_closing = True
        self._ring()

    def close(self) -> None:
        """Let calls finish, for a moment, and end the processes."""
        self.stop()
        self._thread.join(_FINISH_S + _END_S + 5)

    def _tell(self, what: Callable[[], None]) -> None:
        self._told.append(what)
        self._ring()
        if self._is_over:  # nobody else will
            self._hear_what_was_told()

    def _ring(self) -> None:
        """Wake the keeper's thread, if there is one: its descriptor's number may be another's by now."""
        # One that was forked off in between would wait for ever.
        if self._waking.acquire(timeout=1):
            try:
                if self._wake >= 0:
                    os.eventfd_write(self._wake, 1)
            finally:
                self._waking.release()

    # --- the keeper's own thread ---

    def _run(self) -> None:
        try:
            self._guarded(self._look)
            while not self._is_over:
                for key, _ in self._selector.select(self._pause_s()):
                    self._guarded(key.data)
                self._guarded(self._look)
        finally:
            self._is_over = True
            with self._changed:
                self._changed.notify_all()
            for place in self._places:
                if place.process is not None:
                    place.process.kill("was ended with its keeper")
            self._selector.close()
            with self._waking:
                wake, self._wake = self._wake, -1
                os.close(wake)
            self._hear_what_was_told()

    def _guarded(self, what: Callable[[], None]) -> None:
        try:
            what()
        except Exception:
            log.exception("the keeper of model %r failed", self.name)

    def _hear(self) -> None:
        with contextlib.suppress(OSError):
            os.eventfd_read(self._wake)
        self._hear_what_was_told()

    def _hear_what_was_told(self) -> None:
        with contextlib.suppress(IndexError):  # at the end of it all others may take from it too
            while True:
                self._guarded(self._told.popleft())

    def _pause_s(self) -> float | None:
        """How long nothing is to be done but to wait."""
        if self._is_closing:
            return _END_LOOK_S
        times = [owed.until for owed in self._owed]
        for place in self._places:
            if place.process is None:
                times += [] if place.start_at is None else [place.start_at]
            elif not place.process.is_up:
                times.append(place.process.load_until)
        times += [self._memory_at] if self._memory_bytes else []
        times += [self._second_at] if self._second_at else []
        return max(0.0, min(times) - monotonic()) if times else None

    def _look(self) -> None:
        """Do what is due."""
        now = monotonic()
        if self._is_closing:
            self._go_on_ending(now)
            return
        for place in self._places:
            if place.process is None and place.start_at is not None and place.start_at <= now:
                self._begin(place)
        for process in [place.process for place in self._places if place.process is not None]:
            if not process.is_up and now >= process.load_until:
                process.kill(f"was ended: it {process.why_late}")
        for owed in self._owed:
            if owed.until <= now:
                owed.until = now + _END_S
                owed.lane.process.kill(f"was ended: it hung for {now - owed.began:.3g} s")
        if self._memory_bytes and now >= self._memory_at:
            self._memory_at = now + _MEMORY_LOOK_S
            self._look_at_memory()
        if self._second_at and now >= self._second_at:
            self._second_at = 0.0
            for place in self._places:
                if place.process is not None:
                    place.process.output.next_second()

    def _look_at_memory(self) -> None:
        for place in self._places:
            if place.process is not None and (held := place.process.private_bytes()) > self._memory_bytes:
                place.process.kill(
                    f"was ended: it held {held:,} bytes, and may hold {self._memory_bytes:,} (--isolate-memory-bytes)"
                )

    def _begin(self, place: _Place) -> None:
        place.start_at = None
        try:
            process = self._start(place.number, self.load_timeout_s)
        except Exception as error:  # no more processes, descriptors, memory; the interpreter is gone
            self._failed(place, f"{self.name}: its process cannot be started: {error}")
            return
        place.process = process
        register = partial(self._selector.register, events=selectors.EVENT_READ)
        register(process.pidfd, data=partial(self._ended, place, process))
        register(process.control.socket, data=partial(self._heard, place, process))
        register(process.output.descriptor, data=partial(self._printed, process))

    def _failed(self, place: _Place, why: str) -> None:
        """There is nobody at a place, and it is not the first time."""
        with self._changed:
            place.why = why
            self._wait_longer(place)
            self._changed.notify_all()

    def _wait_longer(self, place: _Place) -> None:
        first, most = _BACK_OFF_S
        pause = 0.0 if place.failures == 0 else min(most, first * 2 ** min(place.failures - 1, 30))
        place.start_at = monotonic() + pause
        place.failures += 1

    def _printed(self, process: Process) -> None:
        if not process.over.is_set() and not process.output.read():
            self._forget(process.output.descriptor)
        if not self._second_at:
            self._second_at = monotonic() + 1

    def _heard(self, place: _Place, process: Process) -> None:
        if process.over.is_set():
            return
        try:
            frame = process.control.step()
            if frame is None:
                return
            self._learn(place, process, frame)
        except BlockingIOError:
            return
        except (TornFrame, OSError):
            # It ends, or has closed what it does not know. Without it, it can never say that it has loaded.
            self._forget(process.control.socket)
            process.load_until = monotonic() + process.epitaph_s
            process.why_late = "closed its connection"
        except Exception as error:
            process.kill(f"was ended: what it says of itself is not understood: {first_line(error)[:_WHY_MAX]}")

    def _learn(self, place: _Place, process: Process, frame: Frame) -> None:
        if frame.kind == Kind.FAILED:
            with self._changed:
                place.why = str(json.loads(frame.notes)["message"])[:_WHY_MAX]
                self._changed.notify_all()
            return
        if frame.kind != Kind.LOADED or process.is_up:
            raise ValueError(f"a frame of kind {frame.kind}")
        loaded = Loaded.from_bytes(frame.notes)
        first = self._loaded
        if first is not None and (first.signature, first.version) != (loaded.signature, loaded.version):
            place.why = f"{self.name}: the model has changed since it was loaded; load it anew"
            process.kill("was ended: its model is another one than before")
            return
        try:
            process.open_lanes(self._lanes_of(loaded))
        except OSError as error:  # no more descriptors; or it has ended, and that is what will be said
            process.kill(f"was ended: it could not be given its connections: {error}")
            return
        self._load_s = max(self._load_s, monotonic() - process.began)
        with self._changed:
            self._loaded = first or loaded
            process.is_up = True
            place.why = ""
            self._free += process.lanes
            self._changed.notify_all()

    def _ended(self, place: _Place, process: Process) -> None:
        """A process has ended: by itself, or since it was told to."""
        for each in (process.pidfd, process.control.socket, process.output.descriptor):
            self._forget(each)
        was_up = process.is_up
        last = process.output
        process.bury()
        with self._changed:
            free = [lane for lane in self._free if lane.process is process]
            self._free = [lane for lane in self._free if lane.process is not process]
            for lane in free if was_up else process.lanes:
                lane.frames.close()
            for owed in [each for each in self._owed if each.lane.process is process]:
                self._settle(owed)
                process.busy -= 1
                owed.lane.frames.close()
            place.process = None
            if self._is_closing:
                return
            if was_up:
                self.restarts += 1
                if process.answered:
                    place.failures = 0
            elif not place.why:
                place.why = f"{self.name}: its process {process.epitaph} while it loaded the model"
                if lines := last.last_lines():
                    place.why += f"; its last words: {lines[-1]}"
            self._wait_longer(place)
            self._changed.notify_all()
        if was_up:
            log.warning("the process %d of model %r %s", process.pid, self.name, process.epitaph)

    def _note_debt(self, owed: _Owed) -> None:
        process = owed.lane.process
        if process.over.is_set():
            with self._changed:
                process.busy -= 1
            owed.lane.frames.close()
            return
        self._owed.append(owed)
        owed.lane.frames.socket.setblocking(False)
        owed.lane.timeout_s = None
        self._selector.register(owed.lane.frames.socket, selectors.EVENT_READ, partial(self._paid, owed))

    def _paid(self, owed: _Owed) -> None:
        """Something of an answer has come that nobody waits for."""
        if owed not in self._owed:
            return
        lane = owed.lane
        try:
            frame = lane.frames.step()
            if frame is None:
                return
            if frame.number != lane.number:
                raise TornFrame("an answer to another call came")
            if frame.kind == Kind.ROOM:
                lane.frames.send(Kind.END, number=lane.number)  # it needs none for an answer that nobody waits for
                return
        except BlockingIOError:
            return
        except (TornFrame, OSError) as error:
            self._forget(lane.frames.socket)
            if lane.is_cut:
                self._replace(owed)
            else:
                lane.process.kill(f"closed its connection ({error})")
            return
        self._settle(owed)
        self.give(lane, monotonic() - owed.began)

    def _replace(self, owed: _Owed) -> None:
        """A lane that was cut has ended on the other side too: another one takes its place."""
        lane, process = owed.lane, owed.lane.process
        self._settle(owed)
        lane.frames.close()
        process.lanes.remove(lane)
        before = len(process.lanes)
        try:
            process.open_lanes(before + 1)
        except OSError as error:
            process.kill(f"was ended: it could not be given another connection: {error}")
        with self._changed:
            process.busy -= 1
            self._free += process.lanes[before:]
            self._changed.notify()

    def _settle(self, owed: _Owed) -> None:
        self._owed.remove(owed)
        self._forget(owed.lane.frames.socket)
        owed.held = None

    def _forget(self, what: object) -> None:
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(what)  # type: ignore[arg-type]

    def _go_on_ending(self, now: float) -> None:
        """The end, step by step: calls finish, processes are told to end, and ended."""
        if not self._end_at:
            self._end_at = now + _FINISH_S
            with self._changed:
                self._changed.notify_all()
        processes = [place.process for place in self._places if place.process is not None]
        for process in processes:
            if not process.is_up:
                process.kill("was ended before it had loaded")
            elif not process.is_ending and (process.busy == 0 or now >= self._end_at):
                process.tell_to_end()
            if now >= self._end_at + _END_S:
                process.kill("was ended: it did not end itself")
        self._is_over = not processes
