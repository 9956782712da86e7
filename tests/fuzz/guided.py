"""Run one target under atheris, which follows the coverage: ``python -m tests.fuzz.guided TARGET [libFuzzer's options]``.

The options are those of https://llvm.org/docs/LibFuzzer.html#options; ``make fuzz`` gives them.
"""

from __future__ import annotations

import random
import shlex
import sys
from importlib import import_module
from typing import Any

import atheris

from tests.fuzz import INSTRUMENTED

__all__ = ["main"]

# Our own way of changing an input, once in so many times; libFuzzer's is the other.
_OURS_ONCE_IN = 3


def main(name: str, options: list[str]) -> None:
    with atheris.instrument_imports(include=INSTRUMENTED[name]):
        target: Any = import_module(f"tests.fuzz.{name}")
    words = [*getattr(target, "WORDS", ())]
    if name == "decoder":
        from conformance.fuzz import damage

    def changed(data: bytes, size_max: int, seed: int) -> bytes:
        rng = random.Random(seed)
        if rng.randrange(_OURS_ONCE_IN):
            return bytes(atheris.Mutate(data, size_max))
        message = bytearray(data)
        if words:
            at = rng.randrange(len(message) + 1)
            message[at : at + rng.choice((0, 0, 0, 1, 4, 20))] = rng.choice(words)
        else:
            rest = message[4:]
            damage(rng, rest)
            message[4:] = rest
        return bytes(message[:size_max])

    # To take the fewest inputs of many (-merge=1), libFuzzer starts itself anew through a shell, by its first argument.
    again = f"{shlex.quote(sys.executable)} -m tests.fuzz.guided {name}"
    atheris.Setup([again, *options], target.check, custom_mutator=changed)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
