"""Run the benchmarks: each module of benchmarks/ answers one question and prints its own table.

python scripts/bench.py [NAME...]
"""

import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent.parent / "benchmarks"


def main(names: list[str]) -> None:
    """Run those named, or all, one after another: two at once would measure each other."""
    known = sorted(path.stem for path in FOLDER.glob("[a-z]*.py"))
    if unknown := set(names) - set(known):
        sys.exit(f"there is no benchmark {min(unknown)!r}; benchmarks/ has {', '.join(known) or 'none'}")
    if not known:
        sys.exit("benchmarks/ has none")
    for name in names or known:
        print(f"\n== {name} ==", flush=True)
        if status := subprocess.run([sys.executable, FOLDER / f"{name}.py"], check=False).returncode:
            sys.exit(f"benchmark {name!r} failed with status {status}")


if __name__ == "__main__":
    main(sys.argv[1:])
