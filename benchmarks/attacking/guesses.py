"""Keys that are guessed, and heads that never repeat of callers who have one."""

from __future__ import annotations

from pathlib import Path

from benchmarks.attacking.attack import Saw, Scene, attack
from benchmarks.attacking.flood import flood
from benchmarks.harness.innocent import Calls
from benchmarks.harness.messages import post, small
from benchmarks.keying.callers import key_file, new_keys
from benchmarks.keying.refusals import SHARED, wrong_key

# Nobody's key but that of a server which lives for seconds, on this machine alone.
KEY = "gp_" + "innocent" * 5 + "abc"


def _keys(folder: Path) -> tuple[str, ...]:
    return ("--api-key-file", str(key_file(folder / "keys", [KEY, *new_keys(999)])))


@attack(
    "keys that are guessed",
    "8 callers send keys that are none, no two alike, each with more or less of the innocent caller's as its beginning, for "
    "3 s; 1,000 keys are good",
    "--model", "echo", "--access-lines-per-s", 0,
    innocent=Calls(key=KEY), prepare=_keys,
)  # fmt: skip
def guessed(scene: Scene) -> Saw:
    body = small()

    def message(number: int, count: int) -> bytes:
        key = wrong_key(KEY, SHARED[(number + count) % len(SHARED)])
        return post("/", body, "1.1", f"Authorization: Bearer {key}")

    return flood(scene, message)


@attack(
    "heads that never repeat, with a key",
    "8 callers who have a key send a field that never comes again, and each such head twice, for 3 s; 1,000 keys are good",
    "--model", "echo", "--access-lines-per-s", 0,
    innocent=Calls(key=KEY), prepare=_keys,
)  # fmt: skip
def never_again(scene: Scene) -> Saw:
    body = small()

    def message(number: int, count: int) -> bytes:
        return post("/", body, "1.1", f"Authorization: Bearer {KEY}", f"X-Once: {number}-{count // 2}")

    return flood(scene, message)
