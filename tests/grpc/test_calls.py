"""Calls by grpcio's own client: what it sends is answered, and what is wrong with it is said in gRPC's words."""

from __future__ import annotations

import gzip
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from graphpipe.backends.echo import Echo
from graphpipe.keyfile import digest_of, key_of, new_key, text_of
from tests.front.servers import Function, InProcess
from tests.grpc import frames
from tests.grpc.frames import peer
from tests.grpc.servers import calling, grpc_server, message, tensor

CODE = grpc.StatusCode


class Fatal(BaseException):
    pass


def _broken(inputs: Any) -> Any:
    raise ValueError("the cause")


def _fatal(inputs: Any) -> Any:
    raise Fatal("worse")


class Slow(Function):
    """A model that takes its time: until it is told to go on."""

    def __init__(self) -> None:
        super().__init__(self._wait)
        self.go_on = threading.Event()

    def _wait(self, inputs: Any) -> Any:
        self.go_on.wait(20)
        return {"y": inputs["x"]}


SLOW = Slow()


@pytest.fixture(autouse=True)
def slow() -> Iterator[Slow]:
    SLOW.go_on.clear()
    yield SLOW
    SLOW.go_on.set()


@pytest.fixture(scope="module")
def server() -> Iterator[InProcess]:
    models = {"echo": Echo(), "broken": Function(_broken), "fatal": Function(_fatal), "slow": SLOW}
    with grpc_server(models, body_bytes_max=100_000_000) as running:
        yield running


def failed(call: Any, *args: Any, **more: Any) -> grpc.Call:
    with pytest.raises(grpc.RpcError) as raised:
        call(*args, timeout=more.pop("timeout", 20), **more)
    return raised.value  # type: ignore[return-value]


@pytest.mark.parametrize("size", [0, 1, 100, 16_000, 60_000, 65_530, 65_536, 300_000, 10_000_000])
def test_a_message_of_any_size_comes_back(server: InProcess, size: int):
    array = np.random.default_rng(size).integers(0, 255, size, np.uint8)
    with calling(server) as call:
        assert np.array_equal(tensor(call(message(array), timeout=20)), array)


def test_many_calls_at_once_have_their_own_answers(server: InProcess):
    with calling(server) as call, ThreadPoolExecutor(32) as pool:
        arrays = [np.full(50 + each * 997, each, np.float32) for each in range(200)]
        for array, answer in zip(arrays, pool.map(lambda a: call(message(a), timeout=30), arrays), strict=True):
            assert np.array_equal(tensor(answer), array)


def test_what_does_not_exist_has_a_status_and_the_channel_goes_on(server: InProcess):
    address = server.url.removeprefix("http://").rstrip("/")
    with grpc.insecure_channel(address) as channel:
        assert failed(channel.unary_unary("/test.Messages/nobody"), message([1])).code() == CODE.NOT_FOUND
        error = failed(channel.unary_unary("/some.Other/Method"), message([1]))
        assert error.code() == CODE.UNIMPLEMENTED
        assert "some.Other" in error.details()
        assert failed(channel.unary_unary("/nothing"), b"").code() == CODE.UNIMPLEMENTED
        assert channel.unary_unary("/test.Messages/echo")(message([1.0]), timeout=20)


def test_words_beyond_ascii_arrive_as_they_are(server: InProcess):
    with calling(server, "ü%") as call:
        assert "ü%" in failed(call, message([1])).details()


@pytest.mark.parametrize("body", [b"", b"hello", b"\x00" * 100])
def test_what_is_no_message_is_an_invalid_argument(server: InProcess, body: bytes):
    with calling(server) as call:
        assert failed(call, body).code() == CODE.INVALID_ARGUMENT


@pytest.mark.parametrize("model", ["broken", "fatal"])
def test_a_model_that_raises_is_internal_and_others_are_answered(server: InProcess, model: str):
    with calling(server, model) as broken, calling(server) as call:
        error = failed(broken, message([1.0]))
        assert error.code() == CODE.INTERNAL
        assert "cause" not in error.details().replace("log has the cause", "")
        assert call(message([1.0]), timeout=20)


