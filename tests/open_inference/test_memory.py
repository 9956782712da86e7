"""Numbers that come as bytes are not copied: not on their way to the model, and not on their way back."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from graphpipe.backends.echo import Echo
from graphpipe.server.models.directory import Directory
from graphpipe.server.models.wiring import build
from graphpipe.server.numbers.counters import Counters
from graphpipe.server.protocols.open_inference.infer import Infer, Served
from graphpipe.server.settings.values import ModelSettings
from tests.open_inference.oracle import Tensor, request
from tests.raw_http import Wire
from tests.serving import serving

MIB = 1 << 20


@pytest.fixture
def served() -> Iterator[Served]:
    (service,) = Directory(build([(ModelSettings("echo", ""), Echo())], Counters(["echo"])))
    yield Served(service, 1 << 20)
    service.close()


@pytest.mark.parametrize("shift", range(8))
def test_an_answer_of_echo_is_the_memory_that_the_request_came_in_wherever_that_begins(
    served: Served, shift: int
) -> None:
    tensors = [Tensor("x", "FP32", (3,), (1.0, 2.0, 3.0)), Tensor("y", "INT64", (2, 2), (1, 2, 3, 4))]
    body, length = request(tensors, {"x", "y"}, id="1" * shift, parameters={"binary_data_output": True})
    assert length is not None
    leased = memoryview(bytearray(body))
    answer = Infer(served, "1", length).answer(leased)
    assert isinstance(answer, tuple)
    _, *sent = answer[0]
    came = np.frombuffer(leased, np.uint8)[length:]
    assert [np.shares_memory(np.frombuffer(each, np.uint8), came) for each in sent] == [True, True]
    assert b"".join(sent) == body[length:]
    assert all(each.readonly for each in sent if isinstance(each, memoryview))


def _status(pid: int) -> Mapping[str, int]:
    lines = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return {name: int(lines[name].split()[0]) * 1024 for name in ("VmRSS", "VmHWM")}


def test_77_mb_are_in_memory_once(tmp_path: Path) -> None:
    array = np.random.default_rng(7).standard_normal((128, 3, 224, 224), np.float32)
    head: dict[str, Any] = {
        "inputs": [
            {
                "name": "x",
                "datatype": "FP32",
                "shape": array.shape,
                "parameters": {"binary_data_size": array.nbytes},
            }
        ],
        "parameters": {"binary_data_output": True},
    }
    text = json.dumps(head).encode()
    with serving("--model", "echo") as server, Wire(server.url) as wire:
        before = _status(server.process.pid)["VmRSS"]
        for _ in range(2):
            wire.send(
                b"POST /v2/models/echo/infer HTTP/1.1\r\nHost: h\r\n"
                b"Inference-Header-Content-Length: %d\r\nContent-Length: %d\r\n\r\n"
                % (len(text), len(text) + array.nbytes)
                + text
            )
            wire.socket.sendall(array.data.cast("B"))
            answer = wire.answer()
            assert answer.status == 200
            at = int(answer.headers["inference-header-content-length"])
            assert answer.body[at:] == array.tobytes()
        most = _status(server.process.pid)["VmHWM"] - before
    assert array.nbytes < most < array.nbytes + 24 * MIB
