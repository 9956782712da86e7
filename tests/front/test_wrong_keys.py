"""A wrong key is refused in the same way however much of a good one it is: nothing can be learnt character by character.

Times are measured by `python benchmarks/keys.py --timing`; here it is what the server does that is compared.
"""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import graphpipe
from benchmarks.keying.refusals import ALPHA, SHARED, chance, wrong_key
from graphpipe.errors import Unauthenticated
from graphpipe.keyfile import digest_of, key_of, new_key, text_of
from graphpipe.server.http.keys import Keys
from graphpipe.server.numbers.counters import Counters
from graphpipe.server.target import Target
from tests.front.servers import InProcess, in_process
from tests.front.test_keys import BODY, WAYS, asked
from tests.raw_http import Wire

OURS = f"{Path(graphpipe.__file__).parent}{os.sep}"
GOOD = [new_key() for _ in range(100)]


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("keys") / "keys"
    lines = (text_of(key_of(f"c{n}", digest_of(key.encode()), ["infer"])) for n, key in enumerate(GOOD))
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


@pytest.fixture(scope="module")
def servers(file: Path) -> Iterator[dict[str, InProcess]]:
    with in_process(api_key_file=str(file)) as tcp, in_process(api_key_file=str(file), listen=f"unix:{file}.s") as unix:
        yield {way: unix if way == "unix" else tcp for way in WAYS}


def way_taken(call: Callable[[], object]) -> list[tuple[str, str, int]]:
    """Every instruction of ours, and every function in C that ours call, one after another."""
    taken: list[tuple[str, str, int]] = []

    def instruction(frame: FrameType, event: str, _: object) -> Any:
        if not frame.f_code.co_filename.startswith(OURS):
            return None
        frame.f_trace_opcodes = True
        taken.append((event, frame.f_code.co_name, frame.f_lasti))
        return instruction

    def called(frame: FrameType, event: str, function: Any) -> None:
        if event == "c_call" and frame.f_code.co_filename.startswith(OURS):
            taken.append((event, function.__name__, frame.f_lasti))

    before = sys.gettrace(), sys.getprofile()
    sys.settrace(instruction)
    sys.setprofile(called)
    try:
        call()
    finally:
        sys.settrace(before[0])
        sys.setprofile(before[1])
    return taken


def test_a_wrong_key_is_compared_by_its_whole_hash_however_much_of_a_good_one_it_is(file: Path) -> None:
    keys = Keys(str(file), Counters())

    def refused(key: str) -> None:
        with pytest.raises(Unauthenticated):
            keys.grant([f"Bearer {key}".encode()])

    refused(wrong_key(GOOD[0], 0))
    ways = [way_taken(partial(refused, wrong_key(key, count))) for key in GOOD for count in SHARED]
    assert all(way == ways[0] for way in ways)
    called = [name for event, name, _ in ways[0] if event == "c_call"]
    assert called.index("openssl_sha256") < called.index("get") < called.index("compare_digest")
    assert not {"startswith", "find", "index"} & set(called)


def test_a_head_with_a_wrong_key_is_read_in_the_same_way_however_much_of_a_good_one_it_is(
    servers: dict[str, InProcess],
) -> None:
    """From its bytes to what refuses it, on the hot route."""
    hub = servers["hot"].app.hub

    def looked_at(key: str) -> list[tuple[str, str, int]]:
        head = asked("hot", "/", BODY, f"Authorization: Bearer {key}")[: -len(BODY)]
        seen: list[Any] = []

        def look() -> None:
            seen.append(hub.request(head))

        way = way_taken(look)
        assert isinstance(seen[0].target, Target)
        assert seen[0].target.service is None
        return way

    def all_of_them() -> list[list[tuple[str, str, int]]]:
        looked_at(wrong_key(GOOD[0], 0))
        return [looked_at(wrong_key(key, count)) for key in GOOD[:10] for count in SHARED]

    ways = servers["hot"].ask(all_of_them)
    assert ("c_call", "compare_digest") in {(event, name) for event, name, _ in ways[0]}
    assert all(way == ways[0] for way in ways)


@pytest.mark.parametrize("way", WAYS)
def test_a_wrong_key_is_told_the_same_however_much_of_a_good_one_it_is(servers: dict[str, InProcess], way: str) -> None:
    said = set()
    for key in GOOD[:3]:
        for count in SHARED:
            with Wire(servers[way].url, 10) as wire:
                wire.send(asked(way, "/", BODY, f"Authorization: Bearer {wrong_key(key, count)}"))
                answer = wire.answer()
            said.add((answer.status, answer.body, *sorted(set(answer.headers.items()) - {*_dates(answer)})))
    assert len(said) == 1
    assert next(iter(said))[0] == 401


def _dates(answer: Any) -> list[tuple[str, str]]:
    return [(name, value) for name, value in answer.headers.items() if name == "date"]


def test_the_test_of_ranks_sees_a_difference_that_is_there_and_none_that_is_not() -> None:
    draw = random.Random(7)
    noise = [[draw.lognormvariate(0, 1) for _ in range(2000)] for _ in range(5)]
    assert chance(noise) > 0.01
    noise[3] = [value * 1.2 for value in noise[3]]
    assert chance(noise) < ALPHA
    # By hand: ranks 1 to 3, 4 to 6; H = 3.857, and that beyond chi squared of one degree.
    assert chance([[1, 2, 3], [4, 5, 6]]) == pytest.approx(0.04953, abs=1e-4)
    # And of two degrees: e to the power of -H/2, with H = 7.2.
    assert chance([[1, 2, 3], [4, 5, 6], [7, 8, 9]]) == pytest.approx(0.02732, abs=1e-4)
