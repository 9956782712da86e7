"""A server with a certificate and keys, and foreign clients who show theirs as their libraries let them."""

from __future__ import annotations

import base64
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import trustme

from benchmarks.harness.environment import Unavailable
from tests.certificates import Files
from tests.clients.roster import Program
from tests.clients.served import ARGUMENTS
from tests.serving import Server, environment, serving

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
PROGRAMS = (
    ("tritonclient", "guarded_triton.py", {"http", "grpc"}),
    ("kserve", "guarded_kserve.py", {"http", "grpc"}),
    ("tensorflow-serving", "guarded_predict.py", {"grpc"}),
)
SUM = (np.arange(16, dtype=np.int32) + 3).tobytes()


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, str, str]]:
    """A server, the file of the authority that it is certified by, and a key."""
    folder = tmp_path_factory.mktemp("guarded")
    authority, files = trustme.CA(), Files(folder / "tls")
    files.rename(authority.issue_cert("127.0.0.1"))
    authority.cert_pem.write_to_path(str(folder / "authority.pem"))
    keys = folder / "keys.txt"
    added = subprocess.run(
        [str(Path(sys.executable).with_name("graphpipe")), "keys", "add", "--file", keys, "someone", "--scopes", "infer"],
        env=environment(), capture_output=True, text=True, check=True,
    )  # fmt: skip
    key = added.stdout.split()[-1]
    with serving(*ARGUMENTS, *files.flags, "--api-key-file", keys, tracebacks=True) as server:
        yield server, str(folder / "authority.pem"), key


@pytest.mark.parametrize(("name", "file", "ways"), PROGRAMS, ids=[name for name, *_ in PROGRAMS])
def test_a_key_goes_where_a_client_has_room_for_it_and_over_tls(
    name: str, file: str, ways: set[str], guarded: tuple[Server, str, str]
) -> None:
    server, authority, key = guarded
    try:
        lines = Program(name, name, file, (authority, key)).run(server.url.removeprefix("https://"))
    except Unavailable as why:
        pytest.skip(str(why))
    found = {(line["name"], line["way"]): line for line in lines}
    for way in ways:
        refused, answered = found["without", way], found["with", way]
        assert refused["status"] in ("401", "StatusCode.UNAUTHENTICATED"), refused
        assert "key" in refused["error"], refused
        assert base64.b64decode(answered["answer"]["data"]) == SUM
        for question in ("live without", "live with"):
            assert found.get((question, way), {"answer": True})["answer"] is True
