"""What strangers can do to a server, to a process that loads a model, and to clients.

    python benchmarks/attacks.py [NAME...] [--tree PATH] [--repeat 3] [--save] [--docs] [--list]

Each attack starts a process of its own, from the code of --tree (this checkout unless told otherwise; a folder with another,
or a commit), and does what attacking/ says. A server is called meanwhile by an innocent caller on fixed times, from a
process of his own (harness/innocent.py). Printed are: the attacked process's resident memory before, at its peak, and some
seconds after; the innocent caller's latencies before and during the attack, and how many of his calls failed; what the
strangers saw. With --repeat the medians of several times.

--save keeps the figures in benchmarks/results/attacks.json, --docs writes what is kept into docs/reliability.md and
SECURITY.md.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import benchmarks.attacking.answers  # noqa: E402
import benchmarks.attacking.bodies  # noqa: E402
import benchmarks.attacking.connections  # noqa: E402
import benchmarks.attacking.deadlines  # noqa: E402
import benchmarks.attacking.documents  # noqa: E402
import benchmarks.attacking.files  # noqa: E402
import benchmarks.attacking.guesses  # noqa: E402
import benchmarks.attacking.handshakes  # noqa: E402
import benchmarks.attacking.heads  # noqa: E402
import benchmarks.attacking.logs  # noqa: E402
import benchmarks.attacking.loop  # noqa: E402
import benchmarks.attacking.proxied  # noqa: E402
import benchmarks.attacking.room  # noqa: E402
import benchmarks.attacking.shown  # noqa: E402
import benchmarks.attacking.streams  # noqa: E402
import benchmarks.attacking.texts  # noqa: E402,F401
from benchmarks.attacking.attack import ATTACKS, Attack, Scene  # noqa: E402
from benchmarks.attacking.table import RESULTS, line, write_docs  # noqa: E402
from benchmarks.harness.innocent import Innocent  # noqa: E402
from benchmarks.harness.tree import Tree  # noqa: E402

Found = dict[str, dict[str, float]]


def tried(attack: Attack, tree: Tree, quiet_s: float, settle_s: float) -> Found:
    """One attack: the process's memory in bytes, the innocent caller's times, what the strangers saw."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        flags = (*attack.flags, *attack.prepare(folder))
        innocent: Innocent | None = None
        if attack.victim is not None:
            server = stack.enter_context(attack.victim(tree, folder))
            scene = Scene(server, folder)
            attack.first(scene)
        else:
            listen = f"unix:{folder / 's.sock'}" if attack.unix else "127.0.0.1:0"
            server = stack.enter_context(tree.serving(*flags, listen=listen, descriptors=attack.descriptors))
            scene = Scene(server, folder)
            innocent = stack.enter_context(Innocent(scene.path if attack.unix else server.port, attack.innocent))
        began = time.monotonic()
        time.sleep(quiet_s)
        before = server.memory("VmRSS")
        server.forget_peak()
        attacked = time.monotonic()
        saw = attack.run(scene)
        ended = time.monotonic()
        time.sleep(settle_s)
        memory = {"before": before, "peak": server.memory("VmHWM"), "after": server.memory("VmRSS")}
    found: Found = {"memory": memory, "saw": saw, "time": {"attack_s": ended - attacked}}
    if innocent is not None:
        found |= {"alone": innocent.between(began, attacked), "innocent": innocent.between(attacked, ended)}
    return found


def medians(times: list[Found]) -> Found:
    """Of each number; what was not seen at all in some of the times was seen 0 times."""
    keys = {part: dict.fromkeys(key for each in times for key in each[part]) for part in times[0]}
    return {part: {key: median(each[part].get(key, 0) for each in times) for key in keys[part]} for part in keys}


def save(tree: Tree, found: dict[str, Found], times: int) -> None:
    """Put the figures beside those of other attacks, each with the commit that it was measured at."""
    attacks = json.loads(RESULTS.read_text())["attacks"] if RESULTS.exists() else {}
    load = round(os.getloadavg()[0], 1)
    told = {"commit": tree.commit, "times": times, "load average": load}
    attacks |= {name: {**each, **told} for name, each in found.items()}
    kept = {
        "machine": f"{os.cpu_count()} CPUs ({platform.machine()}, Python {platform.python_version()})",
        "attacks": {name: attacks[name] for name in ATTACKS if name in attacks},
    }
    RESULTS.write_text(json.dumps(_rounded(kept), indent=1, sort_keys=False) + "\n")


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
    parser.add_argument("--save", action="store_true", help="keep the figures")
    parser.add_argument(
        "--docs", action="store_true", help="write what is kept into the docs; without --save that is all"
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
        if (each.needs and not tree.has(each.needs)) or (each.program and not shutil.which(each.program)):
            print(f"{each.name}: left out, {each.needs or each.program} is not installed", flush=True)
            continue
        try:
            times = [tried(each, tree, options.quiet_s, options.settle_s) for _ in range(options.repeat)]
        except (OSError, KeyError, RuntimeError, AssertionError, subprocess.CalledProcessError) as error:
            failed.append(f"{each.name}: {type(error).__name__}: {error}")
            print(f"FAILED {failed[-1]}", flush=True)
            continue
        found[each.name] = medians(times)
        print(line(each.name, found[each.name]), flush=True)
        if options.save:
            save(tree, {each.name: found[each.name]}, options.repeat)
    if options.docs:
        write_docs(ATTACKS)
    if failed:
        sys.exit(f"{len(failed)} attacks could not be made, or ended who was attacked")


if __name__ == "__main__":
    main()
