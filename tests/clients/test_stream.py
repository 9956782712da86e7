"""Triton's streams, which are not served here: who opens one is told so, and does not wait."""

from __future__ import annotations

import base64

import numpy as np
import pytest

from benchmarks.harness.environment import Unavailable
from tests.clients.roster import Program
from tests.clients.served import ARGUMENTS
from tests.serving import serving

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def test_a_stream_is_refused_while_it_is_open_and_calls_beside_it_are_answered() -> None:
    with serving(*ARGUMENTS, tracebacks=True) as server:
        try:
            lines = Program("stream", "tritonclient", "stream_triton.py").run(server.url.removeprefix("http://"))
        except Unavailable as why:
            pytest.skip(str(why))
    stream, after = lines
    assert base64.b64decode(after["answer"]["data"]) == (np.arange(16, dtype=np.int32) + 3).tobytes()
    assert "UNIMPLEMENTED" in stream["status"], stream
    assert stream["error"]
