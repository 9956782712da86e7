"""How fast are others with the same model, on this machine, in the same minute?

    python benchmarks/peers.py [--only NAME,...] [--callers 1,8] [--rounds N] [--full] [--save]

Each peer is installed in an environment of its own, started once, and asked by turns with ours: ours, the peer, ours, the
peer, with the model alone in this process's place (the limit) between them, forwards and backwards. Whoever is not being
asked is stopped (SIGSTOP): some servers take time from their neighbours even when nobody asks them. The models are the same
files for all, run by the same ONNX Runtime, two calls at once with one thread each: identity (1 KB of float32 in and
out) and squeezenet (a 600 KB image in, 4 KB out). What asks is a load generator on the same two cores that sends prebuilt
bytes; `clients` is about the client that the peer's own documents show, from array to array, one caller.

Columns: `answers/s` are medians over the rounds, `x` is ours by theirs: the median of the ratios of neighbouring turns, and
`95 % of x` between what it lies by a bootstrap of the pairs; `p99` is over all answers of all rounds; `of the
limit` is beside what two threads get that call the model back to back, with nothing to serve, in the same round.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.harness.about import about  # noqa: E402
from benchmarks.harness.environment import Unavailable  # noqa: E402
from benchmarks.harness.question import answer  # noqa: E402
from benchmarks.harness.result import Result, Table  # noqa: E402
from benchmarks.harness.rounds import Ratio, middle, ratio  # noqa: E402
from benchmarks.harness.secluded import is_secluded, seclude  # noqa: E402
from benchmarks.harness.turns import Failed, Generator, pooled  # noqa: E402
from benchmarks.peering.asking import Asking, Bench, Server  # noqa: E402
from benchmarks.peering.models import SHAPES  # noqa: E402
from benchmarks.peering.roster import OURS, PEERS, Peer  # noqa: E402

CALLERS = {"identity": (1, 16), "squeezenet": (8,)}
TURN_S = {"identity": 0.15, "squeezenet": 0.4}
FULL_CALLERS = {"identity": (1, 4, 8, 16), "squeezenet": (1, 4, 8, 16)}
FULL_TURN_S = {"identity": 1.0, "squeezenet": 2.0}
ROUNDS, FULL_ROUNDS = 5, 7
CONTENDER = "mosec"  # the one whose processes came nearest where cores are contended
CONTENDED_CALLERS = (1, 4, 8, 16)
NOT_INSTALLED = "BENCHMARK_NOT_INSTALLED"  # where those that will not install are said with the reason


def between(found: Ratio) -> list[float]:
    return [found.low, found.high]


def _load(peer: Peer, asking: Asking, options: argparse.Namespace, tables: dict[str, Table]) -> None:
    """Ask one peer by the load generator, and put what was found into the tables."""
    for model in SHAPES:
        for callers in options.callers_of[model]:
            try:
                found = asking.load(model, callers, options.turn_s[model], limit=model == "squeezenet")
            except Failed as problem:
                tables[model].notes.append(f"{peer.name} with {callers} callers: {problem}")
                continue
            x = ratio(found, "ours", "theirs", "per_second")
            row: dict[str, Any] = {
                "peer": peer.name,
                "form": peer.form.name,
                "callers": callers,
                "ours_s": middle(found["ours"], "per_second"),
                "theirs_s": middle(found["theirs"], "per_second"),
                "x": x.value,
                "between": between(x),
                "ours_p99": pooled(found["ours"], 0.99),
                "theirs_p99": pooled(found["theirs"], 0.99),
            }
            if "limit" in found:
                row["ours_share"] = ratio(found, "ours", "limit", "per_second").value
                row["theirs_share"] = ratio(found, "theirs", "limit", "per_second").value
            tables[model].rows.append(row)


def _contended(peer: Peer, asking: Asking, options: argparse.Namespace, table: Table) -> None:
    """The same with a process that takes a whole core, and without it, by number of callers."""
    for busy in ("", "yes"):
        burner = subprocess.Popen([sys.executable, "-c", "while True: pass"], start_new_session=True) if busy else None
        try:
            for callers in CONTENDED_CALLERS:
                found = asking.load("squeezenet", callers, options.turn_s["squeezenet"], limit=False)
                x = ratio(found, "ours", "theirs", "per_second")
                table.rows.append(
                    {"peer": peer.name, "busy": busy, "callers": callers, "x": x.value, "between": between(x)}
                    | {f"{who}_s": middle(found[who], "per_second") for who in ("ours", "theirs")}
                    | {f"{who}_p99": pooled(found[who], 0.99) for who in ("ours", "theirs")}
                )
        except Failed as problem:
            table.notes.append(f"{peer.name}: {problem}")
        finally:
            if burner is not None:
                burner.kill()
                burner.wait()


def tables_for(options: argparse.Namespace) -> dict[str, Table]:
    loaded = {
        "peer": "beside GraphPipe",
        "form": "request",
        "callers": "callers",
        "theirs_s": "theirs, answers/s",
        "ours_s": "ours, answers/s",
        "x": "x",
        "between": "95 % of x",
        "theirs_p99": "theirs, p99 ms",
        "ours_p99": "ours, p99 ms",
    }
    return {
        "identity": Table("1 KB there and back, prebuilt bytes", loaded),
        "squeezenet": Table(
            "Squeezenet, a 600 KB image a request, prebuilt bytes",
            {**loaded, "theirs_share": "theirs, of the limit", "ours_share": "ours, of the limit"},
        ),
        "contended": Table(
            "Squeezenet by number of callers, and with a process beside that takes one of the cores",
            {
                "peer": "beside GraphPipe",
                "busy": "a core is busy",
                "callers": "callers",
                "theirs_s": "theirs, answers/s",
            }
            | {"ours_s": "ours, answers/s", "x": "x", "between": "95 % of x"}
            | {"theirs_p99": "theirs, p99 ms", "ours_p99": "ours, p99 ms"},
        ),
        "clients": Table(
            "1 KB there and back by the client that each recommends, from array to array, one caller",
            {
                "peer": "beside GraphPipe",
                "client": "client",
                "theirs_s": "theirs, calls/s",
                "ours_s": "ours, calls/s",
                "x": "x",
                "between": "95 % of x",
            },
        ),
        "servers": Table(
            "What it takes to have them",
            {
                "peer": "server",
                "version": "version",
                "runs": "calls at once",
                "installed_mb": "installed, MB",
                "start_s": "start to first answers, s",
                "memory_mb": "memory, MB",
                **({"large_s": "77 MB there and back, s"} if options.full else {}),
            },
        ),
    }


def installed_mb(peer: Peer) -> float | None:
    """What is installed for it, with numpy and ONNX Runtime. None if ours has not been installed to be weighed."""
    if peer is not OURS:
        return peer.made().megabytes()
    ours = sum(path.stat().st_size for path in (ROOT / "graphpipe").rglob("*.py")) / 1e6
    return peer.made().megabytes() + ours if peer.made().is_there() else None


def measure(options: argparse.Namespace) -> Result:
    """Ask every peer that is there; those that are not are left out, and the tables say why."""
    full = options.full
    turn_s = FULL_TURN_S if full else TURN_S
    options.turn_s = {**turn_s, **getattr(options, "turn_s", {})}
    options.callers_of = FULL_CALLERS if full else CALLERS
    if options.callers:
        options.callers_of = dict.fromkeys(SHAPES, options.callers)
    rounds = options.rounds or (FULL_ROUNDS if full else ROUNDS)
    tables = tables_for(options)
    left_out = []
    not_installed = json.loads(os.environ.get(NOT_INSTALLED, "{}"))
    with tempfile.TemporaryDirectory(prefix="gp") as name, Generator(Path(name)) as generator:
        bench = Bench(Path(name))
        try:
            with bench.running(OURS) as ours:
                first = server_row(ours, about()["commit"])
                tables["servers"].rows.append(first)
                ours.household.hold()
                for peer in options.only:
                    try:
                        if peer.name in not_installed:
                            raise Unavailable(not_installed[peer.name])
                        _beside(peer, bench, generator, ours, rounds, options, tables)
                    except (Unavailable, Failed) as problem:
                        print(f"{peer.name} is left out: {problem}", file=sys.stderr, flush=True)
                        left_out.append(f"{peer.name} is left out: {problem}")
                ours.household.go_on()
        finally:
            bench.limit.end()
    for table in tables.values():
        table.notes += left_out
    flags = [f"--only {','.join(peer.name for peer in options.only)}"] if len(options.only) < len(PEERS) else []
    flags += [f"--callers {','.join(map(str, options.callers))}"] if options.callers else []
    flags += [f"--rounds {options.rounds}"] if options.rounds else []
    flags += ["--full"] if full else []
    return Result(
        "peers",
        "GraphPipe beside other servers, with the same models",
        " ".join(["python benchmarks/peers.py", *flags]),
        {**about(("onnxruntime", "numpy", "uvloop", "aiohttp")), "rounds": str(rounds)},
        tables,
    )


def _beside(
    peer: Peer,
    bench: Bench,
    generator: Generator,
    ours: Server,
    rounds: int,
    options: argparse.Namespace,
    tables: dict[str, Table],
) -> None:
    began = time.monotonic()
    version = peer.made().versions(peer.package).get(peer.package, "")
    with bench.running(peer) as theirs:
        row = server_row(theirs, version)
        theirs.household.hold()
        asking = Asking(bench, generator, ours, theirs, rounds)
        _load(peer, asking, options, tables)
        if peer.name == CONTENDER and not options.callers:
            _contended(peer, asking, options, tables["contended"])
        try:
            found = asking.clients("identity", options.turn_s["identity"])
        except (Failed, AssertionError) as problem:
            tables["clients"].notes.append(f"{peer.name}'s client failed: {str(problem).strip()[:200]}")
        else:
            x = ratio(found, "ours", "theirs", "per_second")
            tables["clients"].rows.append(
                {
                    "peer": peer.name,
                    "client": peer.client,
                    "theirs_s": middle(found["theirs"], "per_second"),
                    "ours_s": middle(found["ours"], "per_second"),
                    "x": x.value,
                    "between": between(x),
                }
            )
        if options.full:
            try:
                large = asking.large()
            except (Failed, OSError) as problem:
                tables["servers"].notes.append(f"{peer.name} and 77 MB: {str(problem)[:200]}")
            else:
                row["large_s"] = large["theirs"]
                tables["servers"].rows[0].setdefault("large_s", large["ours"])
        tables["servers"].rows.append(row)
        tables["servers"].notes += [peer.note] if peer.note else []
    print(f"{peer.name}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)


def server_row(server: Server, version: str) -> dict[str, Any]:
    return {
        "peer": server.peer.name,
        "version": version,
        "runs": server.peer.runs,
        "installed_mb": installed_mb(server.peer),
        "start_s": server.start_s,
        "memory_mb": server.household.megabytes(),
    }


def flags(parser: argparse.ArgumentParser) -> None:
    def peers(text: str) -> list[Peer]:
        if unknown := [name for name in text.split(",") if name not in PEERS]:
            raise argparse.ArgumentTypeError(f"there is no peer {unknown[0]!r}; there are {', '.join(PEERS)}")
        return [PEERS[name] for name in text.split(",")]

    def numbers(text: str) -> list[int]:
        return [int(each) for each in text.split(",")]

    parser.add_argument("--only", type=peers, default=[*PEERS.values()], metavar="NAME,...", help="some of the peers")
    parser.add_argument("--callers", type=numbers, metavar="N,...", help="default: 1,16 for identity, 8 for squeezenet")
    parser.add_argument("--rounds", type=int, help=f"default: {ROUNDS}, with --full {FULL_ROUNDS}")


def asked(options: argparse.Namespace) -> Result:
    """Install what is asked for, and measure where no server can be reached from outside."""
    if not is_secluded():  # from inside there is nothing to install from
        problems = {}
        for peer in [OURS, *options.only]:
            try:
                peer.made().make()
            except Unavailable as problem:
                problems[peer.name] = str(problem)
        os.environ[NOT_INSTALLED] = json.dumps(problems)
        seclude()
    return measure(options)


if __name__ == "__main__":
    answer(asked, __doc__, flags)
