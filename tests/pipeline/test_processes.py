"""A stage in Python that has processes of its own: they are busy at the same time, and one that dies takes nobody along."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import graphpipe
from graphpipe.errors import ModelFailed
from tests.isolation.conftest import eventually, is_alive
from tests.serving import Server, serving

MEETING = Path(__file__).with_name("meeting.py")


def text(words: object) -> np.ndarray:
    return np.array(str(words).encode(), object)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    file = tmp_path_factory.mktemp("pipeline") / "pipeline.toml"
    file.write_text(
        f'[[stages]]\nsource = "{MEETING}:Meeting"\nisolate = 2\n\n[[stages]]\nsource = "{MEETING}:both"\n'
        'inputs = { pid = "pid" }\n'
    )
    with serving("--model", file, tracebacks=True) as server:
        yield server


def ask(server: Server, folder: Path, what: str) -> int:
    with graphpipe.Client(server.url, timeout=60) as client:
        return int(client.infer({"folder": text(folder), "what": text(what)})["pid"])


def test_two_processes_of_a_stage_are_inside_a_call_at_the_same_time(server, tmp_path):
    # Each answers only when the other is inside too.
    with ThreadPoolExecutor(2) as callers:
        pids = set(callers.map(lambda _: ask(server, tmp_path, "meet"), range(2)))
    assert len(pids) == 2
    assert server.process.pid not in pids


def test_one_that_dies_is_replaced_while_the_other_is_inside_a_call(server, tmp_path):
    with ThreadPoolExecutor(1) as caller:
        stays = caller.submit(ask, server, tmp_path, "stay")
        eventually(lambda: bool(list(tmp_path.glob("inside-*"))), "nobody came in")
        (inside,) = [int(path.name.partition("-")[2]) for path in tmp_path.glob("inside-*")]
        before = ask(server, tmp_path, "say")
        with pytest.raises(ModelFailed, match="Meeting"):
            ask(server, tmp_path, "die")
        eventually(lambda: not is_alive(before), "it is still there")
        after = ask(server, tmp_path, "say")
        assert len({inside, before, after}) == 3
        assert not stays.done()
        (tmp_path / "go").touch()
        assert stays.result(60) == inside
    # Whoever was inside serves on, beside the new one.
    (tmp_path / "again").mkdir()
    with ThreadPoolExecutor(2) as callers:
        assert set(callers.map(lambda _: ask(server, tmp_path / "again", "meet"), range(2))) == {inside, after}


def test_it_is_so_without_a_server_too(tmp_path):
    with graphpipe.Pipeline([graphpipe.Stage(f"{MEETING}:Meeting", isolate=2)]) as pipeline:
        with ThreadPoolExecutor(2) as callers:
            asked = {"folder": text(tmp_path), "what": text("meet")}
            pids = set(callers.map(lambda _: int(pipeline.infer(asked)["pid"]), range(2)))
    assert len(pids) == 2
