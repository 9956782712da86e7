"""What does a key cost a small request, and does a refusal's time tell anything?

    python benchmarks/keys.py [--sockets] [--timing] [--rounds N] [--seconds N] [--calls N] [--json]

Unless told otherwise, it drives the server's own connections in this process, without a socket (keying/nowhere.py).
--sockets asks servers without keys, with a file of one key and with one of 1,000, by turns and over real sockets, at 1
connection and at 64 (keying/sockets.py). --timing sends wrong keys that share more or less of their beginning with a good
one, and says whether the times of their refusals differ by more than their noise (keying/refusals.py). Requests are those of
callers who send 1 KB to echo.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.harness.tree import Tree
from benchmarks.keying import nowhere, refusals, sockets


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sockets", action="store_true", help="over real sockets")
    parser.add_argument("--timing", action="store_true", help="the times of refusals")
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--seconds", type=float, default=0.25, help="of a round over sockets")
    parser.add_argument("--calls", type=int, default=5000, help="of each kind of wrong key")
    parser.add_argument("--json", action="store_true", help="without a socket: print the figures alone")
    options = parser.parse_args()
    if options.json:
        found = nowhere.ratios(nowhere.measure(options.rounds))
        print(json.dumps({kind: beside.value for kind, beside in found.items()}))
        return
    machine = f"{platform.machine()}, {os.cpu_count()} CPUs, Python {platform.python_version()}"
    print(f"{machine}, load average {os.getloadavg()[0]:.1f}")
    if options.sockets:
        print(
            f"medians of {options.rounds} rounds of {options.seconds:g} s each, and of the ratios of neighbours (95 %)"
        )
        print(sockets.table(sockets.measure(options.rounds, options.seconds, Tree())))
    if options.timing:
        print(refusals.table(refusals.measure(options.calls, Tree())))
    if not (options.sockets or options.timing):
        print(f"medians of {options.rounds} rounds of {nowhere.REQUESTS:,} requests")
        print(nowhere.table(nowhere.measure(options.rounds)))


if __name__ == "__main__":
    main()
