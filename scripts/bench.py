"""Run the benchmarks: each module of benchmarks/ answers one question and prints its own table.

python scripts/bench.py [--full] [--set-up] [NAME...]

Without names, the questions of docs/performance.md in their short form, kept in benchmarks/results/. --set-up makes
the environments that they need and measures nothing.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
FOLDER = ROOT / "benchmarks"
NOT_QUESTIONS = {"page"}


def main() -> None:
    """Run those named, or all questions, one after another: two at once would measure each other."""
    from benchmarks.harness.drawing import QUESTIONS

    known = sorted({path.stem for path in FOLDER.glob("[a-z]*.py")} - NOT_QUESTIONS)
    parser = argparse.ArgumentParser(description="Run the benchmarks, one after another.")
    parser.add_argument("--full", action="store_true", help="the long form of the questions")
    parser.add_argument(
        "--set-up", action="store_true", help="make the environments of peers and formats, measure nothing"
    )
    parser.add_argument("name", nargs="*", help=f"one of {', '.join(known)}; default: {', '.join(QUESTIONS)}")
    options = parser.parse_args()
    if unknown := set(options.name) - set(known):
        parser.error(f"there is no benchmark {min(unknown)!r}; benchmarks/ has {', '.join(known)}")
    if options.set_up:
        set_up()
        return
    began = time.monotonic()
    for name in options.name or QUESTIONS:
        print(f"\n== {name} ==", flush=True)
        flags = ["--save", *(["--full"] if options.full else [])] if name in QUESTIONS else []
        if status := subprocess.run([sys.executable, FOLDER / f"{name}.py", *flags], check=False).returncode:
            sys.exit(f"benchmark {name!r} failed with status {status}")
    print(f"\n{(time.monotonic() - began) / 60:.1f} minutes", flush=True)


def set_up() -> None:
    """Make every environment, and say which will not be made, and why: a peer that is not there is left out."""
    from benchmarks.harness.environment import Unavailable
    from benchmarks.harness.environments import ENVIRONMENTS

    for environment in ENVIRONMENTS.values():
        began = time.monotonic()
        was_there = environment.is_there()
        try:
            environment.make()
        except Unavailable as problem:
            print(f"{environment.name:16} NOT MADE: {problem}", flush=True)
        else:
            took = "was there" if was_there else f"{time.monotonic() - began:.0f} s"
            print(f"{environment.name:16} {environment.megabytes():7,.0f} MB  {took}", flush=True)


if __name__ == "__main__":
    main()
