"""Protobuf's wire format: the fields of a message as views of its bytes, and a message as segments.

A message is fields one after the other, each a key (a number, and in its last three bits the form of the value) and a
value. Who reads one walks through its fields and takes the keys that it knows; others are a later schema's, and are left
out. What has a length is a view of the message, however large, so that a tensor is never copied. What came twice is for
the reader to judge: the last one counts, or all of them do, or (of a message) both are parts of one.

Foreign bytes are read without trust: every length is held against what is left, and the fields of all messages of one
request together are counted, for two bytes make a field. Only MalformedMessage and TooLarge leave the reader.
"""

from __future__ import annotations

import struct
from collections.abc import Container, Iterable, Iterator, Sequence
from typing import Any

from graphpipe.errors import MalformedMessage, ServiceError, TooLarge
from graphpipe.wire import Segment

__all__ = [
    "FIXED32",
    "FIXED64",
    "JOINED_BYTES_MAX",
    "LENGTH",
    "VARINT",
    "Message",
    "Reader",
    "is_mostly",
    "key",
    "merged",
    "numbers",
    "part",
    "signed",
    "text",
    "varint",
]

# The forms that values have.
VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5
_SIZES = {FIXED64: 8, FIXED32: 4}
# Forms of the first version of the format.
_GROUPS = (3, 4)
# Numbers are of 64 bits at most, and of 7 bits a byte.
_VARINT_BYTES_MAX = 10
_KEY_BYTES_MAX = 5
# A length is a positive number of 32 bits, and so is a message's.
_LENGTH_MAX = 2**31 - 1
_U64 = 2**64 - 1
# Segments up to this size are joined: the kernel gathers a few large ones faster than many small ones.
JOINED_BYTES_MAX = 4096
_NAME_BYTES_MAX = 2**16
_PART_BYTES_MIN = 128
# What there may be beside one large field in a message that is short to read.
_BESIDE_BYTES, _BESIDE_FIELDS = 4096, 16


def key(number: int, form: int = LENGTH) -> int:
    """The key of a field by its number and the form of its value."""
    return number << 3 | form


class Reader:
    """The fields of one request's messages, of which there may be ``fields_max`` together."""

    __slots__ = ("_fields_max", "_tickets")

    def __init__(self, fields_max: int) -> None:
        self._fields_max = fields_max
        self._tickets = iter(range(fields_max))  # one for all messages, and for each its end

    def fields(self, *parts: memoryview) -> Iterator[tuple[int, Any]]:
        """Key and value of each field, in order: a varint as the number that it is, all else as a view of its bytes.

        A message may have come in ``parts``, of which each is one by itself. Raises MalformedMessage where it is none,
        TooLarge for too many fields.
        """
        for message in parts:
            at, end = 0, len(message)
            try:
                for _ in self._tickets:
                    if at >= end:
                        break
                    found = message[at]
                    at += 1
                    if found > 0x7F:
                        found, at = _long(message, at - 1, _KEY_BYTES_MAX)
                    if found < 8:
                        raise MalformedMessage(f"a field of the message has no number, before byte {at}")
                    form = found & 7
                    if form == LENGTH:
                        size = message[at]
                        at += 1
                        if size > 0x7F:
                            size, at = _long(message, at - 1, _KEY_BYTES_MAX)
                    elif form == VARINT:
                        value = message[at]
                        at += 1
                        if value > 0x7F:
                            value, at = _long(message, at - 1, _VARINT_BYTES_MAX)
                        yield found, value
                        continue
                    else:
                        size = _size_of(form, at)
                    start = at
                    at += size
                    if at > end:
                        raise MalformedMessage(
                            f"a field of the message claims {size} bytes, but only {end - start} are left"
                        )
                    yield found, message[start:at]
                else:
                    raise TooLarge(f"the message has more than {self._fields_max:,} fields; send fewer rows")
            except IndexError:
                raise MalformedMessage("the message ends in the middle of a field") from None


def _long(message: memoryview, at: int, bytes_max: int) -> tuple[int, int]:
    """A number of more than one byte, and where it ends. Raises IndexError where the message ends before."""
    value = shift = 0
    for place in range(at, at + bytes_max):
        octet = message[place]
        value |= (octet & 0x7F) << shift
        if octet < 0x80:
            if bytes_max == _KEY_BYTES_MAX and value > 2**32 - 1:
                break
            return value & _U64, place + 1
        shift += 7
    raise MalformedMessage(f"a number at byte {at} of a message has more than {bytes_max} bytes or does not fit")


def _size_of(form: int, at: int) -> int:
    size = _SIZES.get(form)
    if size is None:
        what = "is a group, which no message here has" if form in _GROUPS else f"has the unknown form {form}"
        raise MalformedMessage(f"the field before byte {at} of a message {what}")
    return size


def part(value: memoryview | int, form: int) -> Segment:
    """Numbers of a field that may have come in parts: packed ones, or one alone, which is packed here.

    Raises MalformedMessage where the packed ones are not whole.
    """
    if isinstance(value, int):
        return varint(value)
    if form == VARINT:
        is_whole = not value or value[-1] < 0x80
    else:
        is_whole = not len(value) % _SIZES[form]
    if not is_whole:
        raise MalformedMessage("packed numbers end in the middle of one")
    return value if len(value) > _PART_BYTES_MIN else bytes(value)  # many small ones take less memory than their views


def is_mostly(parts: Sequence[memoryview], keys: Container[int]) -> bool:
    """Whether one of these fields is nearly all of a message, which then is short to read, however large."""
    size = sum(map(len, parts))
    try:
        return any(
            found in keys and len(value) + _BESIDE_BYTES > size
            for found, value in Reader(_BESIDE_FIELDS).fields(*parts)
            if found & 7 == LENGTH
        )
    except ServiceError:
        return False  # it is told by whoever reads all of it


