"""What `make test` sends again is what the clients ask today: else scripts/record_clients.py is to be run."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.harness.environment import Unavailable
from scripts import record_clients
from tests.clients.roster import ROSTER, Program
from tests.clients.served import ARGUMENTS
from tests.clients.test_recorded import recorded
from tests.serving import serving

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.mark.parametrize("program", ROSTER, ids=lambda program: program.name)
def test_what_is_recorded_is_what_a_client_asks(program: Program, tmp_path: Path) -> None:
    with serving(*ARGUMENTS, tracebacks=True) as server:
        try:
            record_clients.record(program, server.url.removeprefix("http://"), tmp_path)
        except Unavailable as why:
            pytest.skip(str(why))
    kept = recorded(program)
    today = recorded(program, tmp_path)
    assert [(each["subject"], each["name"], each["way"]) for each in kept] == [
        (each["subject"], each["name"], each["way"]) for each in today
    ]
    assert all(each["sent"] for each in today)
