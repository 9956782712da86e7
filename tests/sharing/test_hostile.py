"""Whoever shows memory that is none, or that changes, or says what is not so, harms nobody but himself."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from graphpipe.keyfile import digest_of, key_of, new_key, text_of
from graphpipe.signature import Signature, TensorSpec
from graphpipe.wire import decode_infer_response, encode_request
from tests.front.servers import UPGRADE, Function, InProcess, Way, in_process
from tests.front.test_ways import until
from tests.raw_http import Wire
from tests.sharing.showing import call, mapped_here, message, open_here, segment_of, send
from tests.sharing.test_shown import passing

MIB = 1 << 20
X = np.arange(5000, dtype=np.float32)
F_ADD_SEALS, SEAL, SHRINK, GROW, WRITE = 1033, 1, 2, 4, 8


@pytest.fixture(scope="module")
def server(tmp_path_factory: Any) -> Iterator[InProcess]:
    path = tmp_path_factory.mktemp("s")
    with in_process(listen=f"unix:{path}/s", body_bytes_max=MIB) as running:
        yield running


@pytest.fixture(autouse=True)
def innocent(server: InProcess) -> Iterator[None]:
    """One who shows his memory all the while; nothing is left of the others afterwards."""
    over = threading.Event()
    failed: list[BaseException] = []

    def ask() -> None:
        try:
            with passing(server) as wire:
                while not over.is_set():
                    called = call(wire, [X], room=64 * 1024)
                    np.testing.assert_array_equal(called.outputs[0], X)
                    assert called.kept == ""
        except BaseException as error:
            failed.append(error)

    descriptors, mapped = open_here(), mapped_here()
    caller = threading.Thread(target=ask)
    caller.start()
    yield
    over.set()
    caller.join()
    assert not failed
    until(lambda: open_here() <= descriptors and mapped_here() <= mapped)
    assert server.ask(lambda: server.app.admission.held_bytes) == 0
    assert server.ask(lambda: server.app.hub.sharing.waiting.count) == 0


# --- fields that lie ---

REFUSED, WRONG = "refused", ""


@pytest.mark.parametrize(
    ("memory", "answer", "want"),
    [
        ("0=0:20032+20000", None, REFUSED),  # beyond the segment
        ("0=0:64+20000", None, REFUSED),
        ("0=0:9223372036854775744+64", None, REFUSED),
        ("0=0:576460752303423424+576460752303423488", None, ""),  # over the limit of a body
        ("0=0:1+20000", None, REFUSED),
        ("0=0:32+20000", None, REFUSED),
        ("0=0:0+0", None, REFUSED),
        ("0=0:-64+64", None, REFUSED),
        ("0=0:00+20000", None, REFUSED),
        ("0=1:0+20000", None, REFUSED),  # a descriptor too few
        ("0=16:0+20000", None, REFUSED),
        ("0=99999:0+20000", None, REFUSED),
        ("0=0:0+20000, 0=0:0+20000", None, REFUSED),
        ("0=0:0+20000,,", None, REFUSED),
        ("", None, REFUSED),
        ("0", None, REFUSED),
        ("0=0:0+20000; 1=0:0+20000", None, REFUSED),
        ("refused", None, REFUSED),
        (", ".join(f"{i}=0:0+64" for i in range(300)), None, REFUSED),
        ("0=0:0+19996", None, WRONG),  # not what the shape needs
        ("0=0:0+64", None, WRONG),
        ("1=0:0+20000", None, WRONG),  # no such tensor
        ("0=0:0+20000, 7=0:0+64", None, WRONG),
        ("0=0:0+20000", "0:64+64", REFUSED),  # outputs over inputs
        ("0=0:0+20000", "0:0+20032", REFUSED),
        ("0=0:0+20000", "0:19968+64", REFUSED),
        ("0=0:0+20000", "0:20032+64", REFUSED),
        ("0=0:0+20000", "1:0+64", REFUSED),
        ("0=0:0+20000", "0:1+64", REFUSED),
        ("0=0:0+20000", "0=0:0+64", REFUSED),
        ("0=0:0+20000", "0:0", REFUSED),
        (None, "0:0+99999", REFUSED),
    ],
)
def test_a_field_that_lies_is_refused(server: InProcess, memory: str | None, answer: str | None, want: str) -> None:
    segment, _ = segment_of([X])
    with passing(server) as wire:
        send(wire, message([X], [0]), [segment.fd], memory, answer)
        found = wire.answer()
        assert found.status == (413 if memory and "576460752303423488" in memory else 400), found.text
        assert found.headers.get("graphpipe-memory", "") == want
        assert found.body
        body = b"".join(encode_request([X]))
        send(wire, body, [])  # on the same connection, as it was told
        assert wire.answer().status == 200


def test_the_index_of_strings_and_bytes_in_both_places_are_refused(server: InProcess) -> None:
    texts = np.array([b"a", b"b"], object)
    segment, _ = segment_of([X])
    with passing(server) as wire:
        send(wire, b"".join(encode_request([texts])), [segment.fd], "0=0:0+64")
        assert wire.answer().status == 400
        send(wire, b"".join(encode_request([X])), [segment.fd], "0=0:0+20000")
        assert wire.answer().status == 400
        send(wire, message([X, X], [0, 1]), [segment.fd], "0=0:0+20000")  # one of the two was forgotten
        assert wire.answer().status == 400


def test_two_tensors_may_have_the_same_bytes(server: InProcess) -> None:
    segment, (place,) = segment_of([X])
    with passing(server) as wire:
        send(wire, message([X, X], [0, 1]), [segment.fd], f"0={place}, 1={place}")
        assert wire.answer().status == 200
        send(wire, message([X, X], [0, 1]), [segment.fd, segment.fd], f"0={place}, 1=1{place[1:]}")
        assert wire.answer().status == 200


@pytest.mark.parametrize("way", ["unix", "tcp", "chunked", "odd"])
def test_where_no_descriptors_can_come_the_fields_are_refused(server: InProcess, way: str) -> None:
    segment, (place,) = segment_of([X])
    with contextlib.ExitStack() as stack:
        if way == "tcp":
            wire = stack.enter_context(Wire(stack.enter_context(in_process()).url))
        else:
            wire = stack.enter_context(Way(server, passing=way != "unix").wire())
        lines = ["TE: trailers"] if way == "odd" else []
        body = message([X], [0])
        if way == "chunked":
            wire.send(
                b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nGraphPipe-Memory: 0=0:0+20000\r\n\r\n"
            )
            wire.send(b"%x\r\n" % len(body) + body + b"\r\n0\r\n\r\n")
        else:
            send(wire, body, [segment.fd] if way not in ("tcp", "unix") else [], f"0={place}", None, *lines)
        answer = wire.answer()
        assert (answer.status, answer.headers.get("graphpipe-memory")) == (400, "refused")


def test_other_protocols_take_no_memory(server: InProcess) -> None:
    pytest.importorskip("orjson")
    segment, (place,) = segment_of([X])
    with passing(server) as wire:
        for path in ("/v2/models/echo/infer", "/v1/models/echo:predict"):
            send(wire, b"{}", [segment.fd], f"0={place}", path=path)
            answer = wire.answer()
            assert (answer.status, answer.headers.get("graphpipe-memory")) == (400, "refused")


# --- descriptors of what is no memory ---


def memfd(size: int, seals: int, flags: int = os.MFD_ALLOW_SEALING) -> int:
    descriptor = os.memfd_create("test", flags)
    os.ftruncate(descriptor, size)
    if seals:
        fcntl.fcntl(descriptor, F_ADD_SEALS, seals)
    return descriptor


def huge() -> int:
    try:
        return memfd(2 * MIB, SHRINK | GROW, os.MFD_ALLOW_SEALING | os.MFD_HUGETLB)
    except OSError:
        pytest.skip("this machine gives no huge pages")


def read_only() -> int:
    descriptor = memfd(64 * 1024, SHRINK | GROW)
    try:
        return os.open(f"/proc/self/fd/{descriptor}", os.O_RDONLY)
    finally:
        os.close(descriptor)


def file() -> int:
    descriptor = os.open("/tmp", os.O_TMPFILE | os.O_RDWR, 0o600)
    os.ftruncate(descriptor, 64 * 1024)
    return descriptor


def one_of(pair: tuple[Any, Any]) -> int:
    first, second = (each if type(each) is int else each.detach() for each in pair)
    os.close(second)
    return first


WHAT: dict[str, Callable[[], int]] = {
    "not sealed": lambda: memfd(64 * 1024, 0),
    "may be cut": lambda: memfd(64 * 1024, GROW),
    "may grow": lambda: memfd(64 * 1024, SHRINK),
    "not to be written": lambda: memfd(64 * 1024, SHRINK | GROW | WRITE),
    "opened to be read": read_only,
    "empty": lambda: memfd(0, SHRINK | GROW),
    "a hole of 1 TiB": lambda: memfd(1 << 40, SHRINK | GROW),
    "huge pages": huge,
    "a file": file,
    "a folder": lambda: os.open("/", os.O_RDONLY),
    "zeros without end": lambda: os.open("/dev/zero", os.O_RDWR),
    "a pipe": lambda: one_of(os.pipe()),
    "a socket": lambda: one_of(socket.socketpair()),
    "a path": lambda: os.open("/", os.O_PATH),
}


@pytest.mark.parametrize("what", WHAT)
def test_what_is_no_sealed_memory_is_refused(server: InProcess, what: str) -> None:
    descriptor = WHAT[what]()
    try:
        with passing(server) as wire:
            for memory, answer in (("0=0:0+20000", None), (None, "0:0+20000")):
                send(wire, message([X], [0]), [descriptor], memory, answer)
                found = wire.answer()
                assert (found.status, found.headers.get("graphpipe-memory")) == (400, "refused"), found.text
            segment, (place,) = segment_of([X])
            send(wire, message([X], [0]), [segment.fd, descriptor], f"0={place}", "1:0+20000")
            assert wire.answer().status == 400
            send(wire, message([X], [0]), [segment.fd], f"0={place}")
            assert wire.answer().status == 200
    finally:
        os.close(descriptor)


def test_the_wrong_number_of_descriptors_is_refused(server: InProcess) -> None:
    segment, (place,) = segment_of([X])
    with passing(server) as wire:
        for count in (0, 2, 16, 17, 100):
            send(wire, message([X], [0]), [segment.fd] * count, f"0={place}")
            found = wire.answer()
            assert (found.status, found.headers.get("graphpipe-memory")) == (400, "refused"), found.text
            send(wire, message([X], [0]), [segment.fd], f"0={place}")
            assert wire.answer().status == 200


def test_who_did_not_ask_for_it_can_send_none_where_the_system_knows_how(server: InProcess) -> None:
    with Wire(server.url, 10) as wire:
        try:
            wire.socket.setsockopt(socket.SOL_SOCKET, 83, 1)
        except OSError:
            pytest.skip("this system passes descriptors to everybody")
        with pytest.raises(PermissionError):
            socket.send_fds(wire.socket, [b"POST"], [0])
        send(wire, b"".join(encode_request([X])), [])
        assert wire.answer().status == 200


# --- callers who change, leave, or want too much ---


def test_what_is_sealed_cannot_be_cut_or_grown_afterwards() -> None:
    segment, _ = segment_of([X])
    for size in (0, MIB):
        with pytest.raises(PermissionError):
            os.ftruncate(segment.fd, size)


@pytest.mark.parametrize("stage", [{"cache": True}, {"batch_rows_max": 8}])
def test_rows_that_change_while_they_are_computed_poison_nothing(tmp_path: Path, stage: dict[str, Any]) -> None:
    """What is remembered under a row, or told to whoever waits for it too, is what that row is answered with."""
    began, may_go = threading.Event(), threading.Event()

    def double(inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        began.set()
        assert may_go.wait(20)
        return {"y": inputs["x"] * 2}

    model = Function(double)
    model.signature = Signature((TensorSpec.of("x", "float32[n, 4]"),), (TensorSpec.of("y", "float32[n, 4]"),))
    model.version = "1"
    if "cache" in stage:
        stage = stage | {"cache_dir": str(tmp_path / "c")}
    x = np.arange(12, dtype=np.float32).reshape(3, 4)
    segment, (place,) = segment_of([x])
    with (
        in_process({"m": model}, listen=f"unix:{tmp_path}/s", model_settings=stage) as running,
        passing(running) as wire,
    ):
        send(wire, message([x], [0]), [segment.fd], f"0={place}")
        assert began.wait(10)
        segment.view[: x.nbytes] = np.full_like(x, 1000).tobytes()
        may_go.set()
        assert decode_infer_response(wire.answer().body).outputs[0].tolist() == (2 * x).tolist()
        with Wire(running.url) as other:
            send(other, b"".join(encode_request([x])), [])
            assert decode_infer_response(other.answer().body).outputs[0].tolist() == (2 * x).tolist()


@pytest.mark.parametrize("dtype", ["i4", "i8", "u4", "u8", "?"])
def test_whole_numbers_that_change_while_the_model_runs_do_not_change_for_it(tmp_path: Path, dtype: str) -> None:
    began, may_go = threading.Event(), threading.Event()

    def look(inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        before = inputs["x"].copy()
        began.set()
        assert may_go.wait(20)
        return {"y": np.array([(before == inputs["x"]).all()], np.uint8)}

    x = np.ones(100_000, dtype)
    segment, (place,) = segment_of([x])
    with in_process({"m": Function(look)}, listen=f"unix:{tmp_path}/s") as running, passing(running) as wire:
        send(wire, message([x], [0]), [segment.fd], f"0={place}")
        assert began.wait(10)
        segment.view[:] = bytes(segment.size)
        may_go.set()
        assert decode_infer_response(wire.answer().body).outputs[0].tolist() == [1]


@pytest.mark.skipif(os.geteuid() != 0, reason="takes a process that may become another user")
def test_of_another_user_everything_is_copied(tmp_path: Path) -> None:
    began, may_go = threading.Event(), threading.Event()

    def look(inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        before = inputs["x"].copy()
        began.set()
        assert may_go.wait(20)
        return {"y": np.array([(before == inputs["x"]).all()], np.uint8)}

    x = np.ones(500_000, np.float32)
    for user, want in ((65534, 1), (0, 0)):
        began.clear()
        may_go.clear()
        segment, (place,) = segment_of([x])
        with in_process({"m": Function(look)}, listen=f"unix:{tmp_path}/s") as running:
            for path in (tmp_path.parent.parent, tmp_path.parent, tmp_path):
                os.chmod(path, 0o755)
            os.chmod(tmp_path / "s", 0o777)
            os.seteuid(user)
            try:
                wire = Wire(running.url, 10)
            finally:
                os.seteuid(0)
            with wire:
                wire.send(UPGRADE)
                assert wire.answer().status == 101
                send(wire, message([x], [0]), [segment.fd], f"0={place}")
                assert began.wait(10)
                segment.view[:] = bytes(segment.size)
                may_go.set()
                answer = wire.answer()
                assert decode_infer_response(answer.body).outputs[0].tolist() == [want]
                assert "graphpipe-memory-kept" not in answer.headers


def test_a_caller_who_is_killed_leaves_nothing(server: InProcess) -> None:
    """With half a head, with half a body, with an answer on its way to him."""
    body = message([X], [0], names=["x" * 5000])
    for cut in (10, 200, len(body), None):
        segment, (place,) = segment_of([X])
        reading, writing = os.pipe()
        child = os.fork()
        if not child:  # nothing of the test's own may run here
            try:
                connection = socket.socket(socket.AF_UNIX)
                connection.connect(server.url[len("unix:") :])
                connection.sendall(UPGRADE)
                connection.recv(1000)
                head = (
                    f"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: {len(body)}\r\nGraphPipe-Memory: 0={place}\r\n\r\n"
                )
                socket.send_fds(connection, [(head.encode() + body)[:cut]], [segment.fd])
                os.write(writing, b"x")
                signal.pause()
            finally:
                os._exit(1)
        assert os.read(reading, 1) == b"x"
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(reading)
        os.close(writing)


def test_memory_is_taken_of_whoever_has_a_key_for_the_model(tmp_path: Path) -> None:
    secrets = {name: new_key() for name in ("good", "metadata", "other")}
    more: dict[str, dict[str, Any]] = {"good": {}, "metadata": {}, "other": {"models": ["another"]}}
    lines = [
        text_of(key_of(name, digest_of(secret.encode()), [name if name == "metadata" else "infer"], **more[name]))
        for name, secret in secrets.items()
    ]
    (tmp_path / "keys").write_text("\n".join(lines) + "\n")
    os.chmod(tmp_path / "keys", 0o600)
    with in_process(listen=f"unix:{tmp_path}/s", api_key_file=str(tmp_path / "keys")) as running:
        before = open_here()
        with passing(running) as wire:  # to ask for it takes none
            for _ in range(2):
                assert call(wire, [X]).status == 401
                for name, want in (("good", 200), ("metadata", 403), ("other", 403)):
                    called = call(wire, [X], f"Authorization: Bearer {secrets[name]}")
                    assert (called.status, called.memory, called.kept) == (want, "", "")
            assert running.ask(lambda: running.app.hub.sharing.waiting.count) == 0
        until(lambda: open_here() <= before)


def test_what_is_shown_counts_as_the_body_does(tmp_path: Path) -> None:
    limits = {"body_bytes_max": 1 << 20, "caller_bytes_max": 1 << 19, "access_lines_per_s": 0}
    x, y = np.zeros((1 << 18) + 1, np.float32), np.zeros(1 << 17, np.float32)
    with in_process(listen=f"unix:{tmp_path}/s", **limits) as running, passing(running) as wire:
        called = call(wire, [x])
        assert (called.status, called.memory) == (413, "")
        assert call(wire, [y]).status == 413  # with its message it is over what one caller may have
        assert call(wire, [y[:-1000]]).status == 200


def test_what_is_shown_waits_for_room_as_bodies_do(tmp_path: Path) -> None:
    may_go = threading.Event()

    def slow(inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        assert may_go.wait(20)
        return {"y": inputs["x"][:1].copy()}

    limits = {"body_bytes_max": MIB, "in_flight_bytes_max": MIB, "admission_wait_s": 0.2}
    x = np.zeros(200_000, np.float32)
    with (
        in_process({"m": Function(slow)}, listen=f"unix:{tmp_path}/s", **limits) as running,
        passing(running) as first,
        passing(running) as second,
    ):
        segment, (place,) = segment_of([x])
        send(first, message([x], [0]), [segment.fd], f"0={place}")
        until(lambda: running.ask(lambda: running.app.state.in_flight) == 1)
        called = call(second, [x])
        assert (called.status, called.memory) == (503, "")
        may_go.set()
        assert first.answer().status == 200
        assert call(second, [x]).status == 200
        assert running.ask(lambda: running.app.admission.held_bytes) == 0


def test_one_who_shows_ever_new_segments_has_few_of_them_mapped(server: InProcess) -> None:
    """As many as any connection may have: he, and the innocent one, whose segments are always new too."""
    with passing(server) as wire:
        for _ in range(100):
            assert call(wire, [X]).status == 200
        count, _ = server.ask(lambda: server.app.hub.sharing.mapped)
        assert count <= 2 * 32


def test_all_callers_together_have_so_much_mapped(tmp_path: Path) -> None:
    limits = {"body_bytes_max": MIB, "in_flight_bytes_max": 4 * MIB}
    x = np.zeros(200_000, np.float32)
    with (
        in_process(listen=f"unix:{tmp_path}/s", **limits) as running,
        contextlib.ExitStack() as stack,
    ):
        wires = [stack.enter_context(passing(running)) for _ in range(5)]
        for wire in wires * 2:
            assert call(wire, [x]).status == 200
            count, size = running.ask(lambda: running.app.hub.sharing.mapped)
            assert size <= 4 * MIB
        assert count == 5
