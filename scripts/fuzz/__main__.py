"""Run the fuzzers, each for so many seconds, and print what they did.

    python -m scripts.fuzz [--seconds N] [--minimise] [TARGET...]

A fuzzer goes on where its last run ended: .build/fuzz keeps what that reached. A finding is a file there that the table
names; put it into `findings` of tests/fuzz/corpus once it is mended (Go writes its own into clients/go/testdata), or into
the conformance vectors where languages disagreed. --minimise puts into tests/fuzz/corpus the fewest inputs that reach all
that was reached. The status is 0 only if nothing was found; a fuzzer whose toolchain is absent is NOT RUN, which is a
failure where CI=true.
"""

import argparse
import os
import sys

from scripts.fuzz.clients import Clients
from scripts.fuzz.fuzzer import Fuzzer, Outcome, table
from scripts.fuzz.go import Go
from scripts.fuzz.libfuzzer import Atheris, Jazzer

FUZZERS: list[Fuzzer] = [
    Atheris("decoder", "decoder"),
    Atheris("head", "head"),
    Atheris("chunks", "chunks"),
    Atheris("answer", "answer"),
    Atheris("protobuf", "protobuf"),
    Go("go-decoder", "FuzzDecode"),
    Go("go-official", "FuzzDecodedAsTheOfficialRuntimeReads", "oracle"),
    Jazzer("java-decoder", "decoder", "DecoderFuzz"),
    Jazzer("java-answer", "answer", "AnswerFuzz"),
    Clients(),
]


def main() -> int:
    names = [each.name for each in FUZZERS]
    parser = argparse.ArgumentParser(prog="make fuzz", description="Run the fuzzers.")
    parser.add_argument("target", nargs="*", help=f"one of {', '.join(names)}; default: all")
    parser.add_argument("--seconds", type=int, default=60, help="for each target (60)")
    parser.add_argument("--minimise", action="store_true", help="write tests/fuzz/corpus anew from what was reached")
    options = parser.parse_args()
    if unknown := set(options.target) - set(names):
        parser.error(f"there is no target {min(unknown)!r}; there are {', '.join(names)}")
    outcomes = []
    for fuzzer in FUZZERS:
        if options.target and fuzzer.name not in options.target:
            continue
        if why := fuzzer.missing():
            outcomes.append(Outcome(fuzzer.name, not_run=why))
        elif not options.minimise:
            print(f"... {fuzzer.name}", flush=True)
            outcomes.append(fuzzer.fuzz(options.seconds))
        elif isinstance(fuzzer, Atheris):
            print(f"{fuzzer.name}: {fuzzer.minimise()}", flush=True)
    if not options.minimise:
        print(table(outcomes), flush=True)
    not_run = any(each.not_run for each in outcomes)
    return int(any(each.findings for each in outcomes) or (not_run and os.environ.get("CI") == "true"))


if __name__ == "__main__":
    sys.exit(main())