def test_a_message_over_the_limit_is_refused_before_it_comes(server: InProcess):
    with calling(server) as call:
        error = failed(call, bytes(100_000_001))
        assert error.code() == CODE.RESOURCE_EXHAUSTED
        assert "--body-bytes-max" in error.details()


def test_a_deadline_ends_the_call_and_what_waits_for_it(server: InProcess):
    with calling(server, "slow") as call:
        assert failed(call, message([1.0]), timeout=0.05).code() == CODE.DEADLINE_EXCEEDED
    _wait(lambda: server.app.state.in_flight == 0)


def test_a_cancelled_call_is_left(server: InProcess, slow: Slow):
    with calling(server, "slow") as call:
        future = call.future(message([1.0]))
        _wait(lambda: server.app.state.in_flight == 1)
        future.cancel()
        _wait(lambda: server.app.state.in_flight == 0)
        slow.go_on.set()
        assert call(message([1.0]), timeout=20)


def test_a_caller_who_vanishes_is_left(server: InProcess):
    with calling(server, "slow") as call:
        future = call.future(message([1.0]))
        _wait(lambda: server.app.state.in_flight == 1)
        del future
    _wait(lambda: server.app.state.in_flight == 0)


def test_a_model_that_hangs_holds_up_no_other_call():
    release = threading.Event()

    def hang(inputs: Any) -> Any:
        release.wait(30)
        return {"y": inputs["x"]}

    try:
        with grpc_server({"hang": Function(hang), "echo": Echo()}) as server, calling(server, "hang") as stuck:
            waiting = [stuck.future(message([float(each)])) for each in range(4)]
            with calling(server) as call:
                assert tensor(call(message([7.0]), timeout=20)) == [7.0]
            assert failed(stuck, message([1.0]), timeout=0.1).code() == CODE.DEADLINE_EXCEEDED
            release.set()
            assert [float(tensor(each.result(20))[0]) for each in waiting] == [0.0, 1.0, 2.0, 3.0]
    finally:
        release.set()


@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate])
@pytest.mark.parametrize("size", [10, 100_000, 3_000_000])
def test_compressed_messages_are_taken(server: InProcess, compression: Any, size: int):
    array = np.random.default_rng(size).integers(0, 3, size, np.uint8)
    with calling(server, compression=compression) as call:
        assert np.array_equal(tensor(call(message(array), timeout=20)), array)


def test_a_compressed_bomb_is_refused(server: InProcess):
    with calling(server, compression=grpc.Compression.Gzip) as call:
        error = failed(call, bytes(50_000_000))
        assert error.code() == CODE.RESOURCE_EXHAUSTED
        assert "--inflate-ratio-max" in error.details()


def test_answers_are_compressed_where_the_server_is_told_to():
    array = np.zeros(1_000_000, np.uint8)
    with grpc_server(compress_answers=True, inflate_ratio_max=100_000) as server, calling(server) as call:
        assert np.array_equal(tensor(call(message(array), timeout=20)), array)
        with peer(server) as raw:
            raw.send(frames.call(1, message(array[:10_000]), ("grpc-accept-encoding", "identity,gzip")))
            answer = raw.until(frames.DATA, 1).payload
            assert answer[0] == 1
            assert np.array_equal(tensor(gzip.decompress(answer[5:])), array[:10_000])


def test_compressed_messages_can_be_off():
    with grpc_server(inflate_ratio_max=0) as server, calling(server, compression=grpc.Compression.Gzip) as call:
        assert failed(call, message(np.zeros(1000))).code() == CODE.UNIMPLEMENTED


def test_a_request_id_comes_back_with_answers_and_errors(server: InProcess):
    with calling(server) as call:
        _, told = call.with_call(message([1.0]), timeout=20, metadata=[("x-request-id", "mine-1")])
        assert dict(told.initial_metadata())["x-request-id"] == "mine-1"
        error = failed(call, b"nonsense", metadata=[("x-request-id", "mine-2")])
        told_of = dict(error.initial_metadata()) | dict(error.trailing_metadata())
        assert told_of["x-request-id"] == "mine-2"


def test_metadata_beyond_the_limit_is_refused_and_the_channel_goes_on(server: InProcess):
    with calling(server) as call:
        error = failed(call, message([1.0]), metadata=[("a-key", "v" * 20_000)])
        assert error.code() == CODE.RESOURCE_EXHAUSTED
        assert call(message([1.0]), timeout=20)


