"""A model whose calls run in other processes."""

from __future__ import annotations

import os
import sys
import weakref
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from time import monotonic
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphpipe.backends.isolated.failures import failure_from_bytes, refusal_from_bytes
from graphpipe.backends.isolated.frames import Frame, Kind, TornFrame
from graphpipe.backends.isolated.hello import Loaded, Order
from graphpipe.backends.isolated.interpreter import command_of, environment_of, interpreter, path_for, working_folder
from graphpipe.backends.isolated.keeper import Keeper
from graphpipe.backends.isolated.limits import thread_variables
from graphpipe.backends.isolated.notes import notes_from_bytes
from graphpipe.backends.isolated.process import Lane, Process
from graphpipe.backends.isolated.sharing import Sharing, Told
from graphpipe.backends.options import LoadOptions
from graphpipe.errors import DeadlineExceeded, LoadError, ModelFailed
from graphpipe.machine import usable_cpus
from graphpipe.signature import Signature
from graphpipe.words import first_line

__all__ = ["IsolatedModel"]

Array = NDArray[Any]

_LANES_MAX = 64
# Three years; the system's clocks take no more than some thousand times as much.
_TIMEOUT_S_MAX = 1e8
_TIMEOUT_MS_MAX = 2**32 - 1
# A call that nobody has read goes to so many processes, one after the other.
_TRIES = 4


class IsolatedModel:
    """A model in processes of its own. Safe in threads.

    ``source`` is something on this machine, or what needs nothing of it: it is fetched already. Raises LoadError with the
    child's own words where it cannot be loaded there.
    """

    # Every answer is in memory of its own.
    shares_memory = False
    # A call never takes longer than it is told.
    keeps_deadlines = True
    # It takes inputs where they are, if they are in segments.
    shares_segments = True

    def __init__(self, source: str, options: LoadOptions, backend: str = "", name: str = "") -> None:
        if not sys.platform.startswith("linux"):
            raise LoadError(f"{source}: models are isolated on Linux alone")
        self._name = name or source
        self._pid = os.getpid()
        self._timeout_s = min(options.isolate_timeout_s, _TIMEOUT_S_MAX)
        count = options.isolate or 1
        start = _in_container if options.isolate_container else _beside
        start_one = start(source, options, backend, self._name)
        keeper = Keeper(
            self._name, count, start_one, partial(_lanes, count), self._timeout_s, options.isolate_memory_bytes
        )
        self._keeper = keeper
        # Nobody may remember to close it.
        self._finalizer = weakref.finalize(self, keeper.stop)
        try:
            loaded = keeper.wait_until_loaded()
        except BaseException:
            self._finalizer.detach()
            keeper.close()
            raise
        self.loaded = loaded
        self.signature: Signature = loaded.signature
        self.version = loaded.version
        self.description = loaded.description
        self.runtime = loaded.runtime
        self.kind = loaded.kind
        if loaded.signature_name:
            self.signature_name = loaded.signature_name
        if loaded.method_name:
            self.method_name = loaded.method_name
        self.threads = count * _lanes(count, loaded)
        self._sharing = Sharing()

    def infer(
        self,
        inputs: Mapping[str, Array],
        outputs: Sequence[str] | None = None,
        *,
        config: str = "",
        timeout_s: float | None = None,
    ) -> dict[str, Array]:
        """Have one of the processes run it."""
        if os.getpid() != self._pid:
            raise ModelFailed(f"model {self._name!r} was loaded in another process; load it anew in this one")
        began = monotonic()
        limit_s = self._timeout_s if timeout_s is None else min(timeout_s, self._timeout_s)
        if limit_s <= 0:
            raise DeadlineExceeded(f"the caller's deadline passed before model {self._name!r} was asked")
        asked = tuple(outputs or ())
        told = self._sharing.tell(inputs, asked, config)
        until = began + limit_s
        frame = None
        for left in reversed(range(_TRIES)):
            lane = self._keeper.take(until)
            frame = self._ask(lane, told, began, until, timeout_s is not None, may_come_again=left > 0)
            if frame is not None:
                break
        assert frame is not None
        return self._read(told, frame, asked)

    def _ask(
        self,
        lane: Lane,
        told: Told,
        began: float,
        until: float,
        is_told: bool,
        *,
        may_come_again: bool,
        kind: int = Kind.CALL,
    ) -> Frame | None:
        """The answer. None, if it ``may_come_again``, where the process ended before it had read the call."""
        left = until - monotonic()
        is_sent = is_begun = False
        lane.number = number = (lane.number + 1) & 255
        try:
            lane.set_timeout(max(left, 0.001) if is_told else self._timeout_s)
            lane.frames.send(
                kind,
                told.segments,
                number=number,
                timeout_ms=max(1, min(int(left * 1000), _TIMEOUT_MS_MAX)) if is_told else 0,
                pieces=told.pieces,
                descriptors=told.descriptors,
            )
            is_sent = True
            frame = lane.frames.step()
            while frame is None or frame.kind == Kind.ROOM:
                if frame is not None:
                    if is_begun or frame.number != number:
                        raise TornFrame("memory was asked for twice, or for another call")
                    is_begun = True
                    pieces, descriptors = self._sharing.more_room(told, frame)
                    lane.frames.send(Kind.AREA, number=number, pieces=pieces, descriptors=descriptors)
                lane.set_timeout(max(until - monotonic(), 0.001))
                frame = lane.frames.step()
            if frame.number != number:
                raise TornFrame("an answer to another call came")
        except (BlockingIOError, TimeoutError):
            if not is_sent:
                lane.cut()
            self._keeper.owe(lane, told, began)
            raise DeadlineExceeded(
                f"model {self._name!r} gave no answer in {until - began:.3g} s"
                + ("" if is_told else " (--isolate-timeout-s)")
            ) from None
        except (TornFrame, OSError) as error:
            failed = self._keeper.lost(lane, f"closed its connection ({error}) and was ended")
            # The kernel says so of what was sent and not read. It had ended already, and nobody had noticed yet.
            if may_come_again and not is_begun and isinstance(error, BrokenPipeError | ConnectionResetError):
                return None
            try:
                raise failed from None
            finally:
                del failed  # it remembers this frame
        except BaseException:  # somebody's Ctrl-C
            if not is_sent:
                lane.cut()
            self._keeper.owe(lane, told, began)
            raise
        self._keeper.give(lane, monotonic() - began)
        return frame

    def _read(self, told: Told, frame: Frame, asked: tuple[str, ...]) -> dict[str, Array]:
        try:
            said = self._said(told, frame, asked)
        except Exception as error:  # whatever a process that has gone astray can make of an answer
            raise ModelFailed(
                f"the process of model {self._name!r} gave what is no answer: {type(error).__name__}: {first_line(error)}"
            ) from None
        if isinstance(said, dict):
            return said
        try:
            raise said
        finally:
            del said  # it remembers this frame

    def _said(self, told: Told, frame: Frame, asked: tuple[str, ...]) -> dict[str, Array] | Exception:
        """The outputs of an answer, or the error that it tells of. Raises anything for what is no answer."""
        if frame.kind == Kind.TESTED:
            return {}
        if frame.kind == Kind.ANSWER:
            arrays = self._sharing.read(told, frame)
            names: Sequence[str] = asked
            if frame.notes:
                unasked, bools = notes_from_bytes(frame.notes)
                names = unasked or asked
                for place in bools:
                    arrays[place] = arrays[place].view(np.bool_)
            return dict(zip(names, arrays, strict=True))
        if frame.kind == Kind.FAILED:
            return failure_from_bytes(frame.notes)
        if frame.kind != Kind.REFUSED:
            raise TornFrame(f"a frame of kind {frame.kind}")
        return refusal_from_bytes(frame.notes)

    def self_test(self) -> None:
        """Have the model run the test that it brings along, in one of its processes; nothing where it brings none.

        It may take as long as to load. Raises what the test raises.
        """
        if not self.loaded.tests:
            return
        began = monotonic()
        until = began + self._keeper.load_timeout_s
        told = Told(())
        frame = None
        while frame is None:
            lane = self._keeper.take(until)
            frame = self._ask(lane, told, began, until, True, may_come_again=True, kind=Kind.TEST)
        self._read(told, frame, ())

    def empty(self, shape: Sequence[int], dtype: np.dtype[Any]) -> Array:
        """An array of no particular content that reaches the processes without a copy."""
        return self._sharing.empty(shape, dtype)

    def process_ids(self) -> list[int]:
        """The processes that are up at this moment, by their numbers."""
        return self._keeper.process_ids()

    def numbers(self) -> dict[str, float]:
        """How it is now, as metrics."""
        keeper = self._keeper
        return {
            "graphpipe_isolated_restarts": float(keeper.restarts),
            "graphpipe_isolated_processes": float(len(keeper.process_ids())),
        }

    def close(self) -> None:
        """Let calls finish for a moment, and end the processes."""
        self._finalizer.detach()
        self._keeper.close()


