"""What heads say of memory is read exactly, or refused in words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphpipe.server.http.memory_fields import MemoryRefused, Shown, is_upgrade, shown_in
from tests.front.servers import UPGRADE

LENGTHS = st.integers(1, 10**18 - 1)
PLACES = st.tuples(st.integers(0, 15), st.integers(0, 10**16).map(lambda n: n * 64), LENGTHS)


@given(st.dictionaries(st.integers(0, 999_999), PLACES, min_size=1, max_size=20), st.none() | PLACES)
def test_what_can_be_said_is_read(
    tensors: dict[int, tuple[int, int, int]], answer: tuple[int, int, int] | None
) -> None:
    memory = ", ".join(f"{i}={number}:{at}+{length}" for i, (number, at, length) in tensors.items()).encode()
    area = None if answer is None else "{}:{}+{}".format(*answer).encode()
    named = [number for number, _, _ in (*tensors.values(), *([answer] if answer else []))]
    size = sum(length for _, _, length in tensors.values())
    assert shown_in(memory, area) == Shown(tensors, answer, max(named) + 1, size)


@given(st.none() | st.binary(max_size=60), st.none() | st.text("0123456789:+=, -", max_size=40).map(str.encode))
def test_whatever_comes_is_read_or_refused(memory: bytes | None, answer: bytes | None) -> None:
    try:
        shown = shown_in(memory, answer)
    except MemoryRefused as error:
        assert error.message
    else:
        assert (shown is None) == (memory is None and answer is None)


@pytest.mark.parametrize(
    "memory", ["0=0:0+1,", ",", "0=0:0+1 0=0:64+1", "0=0:0+\u0661", "0 = 0:0+1", "+0=0:0+1", "0=0:0+1e3"]
)
def test_nothing_is_read_that_is_nearly_right(memory: str) -> None:
    with pytest.raises(MemoryRefused, match="the form|says twice"):
        shown_in(memory.encode(), None)


@given(st.integers(0, len(UPGRADE) - 1), st.binary(min_size=1, max_size=1))
def test_a_question_to_upgrade_is_exactly_that(at: int, byte: bytes) -> None:
    changed = UPGRADE[:at] + byte + UPGRADE[at + 1 :]
    if is_upgrade(changed):  # letters of a name in another case, another host
        lines = changed.lower().split(b"\r\n")
        assert lines[0] == b"get / http/1.1"
        assert lines[1].startswith(b"host:")
        assert lines[2].replace(b"\t", b" ") == b"connection: upgrade"
        assert lines[3].replace(b"\t", b" ") == b"upgrade: graphpipe-memory/1"
