"""Mutants of Python's reader that no vector can tell from the reader, each with the reason.

Most are the same reader in other words. A few change what no vector can hold, or a limit that is not the wire's but
this package's own; the reason names the test that notices those.
"""

from __future__ import annotations

__all__ = ["EQUIVALENT"]

_TWO_GIB = "a vector of 2 GiB is none: tests/wire/test_hostile_bytes.py reads a message of 2,147,483,648 bytes"
_EIGHT = (
    "no message of 8 bytes or fewer is one. Its root offset leaves room for a table at byte 4 at most, or at 0, which is"
    " the offset itself: 0, so that the table is its own vtable, of 0 bytes. The table at 4 would have its vtable at 0, 2"
    " or 4 (6 is too late). At 0 its size is 4, but that of the table is the offset's upper half, 0; at 2 its size is that"
    " half; at 4 it is 0, being the distance of a table from itself. All are refused for their size"
)
_OWN_STRINGS = (
    "the wire's limit is checked one line before, and a reader that was told no lower one has the same: no vector has a"
    " limit of a server's own. tests/operation/test_limits.py and test_many_strings.py have"
)
_ELSEWHERE = (
    "no vector has the bytes of a tensor elsewhere: that is said beside a message. tests/wire/test_elsewhere.py has such"
    " messages, whole and damaged"
)
_HOLD = "it is about who is told of strings, when: of no vector, and what is read is the same"
_BYTES = "a memoryview of bytes reads as the bytes do; asking for the type saves the making of one"

EQUIVALENT: dict[str, str] = {
    "reader.root: without 'if self.size >= BYTES_MAX'": _TWO_GIB,
    "reader.root: 'self.size >= BYTES_MAX' as 'self.size > BYTES_MAX'": _TWO_GIB,
    "reader.root: 'self.size < 8' as 'self.size <= 8'": _EIGHT,
    "reader.root: 'self.size < 8' as 'self.size < 9'": _EIGHT,
    "reader.root: 'self.size < 8' as 'self.size < 7'": _EIGHT,
    "reader.table: 'present < slot_count' as 'present <= slot_count'": (
        "where both are the same, it adds no zeros to the list"
    ),
    "reader.table: 'vtable < 0' as 'vtable < -1'": "a vtable at -1 is odd, and refused for that in the same line",
    "reader.table: 'vtable_size < 4' as 'vtable_size < 3'": "a size of 3 is odd, and refused for that in the same line",
    "reader._text_at: without 'if length > bytes_max'": (
        "the limit of a name's bytes is this package's own, not the wire's, and the sum of all text is checked before."
        " tests/wire/test_hostile_bytes.py sends a name that is one byte too long"
    ),
    "reader.string_place: without 'if self._strings > self._strings_max'": _OWN_STRINGS,
    "reader.string_place: 'self._strings > self._strings_max' as 'self._strings >= self._strings_max'": (
        "both limits are 2^24 here, so it takes a message of 2^24 strings: valid/16-mi-strings is one. It takes a gigabyte,"
        " so it is not read by every mutant, but run.py reads it"
    ),
    "reader.string_place: 'self._strings > STRINGS_MAX' as 'self._strings >= STRINGS_MAX'": (
        "it takes a message of 2^24 strings: valid/16-mi-strings is one. It takes a gigabyte, so it is not read by"
        " every mutant, but run.py reads it"
    ),
    "reader._run_of_strings: 'last - first <= _DENSE_BYTES * len(starts)' as 'last - first < _DENSE_BYTES * len(starts)'": (
        "both ways of cutting a run of strings give the same strings; one is quicker where they lie close together"
    ),
    "reader.strings: 'self._hold is not None and ahead' without 'ahead'": _HOLD,
    "reader.strings: 'place.number > _STRINGS_AT_ONCE' as 'place.number >= _STRINGS_AT_ONCE'": _HOLD,
    "messages.decode_request: 'type(buffer) is bytes' as 'type(buffer) is not bytes'": _BYTES,
    "messages.decode_infer_response: 'type(buffer) is bytes' as 'type(buffer) is not bytes'": _BYTES,
    "messages.decode_request: 'arrays is not None' as 'arrays is None'": _ELSEWHERE,
    "messages.decode_request: 'elsewhere is None' as 'elsewhere is not None' (2)": _ELSEWHERE,
    "messages.decode_infer_response: 'arrays is not None' as 'arrays is None'": _ELSEWHERE,
    "messages.decode_infer_response: 'elsewhere is None' as 'elsewhere is not None' (2)": _ELSEWHERE,
    "messages._read_tensors: 'i in elsewhere' as 'i not in elsewhere'": _ELSEWHERE,
    "messages._read_tensor: without 'if is_elsewhere'": _ELSEWHERE,
    "messages._read_tensor: without 'if length' (2)": _ELSEWHERE,
    "messages._read_tensor: 'strings_at and reader.tables(strings_at, end, ENTRIES_MAX, 'string_val')'"
    " without 'strings_at'": ("an absent field has no entries: reader.tables gives an empty list for it"),
}
