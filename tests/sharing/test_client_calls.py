"""What a client shows, and what not: the way of its large tensors to a server on the same Unix socket, and back."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import graphpipe
from graphpipe.client.calls import Array
from graphpipe.errors import InvalidRequest, ModelFailed, NoAnswer, TimedOut
from graphpipe.memory.segment import available
from graphpipe.wire import ErrorInfo, encode_infer_response
from tests.canned import Caller, X, answer, canned, metadata, outputs
from tests.sharing.peer import ASKED, YES, Look, Shown, hand_made, looking

pytestmark = pytest.mark.skipif(not available(), reason="this system has no memory that can be passed")

LARGE = np.arange(200_000, dtype=np.float32)


def doubled(shown: Shown) -> bytes:
    return shown.answer(*[2 * array for array in shown.inputs])


def test_large_tensors_are_shown_and_small_ones_are_sent(tmp_path: Path) -> None:
    requests: list[Shown] = []

    def run(shown: Shown) -> bytes:
        requests.append(shown)
        return doubled(shown)

    with hand_made(tmp_path, looking(run)) as server, graphpipe.Client(server.url) as client:
        for i in range(10):
            assert np.array_equal(client.execute(LARGE + i), 2 * (LARGE + i))
            assert np.array_equal(client.execute(X), X)
        assert len(requests) == 10
        # One connection for those that show memory, one for the others.
        assert server.connections == 2
        assert [request.places for request in requests] == [{0: (0, 0, LARGE.nbytes)}] * 10
        assert "graphpipe-timeout-ms" in requests[0].fields
        # The first answer says how much room the next ones need.
        assert requests[0].area is None
        assert [len(request.area or b"") for request in requests[1:]] == [LARGE.nbytes] * 9
        # Memory is used again: it would cost more to have the system make it than to send the bytes.
        assert len({inode for request in requests for inode in request.inodes}) <= 3


def test_many_tensors_share_a_segment_and_text_stays_in_the_message(tmp_path: Path) -> None:
    requests: list[Shown] = []

    def run(shown: Shown) -> bytes:
        requests.append(shown)
        return shown.answer(*shown.inputs)

    inputs = {
        "a": LARGE,
        "text": np.array(["Grüße", b"\0"], object),
        "b": np.arange(50_000, dtype=np.int16),
        "small": X,
        "none": np.empty((0, 3)),
        "c": np.float64(3),
    }
    with hand_made(tmp_path, looking(run)) as server, graphpipe.Client(server.url) as client:
        found = client.infer(inputs, list(inputs))
    assert requests[0].places == {0: (0, 0, 800_000), 2: (0, 800_000, 100_000)}
    assert found["text"].tolist() == ["Grüße".encode(), b"\0"]
    for name in ("a", "b", "small", "none", "c"):
        assert found[name].dtype == np.asarray(inputs[name]).dtype
        assert np.array_equal(found[name], inputs[name])


def test_calls_whose_answers_are_large_bring_room_for_them(tmp_path: Path) -> None:
    requests: list[Shown] = []

    def either(caller: Caller) -> None:
        if caller.read_head() == ASKED:
            caller.unread_head()
            looking(run)(caller)
            return
        caller.unread_head()
        while caller.read_request():
            caller.send(answer(outputs(LARGE)))

    def run(shown: Shown) -> bytes:
        requests.append(shown)
        return shown.answer(LARGE)

    with hand_made(tmp_path, either) as server, graphpipe.Client(server.url) as client:
        for _ in range(4):
            assert np.array_equal(client.execute(X), LARGE)
            assert np.array_equal(client.execute_multi([]), [LARGE])
        assert len(requests) == 6
        assert all(not request.places and request.area is not None for request in requests)
        assert np.array_equal(client.execute(X[0]), LARGE)  # of this kind none has been answered yet
        assert len(requests) == 6


def test_of_calls_with_many_words_nothing_is_kept(tmp_path: Path) -> None:
    rooms: list[object] = []

    def run(shown: Shown) -> bytes:
        rooms.append(shown.area)
        return doubled(shown)

    with hand_made(tmp_path, looking(run)) as server, graphpipe.Client(server.url) as client:
        for i in range(4):
            assert np.array_equal(client.execute(LARGE, config="x" * 10_000), 2 * LARGE)
            assert np.array_equal(client.execute(LARGE, f"{i}" * 5000), 2 * LARGE)
    assert rooms == [None] * 8


def test_what_two_threads_copy_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("graphpipe.memory.copying._IN_TWO_FROM", 1)
    monkeypatch.setattr("graphpipe.memory.copying._cpus", lambda: 2)
    odd = np.frombuffer(np.arange(300_001, dtype=np.uint8), bool)
    arrays = [
        LARGE, LARGE[1:], LARGE[None], LARGE[::-1], LARGE.reshape(1, 200, 1000).transpose(0, 2, 1), LARGE[::2][None],
        LARGE.astype(">f8"), odd, odd[::-1], np.broadcast_to(LARGE, (3, len(LARGE))),
    ]  # fmt: skip
    with (
        hand_made(tmp_path, looking(lambda shown: shown.answer(*shown.inputs))) as server,
        graphpipe.Client(server.url) as client,
    ):
        for found, sent in zip(client.execute_multi(arrays), arrays, strict=True):
            assert np.array_equal(found, sent if sent.dtype != bool else sent.view(np.uint8) != 0)


def test_strings_alone_never_ask_for_memory(tmp_path: Path) -> None:
    words = np.array([b"x" * 100] * 20_000, object)
    with hand_made(tmp_path) as server, graphpipe.Client(server.url) as client:
        assert np.array_equal(client.execute(words), words)
        assert server.connections == 1


def test_what_lies_in_memory_that_can_be_shown_is_not_copied(tmp_path: Path) -> None:
    requests: list[Shown] = []

    def run(shown: Shown) -> bytes:
        requests.append(shown)
        return shown.answer(shown.inputs[0][0, :1])

    with hand_made(tmp_path, looking(run)) as server, graphpipe.Client(server.url) as client:
        array = client.empty("x", (2, 50_000), "float32")
        other = client.empty("y", 70_000, np.uint8)
        for i in range(2):
            array[:], other[:] = i, i
            client.execute_multi([array, other, array[1], LARGE])
        first, second = requests
        assert first.inodes == second.inodes
        assert len(set(first.inodes)) == 3
        half = array[1].nbytes
        assert first.places == {
            0: (0, 0, 2 * half), 1: (1, 0, 70_000), 2: (0, half, half), 3: (2, 0, LARGE.nbytes)
        }  # fmt: skip
        assert first.inputs[0].max() == 1  # it is the caller's own array


def test_what_lies_in_memory_that_another_server_may_see_is_copied(tmp_path: Path) -> None:
    """Who is shown a segment sees all of it, and what was in it before."""
    requests: list[Shown] = []

    def run(shown: Shown) -> bytes:
        requests.append(shown)
        return doubled(shown)

    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    with (
        hand_made(tmp_path / "a", looking(run)) as first,
        hand_made(tmp_path / "b", looking(run)) as second,
        graphpipe.Client(first.url) as one,
        graphpipe.Client(second.url) as other,
    ):
        array = one.empty("x", LARGE.shape, "float32")
        array[:] = LARGE
        one.execute(array)
        answer = one.execute(array)
        assert np.array_equal(other.execute(array), 2 * LARGE)
        assert np.array_equal(other.execute(answer), 4 * LARGE)
        seen = [set(request.inodes) for request in requests]
        assert not (seen[0] | seen[1]) & (seen[2] | seen[3])


def test_an_empty_array_has_the_type_that_the_model_takes(tmp_path: Path) -> None:
    def talk(caller: Caller) -> None:
        while caller.read_request():
            caller.send(answer(metadata(["x"], ["y"])))

    with hand_made(tmp_path, talk) as server, graphpipe.Client(server.url) as client:
        array = client.empty("x", (300, 100))
        assert (array.dtype, array.shape, array.flags.writeable) == (np.float32, (300, 100), True)
        assert client.empty("x:0", ()).shape == ()
        assert client.empty("x", (0, 3)).size == 0
        assert client.empty("x", np.int64(100_000)).shape == client.empty("x", [np.int32(100_000)]).shape == (100_000,)
        with pytest.raises(InvalidRequest, match=r"which type an input 'z' is .*dtype='float32'"):
            client.empty("z", 3)
        with pytest.raises(InvalidRequest, match="name is a text"):
            client.empty(3, 3, "float32")  # type: ignore[arg-type]
        with pytest.raises(TypeError):
            client.empty("x", (1.5, 100_000))  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="negative"):
            client.empty("x", (-1, 100_000))
        text = client.empty("x", 100_000, object)
        assert text[0] is None


def test_the_same_code_works_over_tcp(tmp_path: Path) -> None:
    with canned() as server, graphpipe.Client(server.url) as client:
        array = client.empty("x", (300, 100))
        array[:] = 3
        assert np.array_equal(client.execute(array), array)


def test_answers_live_as_long_as_somebody_looks_at_them(tmp_path: Path) -> None:
    with hand_made(tmp_path, looking(doubled)) as server, graphpipe.Client(server.url) as client:
        kept = [client.execute(LARGE + i)[10:] for i in range(20)]
        for i, array in enumerate(kept):
            assert np.array_equal(array, 2 * (LARGE[10:] + i))
            array += 1  # it is the caller's
        assert np.array_equal(client.execute(LARGE), 2 * LARGE)
        assert np.array_equal(kept[3], 2 * (LARGE[10:] + 3) + 1)
    assert np.array_equal(kept[4], 2 * (LARGE[10:] + 4) + 1)


def test_who_keeps_all_answers_runs_out_of_no_descriptors(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with hand_made(tmp_path, looking(doubled)) as server, graphpipe.Client(server.url) as client:
        kept = [client.execute(LARGE[:140_000] + i) for i in range(200)]
        arrays = [client.empty("x", 70_000, np.uint8) for _ in range(200)]
        assert len(os.listdir("/proc/self/fd")) < before + 150
        assert all(np.array_equal(each, 2 * (LARGE[:140_000] + i)) for i, each in enumerate(kept))
        del arrays


# --- servers that cannot, or will not ---------------------------------------------------------------------------------


def other(first: bytes) -> object:
    """A server that answers the wish for memory with these bytes, and all else as ever."""

    def talk(caller: Caller) -> None:
        if caller.read_head() == ASKED:
            if not first:
                return
            caller.send(first)
            if b"Connection: close" in first:
                return
        else:
            caller.unread_head()
        caller.serve()

    return talk


@pytest.mark.parametrize(
    "first",
    [
        answer(b"{}", "200 OK", "Content-Type: application/json"),
        answer(b"what?", "404 Not Found"),
        answer(b"", "503 Service Unavailable", "Connection: close"),
        b"HTTP/1.1 426 Upgrade Required\r\nConnection: close\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: graphpipe-memory/1\r\n\r\nand more",
        b"SSH-2.0-OpenSSH_9.2p1\r\n\r\n",
        b"",
    ],
)
def test_other_servers_get_bytes_and_are_asked_once(tmp_path: Path, first: bytes) -> None:
    asked = []

    def talk(caller: Caller) -> None:
        asked.append(caller.read_head() == ASKED)
        caller.unread_head()
        other(first)(caller)  # type: ignore[operator]

    with hand_made(tmp_path, talk) as server, graphpipe.Client(server.url) as client:
        for i in range(5):
            assert np.array_equal(client.execute(LARGE + i), LARGE + i)
        assert asked.count(True) == 1
        assert server.requests == 5


def test_a_server_that_says_nothing_when_it_is_asked_gets_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("graphpipe.client.same_host.ASKING_S", 0.2)

    def talk(caller: Caller) -> None:
        if caller.read_head() == ASKED:
            caller.read_head()  # until it leaves
        else:
            caller.unread_head()
            caller.serve()

    with hand_made(tmp_path, talk) as server, graphpipe.Client(server.url) as client:
        for _ in range(3):
            assert np.array_equal(client.execute(LARGE), LARGE)
        assert server.connections == 2


def test_a_server_that_refuses_what_it_was_shown_gets_the_same_as_bytes(tmp_path: Path) -> None:
    shown: list[Shown] = []

    def run(request: Shown) -> bytes:
        shown.append(request)
        body = b"".join(encode_infer_response([], [ErrorInfo(2, "descriptors are missing")]))
        return answer(body, "400 Bad Request", "GraphPipe-Memory: refused", "Content-Type: application/vnd.graphpipe")

    with hand_made(tmp_path, looking(run)) as server, graphpipe.Client(server.url) as client:
        for i in range(4):
            assert np.array_equal(client.execute(LARGE + i), LARGE + i)
        assert len(shown) == 1


def test_a_server_of_after_is_asked_again(tmp_path: Path) -> None:
    """It was replaced by one that can."""
    with graphpipe.Client(f"unix:{tmp_path / 'peer.sock'}") as client:
        with hand_made(tmp_path, Caller.serve) as server:
            assert np.array_equal(client.execute(LARGE), LARGE)
            assert server.requests >= 1
        (tmp_path / "peer.sock").unlink()
        with hand_made(tmp_path, looking(doubled)):
            assert np.array_equal(client.execute(LARGE), LARGE)  # by bytes, on a new connection
            assert np.array_equal(client.execute(LARGE), 2 * LARGE)
        (tmp_path / "peer.sock").unlink()
        with hand_made(tmp_path, looking(doubled)) as server:
            for _ in range(3):
                assert np.array_equal(client.execute(LARGE), 2 * LARGE)
            assert server.connections == 1


# --- calls that end badly ---------------------------------------------------------------------------------------------


def test_memory_that_a_server_may_still_look_at_is_never_used_again(tmp_path: Path) -> None:
    looked_at: list[Shown] = []

    def talk(caller: Caller) -> None:
        assert caller.read_head() == ASKED
        caller.send(YES)
        look = Look(caller)
        while (shown := look.request()) is not None:
            looked_at.append(shown)
            if len(looked_at) == 2:
                time.sleep(0.6)  # it does not hear of the caller's timeout
            caller.send(doubled(shown))

    with hand_made(tmp_path, talk) as server, graphpipe.Client(server.url) as client:
        client.execute(LARGE)
        with pytest.raises(TimedOut):
            client.execute(LARGE + 1, timeout=0.2)
        for i in range(2, 6):
            assert np.array_equal(client.execute(LARGE + i), 2 * (LARGE + i))
        late = looked_at[1]
        assert np.array_equal(late.inputs[0], LARGE + 1)
        for later in looked_at[2:]:
            assert not set(later.inodes) & set(late.inodes)


def test_what_a_server_says_that_it_keeps_is_left_to_it(tmp_path: Path) -> None:
    kept: list[Shown] = []

    def run(shown: Shown) -> bytes:
        kept.append(shown)
        return shown.answer(2 * shown.inputs[0], kept="0")

    with hand_made(tmp_path, looking(run)) as server, graphpipe.Client(server.url) as client:
        for i in range(8):
            assert np.array_equal(client.execute(LARGE + i), 2 * (LARGE + i))
    assert len({shown.inodes[0] for shown in kept}) == 8
    for i, shown in enumerate(kept):
        assert np.array_equal(shown.inputs[0], LARGE + i)


def test_an_error_of_the_server_is_an_error_and_nothing_more(tmp_path: Path) -> None:
    def run(shown: Shown) -> bytes:
        body = b"".join(encode_infer_response([], [ErrorInfo(4, "model 'm' failed on this input")]))
        return answer(body, "500 Internal Server Error", "Content-Type: application/vnd.graphpipe")

    with hand_made(tmp_path, looking(run)) as server, graphpipe.Client(server.url) as client:
        for _ in range(3):
            with pytest.raises(ModelFailed, match="failed on this input"):
                client.execute(LARGE)
        assert (server.connections, server.requests) == (1, 3)


def lying(field: str, arrays: list[Array], *more: str, elsewhere: tuple[int, ...] = (0,)) -> bytes:
    body = b"".join(encode_infer_response(arrays, elsewhere=frozenset(elsewhere)))
    return answer(body, "200 OK", f"GraphPipe-Memory: {field}", *more)


@pytest.mark.parametrize(
    ("lie", "words"),
    [
        (lying("0=64+800000", [LARGE]), "leaves the 800000 bytes that were lent"),
        (lying("0=800000+800000", [LARGE]), "leaves the 800000 bytes that were lent"),
        (lying("0=999999999999999999+999999999999999999", [LARGE]), "leaves the 800000 bytes"),
        (lying("0=1+799999", [LARGE]), "does not begin at a multiple of 64"),
        (lying("0=-64+800000", [LARGE]), "does not have the form"),
        (lying("0=0+0", [LARGE]), "does not have the form"),
        (lying("0=0", [LARGE]), "does not have the form"),
        (lying("0=0+1, ", [LARGE]), "does not have the form"),
        (lying("yes", [LARGE]), "does not have the form"),
        (lying("0=0+4096," * 2000, [LARGE]), "does not have the form"),
        (lying("0=0+4096, 0=4096+4096", [LARGE]), "has output 0 twice"),
        (lying("0=0+4096, 1=0+4096", [LARGE, LARGE], elsewhere=(0, 1)), "lie on top of each other"),
        (lying("0=64+4096, 1=0+4096", [LARGE, LARGE], elsewhere=(0, 1)), "lie on top of each other"),
        (lying("0=0+4096", [LARGE]), "needs 800000 bytes, but 4096 came"),
        (lying("1=0+800000", [LARGE], elsewhere=()), "bytes of tensor 1 came beside the message, which has 1 tensors"),
        (lying("0=0+800000", [LARGE], elsewhere=()), "has 800000 bytes in it too"),
        (lying("0=0+4096", [np.array([b"x"], object)], elsewhere=()), "strings travel in it"),
        (answer(b"".join(encode_infer_response([LARGE], elsewhere={0}))), "needs 800000 bytes of data, but 0 came"),
        (answer(outputs(LARGE), "200 OK", "GraphPipe-Memory-Kept: 2"), "the request had 2 descriptors"),
        (answer(outputs(LARGE), "200 OK", "GraphPipe-Memory-Kept: all"), "the request had 2 descriptors"),
        (answer(outputs(LARGE), "200 OK", "GraphPipe-Memory-Kept: 0,"), "the request had 2 descriptors"),
    ],
)
def test_an_answer_that_says_what_cannot_be_is_no_answer(tmp_path: Path, lie: bytes, words: str) -> None:
    answers = [None, lie]

    def run(shown: Shown) -> bytes:
        said = answers.pop(0) if answers else None
        return said or shown.answer(shown.inputs[0])

    with hand_made(tmp_path, looking(run)) as server, graphpipe.Client(server.url) as client:
        client.execute(LARGE)
        with pytest.raises(NoAnswer, match=words):
            client.execute(LARGE + 1)
        assert np.array_equal(client.execute(LARGE + 2), LARGE + 2)


def test_memory_that_nobody_lent_is_no_place_for_answers(tmp_path: Path) -> None:
    with (
        hand_made(tmp_path, looking(lambda shown: lying("0=0+800000", [LARGE]))) as server,
        graphpipe.Client(server.url) as client,
        pytest.raises(NoAnswer, match="was lent no memory for outputs"),
    ):
        client.execute(LARGE)


def test_answers_in_memory_count_towards_the_limit_of_answers(tmp_path: Path) -> None:
    def run(shown: Shown) -> bytes:
        return shown.answer(shown.inputs[0], shown.inputs[0][: int(shown.inputs[0][0])])

    with (
        hand_made(tmp_path, looking(run)) as server,
        graphpipe.Client(server.url, answer_bytes_max=1_000_000) as client,
    ):
        client.execute_multi([LARGE])
        client.execute_multi([LARGE + 10_000])
        with pytest.raises(NoAnswer, match="more than 1000000 bytes"):
            client.execute_multi([LARGE + 60_000])


def test_threads_get_their_own_answers(tmp_path: Path) -> None:
    with hand_made(tmp_path, looking(doubled)) as server, graphpipe.Client(server.url) as client:

        def work(thread: int) -> None:
            kept = [(i, client.execute(LARGE + 1000 * thread + i)) for i in range(15)]
            for i, array in kept:
                assert np.array_equal(array, 2 * (LARGE + 1000 * thread + i))

        with ThreadPoolExecutor(8) as threads:
            list(threads.map(work, range(8)))
