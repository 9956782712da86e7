"""Many calls at once of one foreign client: over many connections by HTTP, as streams of one by gRPC."""

from __future__ import annotations

import pytest

from benchmarks.harness.environment import Unavailable
from tests.clients.roster import Program
from tests.clients.served import ARGUMENTS
from tests.serving import serving

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def test_each_of_hundreds_of_calls_at_once_gets_its_own_answer() -> None:
    with serving(*ARGUMENTS) as server:
        try:
            lines = Program("crowd", "tritonclient", "crowd_triton.py").run(server.url.removeprefix("http://"))
        except Unavailable as why:
            pytest.skip(str(why))
    assert {line["way"] for line in lines} == {"http", "grpc"}
    for line in lines:
        assert line["right"] == line["calls"], line
