"""Does the time of a refusal tell how much of a wrong key is right?

Wrong keys share so many of their first characters with one that is good, and are as long; each is sent once. Kinds are asked
in an order that is drawn anew every time, and one kind is asked as two, which shows what chance alone makes of it. The test
is of ranks (Kruskal and Wallis'): it asks whether the times of any kind tend to be longer, and does not mind a machine that
now and then stands still.
"""

from __future__ import annotations

import math
import random
import secrets
import string
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

from benchmarks.harness.strangers import answer, connect
from benchmarks.harness.tree import Tree
from benchmarks.keying.callers import key_file, new_keys, request
from graphpipe.errors import Unauthenticated
from graphpipe.server.http.keys import Keys
from graphpipe.server.numbers.counters import Counters

__all__ = ["Times", "chance", "measure", "shared", "table", "wrong_key"]

LETTERS = string.ascii_letters + string.digits + "-_"
SHARED = (0, 1, 8, 20, -1)  # -1: all but one
AGAIN = "none of them, asked as another kind"
ALPHA = 0.001
Times = dict[str, dict[str, list[float]]]


def shared(count: int) -> str:
    """What such a kind is called."""
    return "all but the last one" if count < 0 else f"the first {count}" if count else "none of them"


def wrong_key(key: str, count: int) -> str:
    """As long as a key, with so many of its first characters and not one more; -1 is all but one."""
    at = len(key) - 1 if count < 0 else count
    other = secrets.choice(LETTERS.replace(key[at], ""))
    return key[:at] + other + "".join(secrets.choice(LETTERS) for _ in key[at + 1 :])


def measure(calls: int, tree: Tree) -> Times:
    """Microseconds of refusals by where they are timed and by kind: in the server's own process, and over a socket."""
    with tempfile.TemporaryDirectory() as folder:
        keys = new_keys()
        file = key_file(Path(folder, "keys"), keys)
        found = {"without a socket": _asked(keys, calls, _deciding(file))}
        flags = ("--model", "echo", "--access-lines-per-s", "0", "--api-key-file", str(file))
        with tree.serving(*flags) as server, connect(server.port) as connection:

            def refused(key: str) -> float:
                message = request(key)
                began = time.perf_counter_ns()
                status, _ = answer(connection, message)
                took = time.perf_counter_ns() - began
                assert status == "401", status
                return took / 1000

            found["over a socket"] = _asked(keys, calls, refused)
    return found


def _deciding(file: Path) -> Callable[[str], float]:
    keys = Keys(str(file), Counters())

    def refused(key: str) -> float:
        field = [f"Bearer {key}".encode()]
        began = time.perf_counter_ns()
        try:
            keys.grant(field)
        except Unauthenticated:
            return (time.perf_counter_ns() - began) / 1000
        raise AssertionError("a wrong key is good")

    return refused


def _asked(keys: Sequence[str], calls: int, refused: Callable[[str], float]) -> dict[str, list[float]]:
    kinds = {shared(count): count for count in SHARED} | {AGAIN: 0}
    warm = calls // 10  # rounds that do not count
    # All keys are made before: what it takes to make one would leave its mark on the time of the next refusal.
    rounds = [
        [(kind, wrong_key(keys[number % len(keys)], kinds[kind])) for kind in random.sample(list(kinds), len(kinds))]
        for number in range(calls + warm)
    ]
    found: dict[str, list[float]] = {kind: [] for kind in kinds}
    for number, each in enumerate(rounds):
        for kind, key in each:
            took = refused(key)
            if number >= warm:
                found[kind].append(took)
    return found


def chance(samples: Sequence[Sequence[float]]) -> float:
    """How likely chance alone makes ranks differ as much as these do, or more: Kruskal and Wallis' test."""
    everything = sorted((value, number) for number, sample in enumerate(samples) for value in sample)
    total, ties = len(everything), 0
    sums = [0.0] * len(samples)
    at = 0
    while at < total:
        end = at
        while end < total and everything[end][0] == everything[at][0]:
            end += 1
        for _, number in everything[at:end]:
            sums[number] += (at + 1 + end) / 2
        ties += (end - at) ** 3 - (end - at)
        at = end
    spread = sum(of * of / len(sample) for of, sample in zip(sums, samples, strict=True))
    statistic = 12 / (total * (total + 1)) * spread - 3 * (total + 1)
    return _beyond(statistic / (1 - ties / (total**3 - total)), len(samples) - 1)


def _beyond(value: float, freedom: int) -> float:
    """How likely chi squared is beyond a value: a finite sum for whole degrees of freedom."""
    half = value / 2
    if freedom % 2:
        tail = math.erfc(math.sqrt(half))
        terms = [half ** (k - 0.5) / math.gamma(k + 0.5) for k in range(1, (freedom - 1) // 2 + 1)]
    else:
        tail = 0.0
        terms = [half**k / math.gamma(k + 1) for k in range(freedom // 2)]
    return tail + math.exp(-half) * sum(terms)


def table(times: Times) -> str:
    """Medians of each kind, and whether they differ by more than chance makes of it."""
    lines = []
    for where, kinds in times.items():
        count = len(next(iter(kinds.values())))
        lines.append(f"{where}: {count:,} refusals of each kind of wrong key, whose characters are right, of 46:")
        lines += [f"  {kind:<38}{median(values):>9.2f} us" for kind, values in kinds.items()]
        likely = chance(list(kinds.values()))
        said = "differ by more than their noise" if likely < ALPHA else "do not differ by more than their noise"
        lines.append(f"  the times {said}: chance alone does that with p = {likely:.3g} (Kruskal-Wallis)")
    return "\n".join(lines)