def _beside(source: str, options: LoadOptions, backend: str, name: str) -> Callable[[int, float], Process]:
    """What starts a process under an interpreter of this machine, by its number."""
    python = interpreter(options.python, source)
    path, is_whole = path_for(python)
    folder = working_folder()  # where it is now, whatever this program does later
    variables = environment_of(python, thread_variables(options.isolate_cpus))

    def start(number: int, load_timeout_s: float) -> Process:
        cpus = _cpus_of(number, options.isolate_cpus)
        order = Order(source, backend, options, path, is_whole, folder, options.isolate_memory_bytes, cpus)
        return Process(number, command_of(python), order, variables, name, load_timeout_s)

    return start


def _in_container(source: str, options: LoadOptions, backend: str, name: str) -> Callable[[int, float], Process]:
    """What starts a container with a process, by its number."""
    from graphpipe.backends.isolated.contained import Contained  # nearly nobody's
    from graphpipe.backends.isolated.container import Container

    container = Container.of(source, options)

    def start(number: int, load_timeout_s: float) -> Process:
        cpus = _cpus_of(number, options.isolate_cpus)
        order = Order(
            container.source, backend, container.options, container.path, False, "", options.isolate_memory_bytes, cpus
        )
        return Contained(number, container, order, name, load_timeout_s)

    return start


def _lanes(count: int, loaded: Loaded) -> int:
    """How many calls one of so many processes takes at once: one of Python's own code, which would only take turns."""
    if loaded.threads:
        return min(_LANES_MAX, loaded.threads)
    return 1 if loaded.backend == "python" else max(1, usable_cpus() // count)


def _cpus_of(number: int, count: int) -> tuple[int, ...]:
    """The CPUs of one of the processes: each has others, as long as there are any."""
    if not count:
        return ()
    ours = sorted(os.sched_getaffinity(0))
    count = min(count, len(ours))
    return tuple(sorted(ours[(number * count + i) % len(ours)] for i in range(count)))
