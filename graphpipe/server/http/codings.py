"""Content codings (RFC 9110, 8.4): a compressed body is undone step by step, so that it is refused before it is large.

No sockets, no threads, and no memory beyond a step and what came last. A body that says it is compressed can be a bomb: a
few KB that become GB. What it becomes is limited in bytes, like any body, and in proportion to what came; what stands
between two codings in a row is limited like the body itself, and so are codings that give nothing, such as members of gzip
without content. The limits are looked at where so much has been given, and not where packets end: the same bytes have the
same fate however they come.
"""

from __future__ import annotations

import re
import zlib
from typing import Any, Protocol

from graphpipe.errors import MalformedMessage, TooLarge, Unsupported
from graphpipe.words import visible

__all__ = ["FREE_BYTES", "STATE_BYTES", "STEP_BYTES", "Deflating", "Inflating", "NotTaken", "codings_of", "takes_gzip"]

# So much is given at once.
STEP_BYTES = 256 * 1024
# What zlib keeps for one coding: its window, and its tables.
STATE_BYTES = 64 * 1024

_NAMES = {"gzip": "gzip", "x-gzip": "gzip", "deflate": "deflate"}
_CODINGS_MAX = 2
# So much of a body is given before anybody asks what came for it: a batch of images that are black has a thousandth of its
# size in gzip, and nobody means harm by it. What stands between two codings has no such excuse.
FREE_BYTES = 8 << 20
_FREE_BETWEEN_BYTES = 1 << 20
# What cannot be compressed grows: by a few bytes for every 16 KiB, and by a header with names in it.
_OVERHEAD_BYTES = 64 * 1024
_OVERHEAD_PART = 1024
# Members of gzip may be so many, and one more for so much content: each costs what a hundred bytes of content do.
_MEMBERS_MAX = 16
_MEMBER_BYTES = 4096

_GZIP, _ZLIB, _RAW = 31, 15, -15  # zlib's window bits

_ITEM = re.compile(r"([A-Za-z0-9*!#$%&'+.^_`|~-]+)[ \t]*(?:;[ \t]*[qQ]=([0-9.]+))?")


class NotTaken(Unsupported):
    """A coding of the body that is not undone here; ``taken`` says which are."""

    def __init__(self, message: str, taken: str = "gzip, deflate") -> None:
        super().__init__(message, 415)
        self.taken = taken


def codings_of(values: list[str]) -> tuple[str, ...]:
    """The codings of a body, in the order they were applied, from its ``Content-Encoding`` fields. Empty for a plain one.

    Raises NotTaken where one of them is not undone here.
    """
    said = ",".join(values)
    words = [word for item in said.split(",") if (word := item.strip(" \t").lower()) not in ("", "identity")]
    if len(words) > _CODINGS_MAX or not all(word in _NAMES for word in words):
        raise NotTaken(
            f"the body is compressed (Content-Encoding: {visible(said[:40])}); gzip and deflate are undone here, at most "
            f"{_CODINGS_MAX} in a row; send it in one of these, or the message plain, without Content-Encoding"
        )
    return tuple(_NAMES[word] for word in words)


def takes_gzip(accept_encoding: str) -> bool:
    """Whether a caller who sends this ``Accept-Encoding`` reads gzip: it, or everything, is named, and not with q=0."""
    weights: dict[str, bool] = {}
    for item in accept_encoding.lower().split(","):
        match = _ITEM.fullmatch(item.strip(" \t"))
        if match is not None:
            weights[match[1]] = match[2] is None or bool(match[2].strip("0."))
    return weights.get("gzip", weights.get("x-gzip", weights.get("*", False)))


