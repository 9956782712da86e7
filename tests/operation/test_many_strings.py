"""Many strings cost their caller time, and nobody else: bounded memory, and a loop that goes on."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path

import numpy as np

from graphpipe.server.stages.causes import cause
from graphpipe.server.stages.stage import Request
from graphpipe.wire import decode_infer_response, decode_request, encode_request
from tests.raw_http import call
from tests.serving import Server, serving

MIB = 1 << 20
SMALL = b"".join(encode_request([np.zeros(4, "f4")]))


def shared_empty_strings(count: int) -> bytes:
    """A request with ``count`` strings that are all the same one, which is empty: four bytes for each."""
    message = bytearray(b"".join(encode_request([np.full((1,), b"", object)])))
    shape = message.index((1).to_bytes(8, "little"), 8)
    message[shape : shape + 8] = count.to_bytes(8, "little")
    # The last thing in it is the vector: its count, one offset, and the string, which is a length and a NUL.
    vector = len(message) - 16
    assert message[vector : vector + 8] == (1).to_bytes(4, "little") + (4).to_bytes(4, "little")
    offsets = np.arange(4 * count, 0, -4, dtype="<u4").tobytes()
    return bytes(message[:vector]) + count.to_bytes(4, "little") + offsets + bytes(8)


def memory_of(server: Server, what: str) -> int:
    """Bytes: ``VmRSS`` now, ``VmHWM`` at the most so far."""
    lines = Path(f"/proc/{server.process.pid}/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(what)).split()[1])


@contextlib.contextmanager
def an_innocent_caller(server: Server) -> Iterator[list[float]]:
    """Somebody who sends small requests all the time, and how long each took."""
    waited = [0.0]
    over = threading.Event()

    def ask() -> None:
        connection = HTTPConnection("127.0.0.1", server.port, timeout=60)
        while not over.wait(0.002):
            began = time.perf_counter()
            connection.request("POST", "/", SMALL)
            assert connection.getresponse().read()
            waited.append(time.perf_counter() - began)
        connection.close()

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield waited
    finally:
        over.set()
        thread.join()


def test_the_message_of_these_tests_says_what_it_should() -> None:
    read = decode_request(shared_empty_strings(5))
    assert read.inputs[0].tolist() == [b""] * 5


def test_strings_cost_little_memory_and_nobody_elses_time_and_too_many_are_refused_before_one_is_made() -> None:
    with serving("--model", "echo") as server, an_innocent_caller(server) as waited:
        idle = memory_of(server, "VmRSS")
        answer = call(server.url, "POST", "/", shared_empty_strings(MIB))
        assert answer.status == 200
        assert decode_infer_response(answer.body).outputs[0].size == MIB
        # The request has 4 MiB and the answer 12; 390 before.
        assert memory_of(server, "VmHWM") - idle < 160 * MIB

        message = shared_empty_strings(16 * MIB)
        answer = call(server.url, "POST", "/", message)
        assert answer.status == 413
        assert "16777216 strings or more; at most 1048576 are taken: send fewer rows (--strings-max)" in answer.text
        assert memory_of(server, "VmHWM") - idle < len(message) * 5 // 4 + 160 * MIB
    # 20 ms where nobody else was there; 400, and 10 s for all of them, before.
    assert max(waited) < 2


def test_a_failure_on_very_many_empty_strings_is_told_soon() -> None:
    """What a request's text shares with the words of a failure is masked, and looking for it has an end."""
    strings = np.broadcast_to(np.array(b"", object), (1 << 24,))  # ten of them would be a minute's work
    told = cause(ValueError("no"), Request({"x": strings}, (), "", None))
    assert told.endswith("ValueError: (the request has much text, so its words are left out; --log-values shows them)")
