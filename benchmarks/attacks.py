"""What strangers can do to a server, and to an innocent caller beside them.

    python benchmarks/attacks.py [NAME...] [--tree PATH] [--repeat 3] [--save before|after] [--docs] [--list]

Each attack starts a server of its own, from the code of --tree (this checkout unless told otherwise; a folder with another,
or a commit), lets an innocent caller call it on fixed times from a process of his own
(harness/innocent.py), and does what attacking/ says. Printed are: the server's resident memory above what it had before, at
its peak and some seconds later; the innocent caller's latencies before and during the attack, and how many of his calls
failed; what the strangers saw. With --repeat the medians of several times.

--save keeps the figures in benchmarks/results/attacks.json as one of two columns, --docs writes both into
docs/reliability.md. To have them anew:

    python benchmarks/attacks.py --tree COMMIT --save before && python benchmarks/attacks.py --save after --docs
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import benchmarks.attacking.connections  # noqa: E402
import benchmarks.attacking.logs  # noqa: E402
import benchmarks.attacking.loop  # noqa: E402
import benchmarks.attacking.proxied  # noqa: E402
import benchmarks.attacking.room  # noqa: E402
import benchmarks.attacking.texts  # noqa: E402,F401
from benchmarks.attacking.attack import ATTACKS, Attack, Scene  # noqa: E402
from benchmarks.attacking.table import RESULTS, line, write_docs  # noqa: E402
from benchmarks.harness.innocent import Innocent  # noqa: E402
from benchmarks.harness.tree import Tree  # noqa: E402

Found = dict[str, dict[str, float]]


def tried(attack: Attack, tree: Tree, quiet_s: float, settle_s: float) -> Found:
    """One attack: memory in bytes above the idle server's, the innocent caller's times, what the strangers saw."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        flags = (*attack.flags, *attack.prepare(folder))
        server = stack.enter_context(tree.serving(*flags, descriptors=attack.descriptors))
        innocent = stack.enter_context(Innocent(server.port, attack.innocent))
        began = time.monotonic()
        time.sleep(quiet_s)
        idle = server.memory("VmRSS")
        server.forget_peak()
        attacked = time.monotonic()
        saw = attack.run(Scene(server, folder))
        ended = time.monotonic()
        time.sleep(settle_s)
        peak, left = server.memory("VmHWM") - idle, server.memory("VmRSS") - idle
    return {
        "memory": {"peak": peak, "left": left},
        "alone": innocent.between(began, attacked),
        "innocent": innocent.between(attacked, ended),
        "saw": saw,
        "time": {"attack_s": ended - attacked},
    }


def medians(times: list[Found]) -> Found:
    """Of each number; what was not seen at all in some of the times was seen 0 times."""
    keys = {part: dict.fromkeys(key for each in times for key in each[part]) for part in times[0]}
    return {part: {key: median(each[part].get(key, 0) for each in times) for key in keys[part]} for part in keys}


def save(column: str, tree: Tree, found: dict[str, Found], times: int) -> None:
    """Put the figures beside those of the other column, and of other attacks on the same commit."""
    columns = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    kept = columns.get(column, {})
    attacks = kept["attacks"] if kept.get("commit") == tree.commit else {}
    attacks |= {name: {**each, "times": times} for name, each in found.items()}
    columns[column] = {
        "commit": tree.commit,
        "machine": f"{os.cpu_count()} CPUs ({platform.machine()}, Python {platform.python_version()})",
        "load average": round(os.getloadavg()[0], 1),
        "attacks": {name: attacks[name] for name in ATTACKS if name in attacks},
    }
    RESULTS.write_text(json.dumps(_rounded(columns), indent=1, sort_keys=False) + "\n")


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(each) for key, each in value.items()}
    return float(f"{value:.4g}") if isinstance(value, float) else value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", nargs="*", help="attacks whose names begin so; all if none is given")
    parser.add_argument("--tree", default=str(ROOT), help="a folder with a checkout, or a commit")
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--quiet-s", type=float, default=1.5, help="how long the innocent caller is alone first")
    parser.add_argument("--settle-s", type=float, default=3.0, help="how long memory may take to come back")
    parser.add_argument("--save", metavar="COLUMN", help="before and after are what the docs show")
    parser.add_argument(
        "--docs", action="store_true", help="write what is saved into docs/reliability.md; without --save that is all"
    )
    parser.add_argument("--list", action="store_true", help="say what the attacks are, and end")
    options = parser.parse_args()
    chosen = [each for each in ATTACKS.values() if not options.name or each.name.startswith(tuple(options.name))]
    if not chosen:
        sys.exit(f"no attack begins with {options.name}; --list names them all")
    if options.list:
        print("\n".join(f"{each.name}: {each.does}" for each in chosen))
        return
    if options.docs and not options.save:
        write_docs(ATTACKS)
        return
    tree = Tree(options.tree)
    print(f"{options.tree} at {tree.commit}, load average {os.getloadavg()[0]:.1f}", flush=True)
    found: dict[str, Found] = {}
    failed: list[str] = []
    for each in chosen:
        if each.needs and not tree.has(each.needs):
            print(f"{each.name}: left out, {each.needs} is not installed", flush=True)
            continue
        try:
            times = [tried(each, tree, options.quiet_s, options.settle_s) for _ in range(options.repeat)]
        except (OSError, KeyError, RuntimeError) as error:
            failed.append(f"{each.name}: {type(error).__name__}: {error}")
            print(f"FAILED {failed[-1]}", flush=True)
            continue
        found[each.name] = medians(times)
        print(line(each.name, found[each.name]), flush=True)
        if options.save:
            save(options.save, tree, found, options.repeat)
    if options.docs:
        write_docs(ATTACKS)
    if failed:
        sys.exit(f"{len(failed)} attacks could not be made, or ended the server")


if __name__ == "__main__":
    main()