def test_keys_are_asked_for_and_scopes_and_models_hold(tmp_path: Path):
    keys = {name: new_key() for name in ("full", "metadata", "other")}
    kinds = {"full": ["infer", "metadata"], "metadata": ["metadata"], "other": ["infer", "metadata"]}
    lines = [
        text_of(key_of(name, digest_of(key.encode()), kinds[name], models=["b"] if name == "other" else ()))
        for name, key in keys.items()
    ]
    file = tmp_path / "keys"
    file.write_text("\n".join(lines) + "\n")

    def shown(name: str) -> list[tuple[str, str]]:
        return [("authorization", f"Bearer {keys[name]}")]

    with grpc_server({"echo": Echo(), "b": Echo()}, api_key_file=str(file)) as server, calling(server) as call:
        assert call(message([1.0]), timeout=20, metadata=shown("full"))
        for nobody in ([], [("authorization", "Bearer wrong")], shown("full") * 2):
            for asked in (message([1.0]), message(np.zeros(1_000_000)), b""):
                assert failed(call, asked, metadata=nobody).code() == CODE.UNAUTHENTICATED
        assert failed(call, message([1.0]), metadata=shown("metadata")).code() == CODE.PERMISSION_DENIED
        assert failed(call, message([1.0]), metadata=shown("other")).code() == CODE.PERMISSION_DENIED
        with calling(server, "nobody") as nothing:
            mine = failed(nothing, message([1.0]), metadata=shown("other"))
            assert mine.details() == failed(call, message([1.0]), metadata=shown("other")).details()
            assert failed(nothing, message([1.0])).code() == CODE.UNAUTHENTICATED


def test_a_callers_limits_count_messages_that_are_on_their_way():
    promised = b"\x00" + frames.number(1 << 20) + bytes(1000)
    large = message(np.zeros(1 << 17))
    with grpc_server(caller_requests_max=2) as server, peer(server) as it, calling(server) as call:
        for stream in (1, 3):
            it.send(frames.head(stream) + frames.frame(frames.DATA, 0, stream, promised))
        it.send(frames.frame(frames.PING, 0, 0, bytes(8)))
        it.until(frames.PING)
        for asked in (large, message([1.0])):
            assert failed(call, asked).code() == CODE.RESOURCE_EXHAUSTED
        it.send(frames.frame(frames.RESET, 0, 1, frames.number(8)) + frames.frame(frames.PING, 0, 0, bytes(8)))
        it.until(frames.PING)
        assert call(large, timeout=20)
        assert call(message([1.0]), timeout=20)


def test_metrics_and_access_lines_say_what_was_asked(server: InProcess, caplog: pytest.LogCaptureFixture):
    caplog.set_level("INFO", "graphpipe.access")
    with calling(server) as call:
        call(message([1.0]), timeout=20, metadata=[("x-request-id", "seen-in-the-log")])
    _wait(lambda: "seen-in-the-log" in caplog.text)
    (line,) = [each for each in caplog.text.splitlines() if "seen-in-the-log" in each]
    assert "/test.Messages/echo" in line


def _wait(done: Any) -> None:
    until = time.monotonic() + 20
    while not done():
        assert time.monotonic() < until, "it did not come to that"
        time.sleep(0.005)


def test_one_callers_limits_hold_over_grpc_too(slow: Slow):
    """A call of his that ends, however it ends, is one of his no longer."""
    with grpc_server({"slow": slow, "echo": Echo()}, caller_requests_max=1) as server:
        with calling(server, "slow") as busy, calling(server) as other:
            for how in ("cancelled", "answered"):
                first = busy.future(message([1.0]))
                _wait(lambda: server.app.state.in_flight == 1)
                error = failed(other, message([1.0]))
                assert error.code() == CODE.RESOURCE_EXHAUSTED
                assert int(dict(error.trailing_metadata())["grpc-retry-pushback-ms"]) > 0
                if how == "cancelled":
                    first.cancel()
                else:
                    slow.go_on.set()
                    assert first.result(20)
                _wait(lambda: server.app.state.in_flight == 0)
            assert other(message([1.0]), timeout=20)