def merged(parts: Sequence[Segment]) -> memoryview:
    """Such parts as one. One part is not copied."""
    return memoryview(parts[0] if len(parts) == 1 else b"".join(parts))


def text(value: memoryview, what: str, bytes_max: int = _NAME_BYTES_MAX) -> str:
    """A field of text. ``what`` names it. Raises MalformedMessage for what is not UTF-8 or too long."""
    if len(value) > bytes_max:
        raise MalformedMessage(f"{what} has {len(value):,} bytes; at most {bytes_max:,} are taken")
    try:
        return str(value, "utf-8")
    except UnicodeDecodeError:
        raise MalformedMessage(f"{what} is not UTF-8") from None


def signed(value: int, bits: int = 64) -> int:
    """A varint as the signed number that it stands for; what is above ``bits`` is cut off, as the format has it."""
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> (bits - 1) else value


def numbers(packed: memoryview, most: int, what: str) -> list[int]:
    """A few signed numbers that came packed: ``most`` of them. Raises MalformedMessage."""
    if len(packed) > most * _VARINT_BYTES_MAX:
        raise MalformedMessage(f"{what} has more than {most} numbers")
    found: list[int] = packed.tolist()
    if max(found, default=0) < 0x80:  # nearly always
        return found
    found, at, end = [], 0, len(packed)
    try:
        while at < end:
            value, at = _long(packed, at, _VARINT_BYTES_MAX)
            found.append(signed(value))
    except IndexError:
        raise MalformedMessage(f"{what} ends in the middle of a number") from None
    return found


def varint(value: int) -> bytes:
    """A number as a varint; a negative one as its complement of 64 bits."""
    if 0 <= value < 0x80:
        return _ONE_BYTE[value]
    value &= _U64
    octets = bytearray()
    while value > 0x7F:
        octets.append(value & 0x7F | 0x80)
        value >>= 7
    octets.append(value)
    return bytes(octets)


_ONE_BYTE = [bytes((value,)) for value in range(0x80)]
_double = struct.Struct("<d").pack


class Message:
    """A message being written. ``size`` counts its bytes; fields stand in the order in which they were added.

    Values that the format's third version takes for granted (0, false, no text) are left out by ``number`` and ``text``,
    as its own writers do.
    """

    __slots__ = ("_parts", "size")

    def __init__(self) -> None:
        self._parts: list[Segment] = []
        self.size = 0

    def number(self, number: int, value: int, *, always: bool = False) -> Message:
        """A number, a truth or a place in an enumeration."""
        if value or always:
            self._add(varint(key(number, VARINT)) + varint(value))
        return self

    def double(self, number: int, value: float) -> Message:
        """A number of floating point, also where it is 0."""
        self._add(varint(key(number, FIXED64)) + _double(value))
        return self

    def text(self, number: int, value: str, *, always: bool = False) -> Message:
        """A text. What has no UTF-8 form is written with what it has in its place."""
        if value or always:
            octets = value.encode("utf-8", "replace")
            self._add(varint(key(number)) + varint(len(octets)) + octets)
        return self

    def texts(self, number: int, values: Iterable[str]) -> Message:
        """Several texts, empty ones too."""
        for value in values:
            self.text(number, value, always=True)
        return self

    def numbers(self, number: int, values: Sequence[int]) -> Message:
        """Several numbers, packed."""
        if values:
            self.octets(number, b"".join(map(varint, values)))
        return self

    def octets(self, number: int, value: Segment) -> Message:
        """Bytes, which are not copied where they are many."""
        size = len(value)
        head = varint(key(number)) + varint(size)
        if size <= JOINED_BYTES_MAX:
            self._add(head + value if type(value) is bytes else b"".join((head, value)))
        else:
            self._add(head)
            self._parts.append(value)
            self.size += size
        return self

    def message(self, number: int, value: Message) -> Message:
        """Another message, also where it is empty."""
        self._add(varint(key(number)) + varint(value.size))
        self._parts += value._parts
        self.size += value.size
        return self

    def head(self, number: int, size: int) -> Message:
        """What stands before so many bytes, which ``follow``: they are this message's last."""
        self._add(varint(key(number)) + varint(size))
        self.size += size
        return self

    def follow(self, octets: Segment) -> Message:
        """The bytes that a ``head`` stands before."""
        self._parts.append(octets)
        return self

    def written(self, octets: Segment) -> Message:
        """What is written already."""
        self._parts.append(octets)
        self.size += len(octets)
        return self

    def _add(self, octets: bytes) -> None:
        self._parts.append(octets)
        self.size += len(octets)

    def segments(self) -> list[Segment]:
        """All bytes, the small ones joined. Raises TooLarge for a message that the format cannot hold."""
        if self.size > _LENGTH_MAX:
            raise TooLarge(f"the answer has {self.size:,} bytes, and a message less than 2 GiB: ask for fewer rows")
        if self.size <= JOINED_BYTES_MAX:
            return [b"".join(self._parts)]
        found: list[Segment] = []
        small: list[Segment] = []
        for part in self._parts:
            if len(part) <= JOINED_BYTES_MAX:
                small.append(part)
                continue
            if small:
                found.append(b"".join(small))
                small = []
            found.append(part)
        if small or not found:
            found.append(b"".join(small))
        return found

    def map(self, number: int, name: str, value: Message) -> Message:
        """An entry of a map from text to messages."""
        return self.message(number, Message().text(1, name).message(2, value))
