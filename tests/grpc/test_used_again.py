"""What carried one call carries the next: nothing of the first is left in it, whatever that was."""

from __future__ import annotations

import struct
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from graphpipe.backends.echo import Echo
from graphpipe.keyfile import digest_of, key_of, new_key, text_of
from tests.faults.callers import until
from tests.front.servers import Function, InProcess, in_process
from tests.grpc.frames import DATA, HEADERS, UPDATE, call, frame, number, peer
from tests.grpc.official import caller
from tests.grpc.servers import calling, grpc_server, message, tensor

ROUNDS = 4


def _slow(inputs: Any) -> Any:
    time.sleep(0.3)
    return {"y": inputs["x"]}


def _broken(inputs: Any) -> Any:
    raise KeyboardInterrupt


@pytest.fixture(scope="module")
def server() -> Iterator[InProcess]:
    with grpc_server({"echo": Echo(), "slow": Function(_slow), "broken": Function(_broken)}) as running:
        yield running


def _refused(multicallable: Any, *args: Any, **more: Any) -> grpc.StatusCode:
    with pytest.raises(grpc.RpcError) as raised:
        multicallable(*args, timeout=20, **more)
    code: grpc.StatusCode = raised.value.code()  # type: ignore[attr-defined]
    return code


def test_calls_one_behind_another_know_nothing_of_each_other(server: InProcess):
    plain, zeros = np.random.default_rng(0).random(50), np.zeros(5000)
    with calling(server) as echo, calling(server, "slow") as slow, calling(server, "broken") as broken:
        for _ in range(ROUNDS):
            answer = echo(message(zeros), timeout=20, compression=grpc.Compression.Gzip)
            assert np.array_equal(tensor(answer), zeros)
            answer, told = echo.with_call(message(plain), timeout=20, metadata=[("x-request-id", "mine")])
            assert dict(told.initial_metadata())["x-request-id"] == "mine"
            assert _refused(broken, message([1.0])) is grpc.StatusCode.INTERNAL
            answer, told = echo.with_call(message(plain), timeout=0.2)
            assert np.array_equal(tensor(answer), plain)
            assert "x-request-id" not in dict(told.initial_metadata())
            assert _refused(echo, b"nonsense") is grpc.StatusCode.INVALID_ARGUMENT
            assert np.array_equal(
                tensor(slow(message(plain))), plain
            )  # for longer than the one before would have waited
            large = np.zeros(200_000)
            assert np.array_equal(tensor(echo(message(large))), large)


def test_calls_of_one_connection_that_are_answered_at_once_are_each_answered_with_its_own(server: InProcess):
    with peer(server) as it:
        streams = range(1, 2 * ROUNDS * 20, 2)
        it.send(b"".join(call(stream, message([float(stream)])) for stream in streams))
        for stream in streams:
            assert tensor(it.until(DATA, stream).payload[5:]).tolist() == [float(stream)]


def test_a_good_key_is_nobody_elses(tmp_path: Path):
    key, file = new_key(), tmp_path / "keys"
    file.write_text(text_of(key_of("one", digest_of(key.encode()), ["infer"])) + "\n")
    asked: dict[str, Any] = {"model_name": "echo", "raw_input_contents": [np.ones(3, "<f4").tobytes()]}
    asked["inputs"] = [{"name": "x", "datatype": "FP32", "shape": [3]}]
    with in_process({"echo": Echo()}, api_key_file=str(file)) as server, caller(server) as ask:
        for _ in range(ROUNDS):
            assert ask("ServerLive").live  # which anybody may know
            assert list(ask("ModelInfer", key=key, **asked).raw_output_contents) == asked["raw_input_contents"]
            with pytest.raises(grpc.RpcError, match="a key is missing"):
                ask("ModelInfer", **asked)
            assert ask("ServerLive").live
            with pytest.raises(grpc.RpcError, match="a key is missing"):
                ask("ModelMetadata", name="echo")
            with pytest.raises(grpc.RpcError, match="lacks"):
                ask("ModelMetadata", key=key, name="echo")


def test_a_connection_that_is_closed_is_kept_by_none_of_its_calls(server: InProcess, without_collector: None):
    with peer(server) as it:
        it.send(call(1, message([1.0])) + call(3, message([2.0])))
        assert it.until(DATA, 3)
        (left,) = server.ask(lambda: [weakref.ref(each) for each in server.app.hub.connections])
    until(lambda: left() is None)


def test_small_answers_that_nobody_reads_count_as_held_until_they_are_read(server: InProcess):
    admission, array = server.app.admission, np.zeros(1000)
    until(lambda: admission.held_bytes == 0)
    with peer(server, struct.pack(">HI", 4, 0)) as it:
        for stream in (1, 3, 5):
            it.send(call(stream, message(array)))
            it.until(HEADERS, stream)
        until(lambda: admission.held_bytes > 3 * array.nbytes)
        it.send(frame(UPDATE, 0, 1, number(1 << 20)))
        assert it.until(DATA, 1)
        until(lambda: 2 * array.nbytes < admission.held_bytes < 3 * array.nbytes)
    until(lambda: admission.held_bytes == 0)
