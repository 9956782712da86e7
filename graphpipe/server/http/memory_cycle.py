"""Requests that show memory instead of sending bytes, on a connection by which descriptors come."""

from __future__ import annotations

from graphpipe.errors import ServiceError, let_go
from graphpipe.memory.discard import discard
from graphpipe.memory.mappings import Mappings
from graphpipe.server.exchange import Exchange
from graphpipe.server.http.cycle import Carrier, Cycle
from graphpipe.server.http.line import Line
from graphpipe.server.http.memory import Beside, Sharing, is_same_user
from graphpipe.server.http.memory_fields import MemoryRefused, Shown
from graphpipe.server.http.passing import PassingTransport
from graphpipe.server.http.request import Request
from graphpipe.server.http.shared import Shared
from graphpipe.server.protocols.protocol import OCTETS, Fields
from graphpipe.wire import Segment

__all__ = ["MemoryCycle"]


class MemoryCycle(Cycle):
    """As any, with what the caller of the request that is under way shows beside its body."""

    __slots__ = ("_beside", "_is_foreign", "_mappings", "_sharing", "_transport")

    def __init__(
        self, carrier: Carrier, line: Line, shared: Shared, exchange: Exchange, transport: PassingTransport, to: Sharing
    ) -> None:
        super().__init__(carrier, line, shared, exchange)
        self._transport = transport
        self._sharing = to
        self._mappings: Mappings | None = None
        self._beside: Beside | None = None
        self._is_foreign = not is_same_user(transport.get_extra_info("socket"))

    def leave(self) -> None:
        super().leave()
        self._transport.keep_none()
        self._let_go()
        if self._mappings is not None:
            self._sharing.leave(self._mappings)
            self._mappings = None

    def _take_beside(self, request: Request, shown: Shown) -> None:
        descriptors, are_all = self._transport.take_descriptors()
        if request.target.beside is None or not are_all or len(descriptors) != shown.descriptors:
            discard([*descriptors])
            if request.target.beside is None:
                raise MemoryRefused("memory is taken with GraphPipe's own messages alone; send the bytes")
            came = f"{len(descriptors)} came" if are_all else "some of those that came were lost"
            raise MemoryRefused(f"the head names {shown.descriptors} descriptors, and {came}")
        if self._mappings is None:
            self._mappings = self._sharing.open()
        admission = self._shared.admission
        self._beside = Beside(shown, descriptors, self._sharing, self._mappings, admission, is_foreign=self._is_foreign)

    def _receive(self) -> None:
        body = self.body
        assert body is not None
        if body.beside and self._beside is not None:
            self._shared.admission.came(body, body.beside)
            body.beside = 0
            self._beside.hold()
        super()._receive()

    def answer(self, request: Request, body: memoryview | bytes) -> None:
        if self._beside is not None:
            target = request.target.given(self._beside)
            request = Request(request.head, target, request.small, request.length, request.size)
        elif self._transport.has_descriptors:  # which nothing in its head asks for
            self._transport.drop_descriptors()
        super().answer(request, body)

    def _finish(self, segments: list[Segment], rows: int, fields: Fields = (), written: int = 0) -> None:
        if self._beside is not None:
            written, kept = self._let_go()
            fields = (*(fields or OCTETS), *kept) if kept else fields
        super()._finish(segments, rows, fields, written)

    def _refuse(self, error: ServiceError, *, more_to_come: bool = False, rest: int = 0, fields: Fields = ()) -> None:
        if self._beside is not None:
            let_go(error)  # the frames that it came through look at the memory
            _, fields = self._let_go()
        elif self._transport.has_descriptors:
            self._transport.drop_descriptors()
        super()._refuse(error, more_to_come=more_to_come, rest=rest, fields=fields)

    def _let_go(self) -> tuple[int, Fields]:
        if self._beside is None:
            return 0, ()
        beside, self._beside = self._beside, None
        return beside.release()