class Inflating:
    """One compressed body on its way in: ``feed`` it what has come, then take each ``step`` until one is empty.

    At most ``bytes_max`` are given, and beyond ``free_bytes`` at most ``ratio_max`` times what came. Raises TooLarge, and
    MalformedMessage for what is not in these codings, ends before its end, or goes on behind it. Whoever got an error from
    it is done with it.
    """

    def __init__(self, codings: tuple[str, ...], bytes_max: int, ratio_max: int, free_bytes: int = FREE_BYTES) -> None:
        self._bytes_max = bytes_max
        # Of what is compressed, as it came or in between.
        self._compressed_max = bytes_max + bytes_max // _OVERHEAD_PART + _OVERHEAD_BYTES
        self._ratio_max = ratio_max
        self._free_bytes = free_bytes
        self._came = 0
        # The one that was applied last is undone first.
        self._streams = [_Gzip() if coding == "gzip" else _Deflate() for coding in reversed(codings)]
        self.state_bytes = STATE_BYTES * len(self._streams)

    def check(self, size: int) -> None:
        """Raise TooLarge if a body of so many compressed bytes is over the limit, whatever it becomes."""
        if size > self._compressed_max:
            raise TooLarge(
                f"the body has {size} bytes as it came, compressed; inflated, at most {self._bytes_max} are taken "
                "(--body-bytes-max)"
            )

    def feed(self, data: bytes) -> None:
        """So much more has come. To be called when the last step was empty."""
        self._came += len(data)
        self.check(self._came)
        self._streams[0].feed(data)

    def step(self) -> bytes:
        """The next bytes of the body, at most ``STEP_BYTES``; none where all that came is undone."""
        return self._pull(len(self._streams) - 1)

    def end(self) -> None:
        """Nothing more comes."""
        for stream in self._streams:
            if not stream.is_whole:
                raise MalformedMessage(
                    f"the body, in {stream.name} as Content-Encoding says, breaks off: {self._came} bytes came"
                )
            self._check_ratio(stream)

    def _pull(self, number: int) -> bytes:
        stream = self._streams[number]
        bytes_max = self._bytes_max if stream is self._streams[-1] else self._compressed_max
        while True:
            # To the next place where the ratio is looked at, or a byte over the limit.
            if data := stream.take(min(STEP_BYTES - stream.given % STEP_BYTES, bytes_max + 1 - stream.given)):
                if stream.given > bytes_max:
                    raise TooLarge(
                        f"the body inflates to more than the {self._bytes_max} bytes that are taken (--body-bytes-max)"
                    )
                if stream.given % STEP_BYTES == 0:
                    self._check_ratio(stream)
                return data
            if number == 0 or not (more := self._pull(number - 1)):
                return b""
            stream.feed(more)

    def _check_ratio(self, stream: _Stream) -> None:
        undone = self._came - len(self._streams[0].rest)
        free = self._free_bytes if stream is self._streams[-1] else _FREE_BETWEEN_BYTES
        if stream.given > max(free, self._ratio_max * undone):
            raise TooLarge(
                f"{undone} bytes of the body inflate to {stream.given}, more than {self._ratio_max} times as many "
                "(--inflate-ratio-max)"
            )


class _Stream(Protocol):
    """One coding. ``given`` bytes have come out of it, ``rest`` has not gone in yet."""

    name: str
    given: int
    rest: bytes

    @property
    def is_whole(self) -> bool:
        """Whether it may end here."""
        ...

    def feed(self, data: bytes) -> None:
        """So much more goes in."""
        ...

    def take(self, most: int) -> bytes:
        """What comes out next, at most so much; nothing where more has to go in first."""
        ...


class _Zlib:
    """What both codings have in common: zlib, and where it ends."""

    name: str

    def __init__(self) -> None:
        self.given = 0
        self.rest = b""
        self._inflate: Any = None
        self._more = False  # zlib may have more to give without more to read
        self._ended = 0

    @property
    def is_whole(self) -> bool:
        return self._ended > 0 and self._inflate is None and not self.rest

    def feed(self, data: bytes) -> None:
        self.rest = self.rest + data if self.rest else data

    def take(self, most: int) -> bytes:
        while self.rest or self._more:
            if self._inflate is None:
                bits = self._begin(self.rest)
                if not bits:
                    return b""
                self._inflate = zlib.decompressobj(bits)
            try:
                data: bytes = self._inflate.decompress(self.rest, most)
            except zlib.error as error:
                why = str(error).rpartition(": ")[2]
                raise MalformedMessage(f"the body is not in {self.name}, as Content-Encoding says: {why}") from None
            self.given += len(data)
            if self._inflate.eof:
                self.rest = self._inflate.unused_data
                self._inflate, self._more = None, False
                self._ended += 1
            else:
                self.rest = self._inflate.unconsumed_tail
                self._more = len(data) == most
            if data:
                return data
        return b""

    def _begin(self, data: bytes) -> int:
        """Window bits for what begins with ``data``; 0 if that is too little to say."""
        raise NotImplementedError

    def _goes_on(self) -> MalformedMessage:
        return MalformedMessage(f"the body, in {self.name} as Content-Encoding says, goes on behind its end")


class _Gzip(_Zlib):
    """gzip: a member, or several in a row."""

    name = "gzip"

    def _begin(self, data: bytes) -> int:
        if self._ended and data[:2] not in (b"\x1f", b"\x1f\x8b"):
            raise self._goes_on()
        if self._ended > _MEMBERS_MAX + self.given // _MEMBER_BYTES:
            raise MalformedMessage("the body, in gzip as Content-Encoding says, has more members than content")
        return _GZIP


class _Deflate(_Zlib):
    """deflate: with zlib's frame, as HTTP has it, or without, as some send it."""

    name = "deflate"

    def _begin(self, data: bytes) -> int:
        if self._ended:
            raise self._goes_on()
        if len(data) < 2:
            return 0
        # No compressor begins without a frame like this: it would be a block as it is, with bits set that mean nothing.
        is_framed = data[0] & 0x8F == 0x08 and int.from_bytes(data[:2], "big") % 31 == 0
        return _ZLIB if is_framed else _RAW


class Deflating:
    """One answer on its way to gzip, a piece after the other."""

    def __init__(self) -> None:
        # The fastest: numbers get an eighth smaller by zlib's usual one at best, and take up to ten times as long.
        self._deflate = zlib.compressobj(1, zlib.DEFLATED, _GZIP)

    def step(self, data: memoryview) -> bytes:
        """What is to be sent so far of another piece."""
        return self._deflate.compress(data)

    def end(self) -> bytes:
        """The rest."""
        return self._deflate.flush()
