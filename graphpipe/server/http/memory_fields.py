"""What heads say of memory that is passed beside the bytes (docs/wire.md, "Memory on the same host")."""

from __future__ import annotations

import re
from dataclasses import dataclass

from graphpipe.errors import InvalidRequest

__all__ = ["DESCRIPTORS_MAX", "KEPT", "MEMORY", "SWITCHING", "MemoryRefused", "Shown", "is_upgrade", "shown_in"]

MEMORY, KEPT = "GraphPipe-Memory", "GraphPipe-Memory-Kept"

# With one request.
DESCRIPTORS_MAX = 16
# Outputs and tensors start at multiples of it.
_ALIGNMENT = 64
_TENSORS_MAX = 256

_WORD = b"graphpipe-memory/1"

# The answer to who may pass memory from now on.
SWITCHING = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: " + _WORD + b"\r\n\r\n"

_FIELD = re.compile(rb"([A-Za-z0-9-]{1,64}):[ \t]*([\x20-\x7e]*?)[ \t]*\r\n")
# What whoever asks may say beside: nothing of it asks for more.
_HARMLESS = frozenset((b"host", b"user-agent", b"accept", b"authorization", b"x-request-id"))

_PLACE = re.compile(rb"(0|[1-9][0-9]?):(0|[1-9][0-9]{0,17})\+([1-9][0-9]{0,17})")
_TENSOR = re.compile(rb"(0|[1-9][0-9]{0,5})=" + _PLACE.pattern)

# A descriptor by its number, an offset, and a length.
Place = tuple[int, int, int]


class MemoryRefused(InvalidRequest):
    """The memory that a request shows cannot be taken. Nothing has run: its caller may send the bytes."""


@dataclass(frozen=True, slots=True)
class Shown:
    """What a request shows of its caller's memory: ``tensors`` by their number, and where ``answer`` may be written.

    ``descriptors`` of them come with it. ``size`` is how many bytes the tensors have, all together.
    """

    tensors: dict[int, Place]
    answer: Place | None
    descriptors: int
    size: int


def is_upgrade(head: bytes) -> bool:
    """Whether a head asks to pass memory, and for nothing else. It has no body then."""
    line = b"GET / HTTP/1.1\r\n"
    if not head.startswith(line) or _WORD not in head:
        return False
    fields: dict[bytes, bytes] = {}
    at, end = len(line), len(head) - 2
    while at < end:
        field = _FIELD.match(head, at)
        if field is None or (name := field[1].lower()) in fields:
            return False
        fields[name] = field[2]
        at = field.end()
    if fields.pop(b"upgrade", b"") != _WORD or fields.pop(b"connection", b"").lower() != b"upgrade":
        return False
    return b"host" in fields and fields.keys() <= _HARMLESS


def shown_in(memory: bytes | None, answer: bytes | None) -> Shown | None:
    """What the fields ``GraphPipe-Memory`` and ``GraphPipe-Memory-Answer`` say; None where there are none.

    Raises MemoryRefused for what they cannot say.
    """
    if memory is None and answer is None:
        return None
    tensors: dict[int, Place] = {}
    for entry in [] if memory is None else memory.split(b","):
        found = _TENSOR.fullmatch(entry.strip(b" \t"))
        if found is None:
            raise _wrong(MEMORY, memory or b"", "0=0:0+4096, 2=1:64+640")
        tensor, *place = map(int, found.groups())
        if tensor in tensors:
            raise MemoryRefused(f"{MEMORY} says twice where tensor {tensor} is")
        tensors[tensor] = _checked(MEMORY, place)
    if len(tensors) > _TENSORS_MAX:
        raise MemoryRefused(f"{MEMORY} has {len(tensors)} tensors; at most {_TENSORS_MAX} are taken")
    area = None
    if answer is not None:
        found = _PLACE.fullmatch(answer)
        if found is None:
            raise _wrong(f"{MEMORY}-Answer", answer, "0:4096+640")
        area = _checked(f"{MEMORY}-Answer", list(map(int, found.groups())))
    places = [*tensors.values(), *([] if area is None else [area])]
    size = sum(length for _, _, length in tensors.values())
    return Shown(tensors, area, 1 + max(number for number, _, _ in places), size)


def _checked(field: str, place: list[int]) -> Place:
    number, offset, length = place
    if number >= DESCRIPTORS_MAX:
        raise MemoryRefused(f"{field} names descriptor {number}; there are at most {DESCRIPTORS_MAX}, from 0 on")
    if offset % _ALIGNMENT:
        raise MemoryRefused(f"{field} has offset {offset}; a multiple of {_ALIGNMENT} is expected")
    return number, offset, length


def _wrong(field: str, value: bytes, form: str) -> MemoryRefused:
    return MemoryRefused(f"{field} is {value[:60].decode('latin-1')!r}; the form {form!r} is expected")
