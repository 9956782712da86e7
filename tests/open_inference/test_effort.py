"""What would keep the event loop busy is written down in a thread, whatever makes it much."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from graphpipe.backends.echo import Echo
from graphpipe.server.models.directory import Directory
from graphpipe.server.models.wiring import build
from graphpipe.server.numbers.counters import Counters
from graphpipe.server.protocols.graphpipe import GraphPipeEndpoint
from graphpipe.server.protocols.open_inference.infer import Infer, Served
from graphpipe.server.protocols.protocol import Endpoint
from graphpipe.server.protocols.room import UNLIMITED
from graphpipe.server.settings.values import ModelSettings
from graphpipe.wire.messages import encode_request
from tests.open_inference.oracle import Tensor, request

GIVEN: dict[str, Mapping[str, Any]] = {
    "a little": {"y": np.zeros(3, "f4")},
    "one long string": {"y": np.array([b"a" * 100_000], object)},
    "strings that are long together": {"y": np.array([b"a" * 1000] * 100, object)},
    "many small outputs": {f"y{i}": np.zeros((), "f4") for i in range(1000)},
    "small outputs that are much together": {f"y{i}": np.zeros(1000, "f4") for i in range(100)},
}


class Giving(Echo):
    """A quick model that gives what it is told to."""

    def infer(self, inputs: Any, outputs: Any = None, *, config: str = "") -> Any:
        return dict(GIVEN[config])


def endpoint_of(protocol: str, what: str) -> tuple[Endpoint, bytes]:
    """The endpoint, and a request that gets what is GIVEN under this name."""
    (service,) = Directory(build([(ModelSettings("m", ""), Giving())], Counters(["m"])))
    if protocol == "graphpipe":
        return GraphPipeEndpoint(service, 1000, UNLIMITED), b"".join(
            encode_request([np.ones(1, "f4")], ["x"], [], what)
        )
    x = Tensor("x", "FP32", (1,), (1.0,))
    body, _ = request([x], parameters={"config": what, "binary_data_output": protocol == "bytes"})
    return Infer(Served(service, 1000), "1", None), body


@pytest.mark.parametrize(
    ("protocol", "what", "is_much"),
    [
        ("JSON", "a little", False),
        ("JSON", "one long string", True),
        ("JSON", "strings that are long together", True),
        ("JSON", "many small outputs", True),
        ("JSON", "small outputs that are much together", True),
        ("bytes", "a little", False),
        ("bytes", "one long string", True),
        ("bytes", "strings that are long together", True),
        ("bytes", "many small outputs", True),
        ("bytes", "small outputs that are much together", False),
        ("graphpipe", "a little", False),
        ("graphpipe", "one long string", True),
        ("graphpipe", "strings that are long together", True),
    ],
)
def test_an_answer_that_is_much_in_whatever_way_is_not_written_on_the_event_loop(
    protocol: str, what: str, is_much: bool
) -> None:
    endpoint, body = endpoint_of(protocol, what)

    async def main() -> None:
        answer = endpoint.answer(body)
        assert isinstance(answer, tuple) is not is_much
        segments, *_ = answer if isinstance(answer, tuple) else await answer
        assert segments

    asyncio.run(main())
