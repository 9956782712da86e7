"""JSON: its limits, and what is said where its library is not installed."""

from __future__ import annotations

import asyncio
import json
import threading
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from graphpipe.errors import InvalidRequest, MalformedMessage, TooLarge
from graphpipe.server.protocols.jsons import aside, numbers, read, write
from graphpipe.server.protocols.lists import array_of, flattened
from graphpipe.server.taskless import Taskless
from tests.front.servers import Way
from tests.open_inference.oracle import Tensor, answered, post, request
from tests.raw_http import call
from tests.serving import run_to_end, serving

WITHOUT = (
    "import sys; sys.modules['orjson'] = None; from graphpipe.server.cli import main; main(prog_name='graphpipe-serve')"
)
VALUES_MAX = 1 << 22


def test_a_document_that_is_too_long_or_has_too_many_values_is_refused_before_it_is_read() -> None:
    with pytest.raises(TooLarge, match="at most 67,108,864 are taken"):
        read(bytes((64 << 20) + 1))
    for each in (b"0,", b"[],", b"{},", b'"",'):
        with pytest.raises(TooLarge, match="at most 4,194,304 are taken"):
            read(b"[" + each * VALUES_MAX + b"0]")
    # Whatever is in it, broken or not.
    with pytest.raises(TooLarge):
        read(b"[" * (9 << 20))


def test_a_document_of_as_many_values_as_may_be_is_read() -> None:
    assert len(read(b"[" + b"0," * (VALUES_MAX - 4) + b"0]")) == VALUES_MAX - 3


@pytest.mark.parametrize(("each", "weight"), [(b"[],", 4), (b"[0],", 4), (b"{},", 9), (b'{"a":0},', 9), (b"[{}],", 12)])
def test_lists_and_objects_count_for_what_they_take_also_where_the_document_is_short(each: bytes, weight: int) -> None:
    most = (VALUES_MAX - 4) // weight
    assert len(read(b"[" + each * most + b"0]")) == most + 1
    with pytest.raises(TooLarge, match="at most 4,194,304 are taken"):
        read(b"[" + each * (most + 1) + b"0]")


def test_a_long_vector_is_written_like_a_short_one(ways: dict[str, Way]) -> None:
    tensor = Tensor("x", "INT8", (150_000,), tuple(i % 100 for i in range(150_000)))
    assert answered(post(ways, "hot", "/v2/models/echo/infer", request([tensor])[0]))[1] == [tensor]
    for size in (0, 1, 1 << 16, (1 << 16) + 1, 1 << 17):
        vector = np.linspace(-1, 1, size, dtype=np.float32)
        assert write({"data": numbers(vector)}) == write({"data": vector})


NESTED = st.recursive(st.integers(0, 9), lambda inner: st.lists(inner, max_size=3), max_leaves=20)


@given(st.lists(NESTED, max_size=3))
def test_lists_in_lists_are_flattened_as_numpy_does_or_refused(data: list[Any]) -> None:
    try:
        expected = np.array(data, np.int64)
    except (ValueError, TypeError):
        expected = None
    try:
        elements, shape = flattened(data, "x")
        array = array_of(elements, np.dtype(np.int64), "x")
    except Exception as error:
        assert expected is None, error
        return
    assert expected is not None
    # numpy looks no further than a list without elements; neither does a tensor without elements need to.
    assert array.tolist() == expected.ravel().tolist()
    assert shape == expected.shape


ODD = {"true": True, "false": False, "a string": "1.5", "null": None, "a list": [1.0], "an object": {}}


@pytest.mark.parametrize("size", [1, 40, 1 << 14, (1 << 14) + 1])
@pytest.mark.parametrize("others", [0.5, 0.0, 1.0, 1])
@pytest.mark.parametrize("odd", ODD.values(), ids=[*ODD])
def test_what_is_no_number_is_found_among_numbers_wherever_it_is(odd: Any, others: float, size: int) -> None:
    for place in {0, size // 2, size - 1}:
        elements: list[Any] = [others] * size
        elements[place] = odd
        with pytest.raises(InvalidRequest, match="x is float32, which takes numbers; "):
            array_of(elements, np.dtype(np.float32), "x")


@given(
    st.lists(st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False), max_size=20),
    st.sampled_from(["<f2", "<f4", "<f8"]),
)
def test_numbers_are_rounded_to_a_type_as_numpy_does_or_do_not_fit(elements: list[float], name: str) -> None:
    dtype = np.dtype(name)
    with np.errstate(over="ignore"):
        expected = np.array(elements, dtype)
    try:
        array = array_of(elements, dtype, "x")
    except InvalidRequest as error:
        assert "cannot hold" in str(error)
        assert not np.isfinite(expected).all()
        return
    assert array.tobytes() == expected.tobytes()  # and -0.0 is not 0.0


@example(b"[20000000000000000001, -9223372036854775809, 18446744073709551615]")
@given(st.binary(max_size=40) | st.text('[]{}",:0123456789.eE+-tfn ', max_size=40).map(str.encode))
def test_what_is_read_is_what_json_reads(text: bytes) -> None:
    try:
        came = read(text)
    except MalformedMessage:
        return  # orjson is the stricter one: no NaN, no infinities, nothing that is no UTF-8
    assert came == json.loads(text, parse_int=whole)


def whole(text: str) -> int | float:
    """A whole number; beyond 64 bits it is one of floating point."""
    return int(text) if -(2**63) <= int(text) < 2**64 else float(text)


def test_where_the_library_is_missing_the_paths_say_so_and_the_rest_works() -> None:
    with serving(
        "--model", "echo", "--listen", "127.0.0.1:0", "--drain-grace-s", "0", code=WITHOUT, afresh=True
    ) as server:
        for method, path in (("GET", "/v2"), ("POST", "/v2/models/echo/infer")):
            answer = call(server.url, method, path, b"{}" if method == "POST" else None)
            assert answer.status == 501
            assert "pip install 'graphpipe-rpc[json]'" in answer.text
        assert call(server.url, "GET", "/readyz").status == 200


def test_who_asks_for_the_protocol_by_name_learns_at_the_start_that_its_library_is_missing() -> None:
    ended = run_to_end("--model", "echo", "--protocols", "open-inference", code=WITHOUT)
    assert ended.returncode != 0
    assert "pip install 'graphpipe-rpc[json]'" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_documents_are_read_one_after_another_also_where_callers_have_left_and_none_waits_for_ever() -> None:
    began, may_go = threading.Event(), threading.Event()
    under_way: list[int] = []

    def work(number: int) -> int:
        under_way.append(number)
        began.set()
        assert may_go.wait(30)
        assert under_way == [number]
        under_way.remove(number)
        return number

    async def main() -> None:
        ended: list[object] = []
        all_ended = asyncio.Event()

        def end(*result: object) -> None:
            ended.append(result)
            if len(ended) == 2:
                all_ended.set()

        readings = [Taskless(aside(work, i), end) for i in range(4)]
        for reading in readings:
            reading.start()
        await asyncio.to_thread(began.wait, 30)
        readings[0].cancel()  # it is read to its end nevertheless
        readings[2].cancel()
        may_go.set()
        await asyncio.wait_for(all_ended.wait(), 30)
        assert ended == [(1, None), (3, None)]

    asyncio.run(main())
