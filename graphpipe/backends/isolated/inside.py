"""Inside the process of an isolated model: load it, say what it is, answer one call after another on each lane.

Nothing that a model raises ends this process, ``sys.exit`` included; what ends it is told to the callers by the keeper,
on the other side. The main thread waits for the word that it is over; where the other side goes without a word, this
process goes at once, with whatever it has started.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from time import monotonic
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from graphpipe.backends.failure import in_words, refusal
from graphpipe.backends.isolated.failures import failure_to_bytes, refusal_to_bytes
from graphpipe.backends.isolated.frames import AREA, INLINE_MAX, Frame, Frames, Kind, Piece, TornFrame
from graphpipe.backends.isolated.hello import Loaded, Order
from graphpipe.backends.isolated.limits import limit
from graphpipe.backends.isolated.notes import notes_to_bytes
from graphpipe.backends.isolated.shown import Shown
from graphpipe.backends.model import Model, named_arrays, timed
from graphpipe.backends.owned import read_only, refuse_to_write
from graphpipe.errors import LoadError, ServiceError, let_go
from graphpipe.memory.mappings import Mapped
from graphpipe.wire.dtypes import Type, type_of
from graphpipe.wire.messages import InferRequest, decode_request, encode_infer_response
from graphpipe.wire.writer import ALIGNMENT

__all__ = ["serve"]

# The sockets of lanes that are open. One that the model forks off has no part in them.
_open: set[socket.socket] = set()

Array = NDArray[Any]


def serve(control_fd: int) -> None:
    """Load what is asked for over this socket, and answer until told to end."""
    faulthandler.enable()  # where it was when it died goes to the log
    # However the other side, or one of its threads, treats signals: here they do what they do everywhere.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    control = Frames(socket.socket(fileno=control_fd), takes_descriptors=True)
    os.set_inheritable(control_fd, False)
    try:
        model = _load(control)
        if model is None:
            return
        _follow(control, model)
    except (TornFrame, OSError):
        _leave()


def _leave() -> None:
    """The other side is gone: end with all that was started from here."""
    with contextlib.suppress(OSError):
        if os.getpgid(0) == os.getpid():
            os.killpg(0, signal.SIGKILL)
    os._exit(1)


def _load(control: Frames) -> Model | None:
    order = Order.from_bytes(control.receive().notes)
    limit(order.memory_bytes, order.cpus)
    with contextlib.suppress(OSError):
        os.chdir(order.folder)
    if order.whole_path:
        sys.path[:] = order.path
    else:
        sys.path += [each for each in order.path if each not in sys.path]
    from graphpipe.backends.find import opened  # frameworks come with it, under the limits

    options = replace(order.options, isolate=0, python="", isolate_container="", model_sha256="")
    try:
        model, kind = opened(order.source, options, order.backend)
        loaded = _loaded(model, kind.backend, sorted(kind.uses))
    except LoadError as error:
        control.send(Kind.FAILED, notes=json.dumps({"message": str(error)}).encode())
        return None
    except BaseException as error:
        control.send(Kind.FAILED, notes=json.dumps({"message": f"{order.source}: {in_words(error)}"}).encode())
        return None
    control.send(Kind.LOADED, notes=loaded.to_bytes())
    return model


def _loaded(model: Model, backend: str, uses: Sequence[str]) -> Loaded:
    def text(name: str) -> str:
        return str(getattr(model, name, "") or "")

    return Loaded(
        model.signature, backend, uses, text("version"), text("runtime"), text("kind"), text("description"),
        text("signature_name"), text("method_name"), int(getattr(model, "threads", 0) or 0),
        callable(getattr(model, "self_test", None)),
    )  # fmt: skip


def _follow(control: Frames, model: Model) -> None:
    """Begin the lanes that come, until told to end; then close the model."""
    shown = Shown()
    os.register_at_fork(after_in_child=_close_lanes)
    while True:
        frame = control.receive()
        if frame.kind == Kind.END:
            model.close()
            return
        for descriptor in frame.descriptors:
            lane = Lane(socket.socket(fileno=descriptor), model, shown)
            threading.Thread(target=lane.work, name="lane", daemon=True).start()


def _close_lanes() -> None:
    for lane in _open:
        lane.close()


class Lane:
    """Answers one call after another. ``shown`` is the memory that the other side has shown, to all lanes."""

    def __init__(self, lane: socket.socket, model: Model, shown: Shown) -> None:
        self._frames = Frames(lane, takes_descriptors=True)
        self._model = model
        self._infer = timed(model)
        self._shown = shown

    def work(self) -> None:
        """Answer until the other side closes the lane."""
        frames = self._frames
        _open.add(frames.socket)
        with contextlib.suppress(TornFrame, OSError):
            while True:
                self._answer(frames.receive())
        _open.discard(frames.socket)
        frames.close()

    def _answer(self, frame: Frame) -> None:
        looked_at: list[Mapped] = []
        answer = self._answer_to(frame, looked_at)
        if looked_at:
            # What is in the message may be a part of an input: a copy of it looks at none.
            answer = answer._replace(segments=[b"".join(answer.segments)])
            self._shown.let_go(looked_at)
        self._frames.send(answer.kind, answer.segments, number=frame.number, pieces=answer.pieces, notes=answer.notes)

    def _answer_to(self, frame: Frame, looked_at: list[Mapped]) -> Answer:
        began = monotonic() if frame.timeout_ms else 0.0
        try:
            if frame.kind == Kind.TEST:
                self._model.self_test()  # type: ignore[attr-defined]
                return Answer(Kind.TESTED)
            elsewhere, area = None, None
            if frame.descriptors:
                elsewhere, area = self._shown.look(frame, looked_at)
            request = decode_request(frame.message, elsewhere=elsewhere)
            assert isinstance(request, InferRequest)
            left_s = None
            if frame.timeout_ms:
                left_s = max(0.0, frame.timeout_ms / 1000 - (monotonic() - began))
            outputs = self._run(request, left_s)
            asked = request.head.output_names
            return _answered(outputs, asked, area, partial(self._more_room, looked_at, frame.number))
        except TornFrame:
            raise
        except BaseException as error:
            # No signal is delivered in this thread: whatever it is, it is the model's.
            answer = _refused(error)
            let_go(error)
            return answer

    def _more_room(self, looked_at: list[Mapped], number: int, need: int) -> memoryview | None:
        """Memory for so many bytes of an answer, from the other side; None if it has none. Raises TornFrame or OSError."""
        self._frames.send(Kind.ROOM, number=number, pieces=[Piece(AREA, 0, 0, need)])
        frame = self._frames.receive()
        if frame.kind == Kind.END:
            raise TimeoutError("nobody waits for this answer any more")
        if frame.kind != Kind.AREA:
            raise TornFrame(f"a frame of kind {frame.kind} came in place of memory")
        if not frame.descriptors:
            return None
        more: list[Mapped] = []
        try:
            return self._shown.look(frame, more)[1]
        finally:
            looked_at += more

    def _run(self, request: InferRequest, left_s: float | None) -> dict[str, Array]:
        head = request.head
        arrays = request.inputs
        for place in head.bools:
            arrays[place] = arrays[place].view(np.bool_)
        inputs = read_only(dict(zip(head.input_names, arrays)))  # noqa: B905 - as many as were sent, on the other side
        try:
            asked = list(head.output_names)
            return named_arrays(self._infer(inputs, asked or None, head.config, left_s), asked)
        except ValueError as error:
            refuse_to_write(error)
            raise


class Answer(NamedTuple):
    """A frame on its way back."""

    kind: int
    segments: Sequence[bytes | memoryview] = ()
    pieces: Sequence[Piece] = ()
    notes: bytes = b""


def _refused(error: BaseException) -> Answer:
    said = refusal(error)
    if said is None:
        return Answer(Kind.FAILED, notes=failure_to_bytes(error, __file__))
    return Answer(Kind.REFUSED, notes=refusal_to_bytes(said))


def _answered(
    outputs: dict[str, Array],
    asked: Sequence[str],
    area: memoryview | None,
    more_room: Callable[[int], memoryview | None],
) -> Answer:
    """An answer with these, the large ones written to memory of the other side: the area that came with the call if they
    fit, else one that is asked for.

    Raises ValueError where one does not travel: that is no fault of the caller's.
    """
    notes = _notes(outputs, asked)
    arrays = [outputs[name] for name in asked or outputs]
    places: dict[int, int] = {}
    end = 0
    for i, array in enumerate(arrays):
        if array.nbytes >= INLINE_MAX and type_of(array.dtype) not in (Type.NULL, Type.STRING):
            places[i] = end
            end = -(-(end + array.nbytes) // ALIGNMENT) * ALIGNMENT
    if end and (area is None or end > len(area)):
        area = more_room(end)
    pieces = []
    if end and area is not None:
        for i, place in places.items():
            array = arrays[i]
            written: Array = np.ndarray(array.shape, array.dtype.newbyteorder("<"), area, place)
            np.copyto(written, array)
            arrays[i] = written
            pieces.append(Piece(i, 0, place, array.nbytes))
    elsewhere = frozenset(places) if pieces else frozenset()
    try:
        return Answer(Kind.ANSWER, encode_infer_response(arrays, elsewhere=elsewhere), pieces, notes)
    except ServiceError as error:
        raise ValueError(f"the model gave an answer that cannot travel: {error.message}") from None


def _notes(outputs: Mapping[str, Array], asked: Sequence[str]) -> bytes:
    """What an answer has no place for: names that nobody asked for, and which outputs are bool."""
    names = () if asked else tuple(outputs)
    bools = tuple([place for place, name in enumerate(asked or outputs) if outputs[name].dtype.char == "?"])
    return notes_to_bytes(names, bools) if names or bools else b""
