"""Damaged messages, read in every language: whatever they are, all say the same of them.

    python conformance/fuzz.py [--messages N | --seconds N] [--seed N] [--only LANGUAGE ...]

Each message is a vector, or what a fuzzer of a single language came upon (tests/fuzz/corpus), damaged at some places, or
two of them in one. The languages are all whose toolchains are here. What one refuses all refuse, for the same reason;
what they read is the same, and what the official FlatBuffers library reads. What they disagree about is shown as a vector
would have it, and belongs into the vectors once it is decided.
"""

from __future__ import annotations

import argparse
import base64
import json
import random
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from conformance.cases import expand_bytes, groups
from conformance.languages import LANGUAGES, Language
from conformance.official import difference
from scripts.run_tests import environment
from tests.fuzz.corpus import inputs

__all__ = ["damage", "damaged", "differences"]

# What is longer takes longer to read than it finds.
_SEED_BYTES_MAX = 1500
_BATCH = 20_000
# Numbers at which readers go wrong.
_NUMBERS = (0, 1, 2, 3, 4, 5, 6, 7, 8, 12, 13, 16, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFE, 0xFFFF, 2**20, 2**28, 2**29,
            2**30, 2**31 - 1, 2**31, 2**32 - 4, 2**32 - 1)  # fmt: skip
_KINDS = ("request", "infer_response", "metadata_response")


def damaged(count: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """So many messages and their kinds, always the same for one seed."""
    rng = random.Random(seed)
    good, bad = [*_seeds("valid"), *_found()], _seeds("invalid", "attacks")
    for _ in range(count):
        # Those that are right lead further than those that are refused.
        kind, content = rng.choice(good if rng.random() < 0.9 else bad)
        changed = bytearray(content)
        for _ in range(rng.choice((1, 1, 1, 1, 2, 2, 3, 5))):
            damage(rng, changed, good)
        yield kind if rng.random() < 0.97 else rng.choice(_KINDS), bytes(changed)


@lru_cache
def _seeds(*names: str) -> list[tuple[str, bytes]]:
    """The messages of these groups that are short."""
    short = [vector for name in names for vector in groups()[name] if isinstance(vector["bytes"], str)]
    found = [(vector["message"], expand_bytes(vector["bytes"])) for vector in short]
    return [(kind, content) for kind, content in found if 8 <= len(content) <= _SEED_BYTES_MAX]


@lru_cache
def _found() -> list[tuple[str, bytes]]:
    """What the decoder's fuzzers came upon: the first of four bytes before each message says of which kind it is."""
    return [(_KINDS[each[0] % 3], each[4:]) for each in inputs("decoder") if len(each) >= 12]


def damage(rng: random.Random, message: bytearray, others: Sequence[tuple[str, bytes]] = ()) -> None:
    """Change a message in place, at one place that is likely to matter."""
    size = len(message)
    if size < 8:
        message += bytes(8)
        return
    way = rng.random()
    if way < 0.25:
        message[rng.randrange(size)] = rng.randrange(256)
    elif way < 0.4:
        at = rng.randrange(size)
        message[at] = (message[at] + rng.choice((-8, -4, -2, -1, 1, 2, 4, 8))) % 256
    elif way < 0.55:
        struct.pack_into("<H", message, 2 * rng.randrange(size // 2), rng.choice(_NUMBERS) & 0xFFFF)
    elif way < 0.7:
        struct.pack_into(
            "<I", message, 4 * rng.randrange(size // 4), rng.choice((*_NUMBERS, size, size - 4, rng.randrange(size)))
        )
    elif way < 0.8:  # an offset that leads to something else, or a count that is another
        at = 4 * rng.randrange(size // 4)
        struct.pack_into("<I", message, at, max(0, 4 * rng.randrange(size // 4) - at))
    elif way < 0.86:
        del message[rng.randrange(size) :]
    elif way < 0.9:
        message += bytes(rng.randrange(16))
    elif way < 0.94:
        at, length = rng.randrange(size), rng.randrange(1, 9)
        message[at : at + length] = b"" if rng.random() < 0.5 else bytes(length)
    elif way < 0.97 or not others:
        a, b, length = rng.randrange(size), rng.randrange(size), rng.choice((2, 4, 8, 16))
        message[a : a + length] = message[b : b + length]
    else:
        other = rng.choice(others)[1]
        at, length = rng.randrange(len(other)), rng.choice((4, 8, 16, 32))
        place = min(at, size - 1)
        message[place : place + length] = other[at : at + length]


def differences(
    messages: Sequence[tuple[str, bytes]], languages: Sequence[Language]
) -> tuple[list[dict[str, Any]], Counter[str]]:
    """What languages disagree about, among themselves or with the official library, and how often each outcome came."""
    lines = [
        json.dumps({"id": str(i), "op": "decode", "message": kind, "bytes": base64.b64encode(content).decode()})
        for i, (kind, content) in enumerate(messages)
    ]
    text = ("\n".join(lines) + "\n").encode()
    said: dict[str, list[Any]] = {}

    def ask(language: Language) -> None:
        with tempfile.TemporaryFile() as asked:
            asked.write(text)
            asked.seek(0)
            done = subprocess.run(language.command, stdin=asked, capture_output=True, env=environment(), check=False)
        said[language.name] = [json.loads(line) for line in done.stdout.splitlines()]
        if len(said[language.name]) != len(messages):
            raise RuntimeError(f"{language.name}: {len(said[language.name])} answers: {done.stderr[-500:]!r}")

    threads = [threading.Thread(target=ask, args=(language,)) for language in languages]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if len(said) != len(languages) or len({len(answers) for answers in said.values()}) > 1:
        raise RuntimeError("an adapter died")
    found = []
    counts: Counter[str] = Counter()
    for i, (kind, content) in enumerate(messages):
        answers = {name: said[name][i] for name in said}
        first = next(iter(answers.values()))
        counts[first.get("error", "read")] += 1
        if first.get("ok") and all(answer == first for answer in answers.values()):
            official = difference(kind, content, first["value"])
            if official is not None:
                answers["official"] = official
        if any(answer != first for answer in answers.values()):
            found.append({"message": kind, "bytes": base64.b64encode(content).decode(), "said": answers})
    return found, counts


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--seconds", type=int, help="so long, however many messages that are")
    parser.add_argument("--seed", type=int, default=13)
    parser.add_argument("--only", choices=[language.name for language in LANGUAGES], nargs="+")
    options = parser.parse_args()
    languages = [each for each in LANGUAGES if not each.missing and (not options.only or each.name in options.only)]
    for language in languages:
        language.prepare()
    print(f"{', '.join(each.name for each in languages)}; seed {options.seed}", flush=True)
    began, done, bad = time.monotonic(), 0, 0
    counts: Counter[str] = Counter()
    while (time.monotonic() - began < options.seconds) if options.seconds else (done < options.messages):
        size = _BATCH if options.seconds else min(_BATCH, options.messages - done)
        batch = list(damaged(size, options.seed * 1_000_003 + done))
        found, more = differences(batch, languages)
        counts += more
        done, bad = done + len(batch), bad + len(found)
        for each in found[:5]:
            print(json.dumps(each)[:2000], flush=True)
        told = ", ".join(f"{count:,} {outcome}" for outcome, count in counts.most_common())
        print(f"{done:,} messages: {bad} differences; {told}; {time.monotonic() - began:.0f} s", flush=True)
        if bad > 20:
            break
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
