"""What grew? A commit and this checkout beside each other in one run on one machine, so that its speed does not matter.

    make guard BASE=COMMIT                              everything; this checkout with what is not committed in it
    python benchmarks/guard.py [SUBJECT...] [--base COMMIT] [--head COMMIT] [--method times] [--json] [--list]
    python benchmarks/guard.py --save                   what is committed, anew: benchmarks/results/guard.json

Either is a commit, or a folder with a checkout. Subjects are chosen by how their names begin: codec, hot route, exchange,
client. Each is called or asked in processes of both (guarding/within), batch by batch in turn, and what a batch costs is
counted in instructions if valgrind is installed, otherwise in seconds of CPU. What counts is the median of the ratios of
neighbours and the interval around it: a subject GREW if all of that lies above 5 %, "cannot tell" is one whose interval
ends above it. The status is 1 if anything grew.

Without --base this checkout is compared with what is committed: how many calls of a yardstick in the same process cost as
much as one of the subject. That holds for one Python and one set of libraries; on another, use a base.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.guarding import baseline  # noqa: E402
from benchmarks.guarding.comparison import compared  # noqa: E402
from benchmarks.guarding.counting import METHODS, usual  # noqa: E402
from benchmarks.guarding.subjects import SUBJECTS, Subject  # noqa: E402
from benchmarks.guarding.verdict import ALLOWED, Verdict, judged  # noqa: E402
from benchmarks.harness.tree import Tree  # noqa: E402


def main() -> None:
    options = read_arguments()
    subjects = chosen(options.subject)
    if options.list:
        print("\n".join(subject.name for subject in subjects))
        return
    method = METHODS[options.method]()
    method.lives, method.batches = options.lives or method.lives, options.batches or method.batches
    head, base = Tree(options.head), Tree(options.base) if options.base and not options.save else None
    say = progress if sys.stderr.isatty() else lambda text: None
    found = compared(head, base, subjects, method, say)
    say("")
    if options.save:
        baseline.save(method, head.commit, found)
        print(f"saved in {baseline.RESULTS.relative_to(ROOT)}: {len(found)} ratios of {method.name}")
        return
    saved = {} if base else baseline.load()
    ratios: Mapping[str, float] = saved.get(method.name, {}).get("ratios", {})
    elsewhere = "" if base else baseline.differs(saved)
    allowed = baseline.ALLOWED_OF_TIMES if base is None and method.name == "times" else ALLOWED
    verdicts = []
    for name, (lives, why) in found.items():
        if why or not (base or name in ratios):
            verdicts.append(Verdict(name, "cannot tell", why or "nothing is committed for it"))
        else:
            verdict = judged(name, lives, method.lives_min, 1.0 if base else ratios[name], allowed)
            verdicts.append(Verdict(**{**verdict.as_json(), "says": "cannot tell"}) if elsewhere else verdict)
    about = {
        "base": base.commit
        if base
        else f"committed ratios to a yardstick, of {saved.get(method.name, {}).get('commit', 'none yet')}",
        "head": head.commit.replace("+", " with uncommitted changes"),
        "method": method.name,
        "unit": method.says if base else f"calls of the yardstick, by {method.says}",
        "allowed": allowed,
        "elsewhere": elsewhere,
    }
    grew = [verdict.subject for verdict in verdicts if verdict.says == "GREW"]
    if options.json:
        print(json.dumps({**about, "subjects": [verdict.as_json() for verdict in verdicts], "grew": grew}, indent=1))
    else:
        show(about, verdicts, 1e6 if method.name == "times" and base else 1.0)
    sys.exit(1 if grew else 0)


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("subject", nargs="*", help="those whose names begin so; all if none is given")
    parser.add_argument("--base", help="a commit, or a folder with a checkout; without it, what is committed")
    parser.add_argument("--head", default=str(ROOT), help="the same; this checkout if it is not given")
    parser.add_argument("--method", choices=METHODS, default=usual(), help="default here: %(default)s")
    parser.add_argument("--batches", type=int, help="how many in each life of the processes")
    parser.add_argument("--lives", type=int, help="how often the processes are started")
    parser.add_argument("--json", action="store_true", help="print one object and nothing else")
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/guard.json")
    parser.add_argument("--list", action="store_true", help="say which subjects there are, and end")
    return parser.parse_args()


def chosen(begins: list[str]) -> list[Subject]:
    subjects = [subject for subject in SUBJECTS.values() if not begins or subject.name.startswith(tuple(begins))]
    if not subjects:
        sys.exit(f"no subject begins with {begins}; --list names them all")
    return subjects


def progress(text: str) -> None:
    print(f"\r{text:<60}", end="" if text else "\r", file=sys.stderr, flush=True)


def show(about: Mapping[str, Any], verdicts: list[Verdict], factor: float) -> None:
    unit = "us of CPU" if factor > 1 else about["unit"]
    print(f"base {about['base']}, head {about['head']}; a call in {unit}")
    if about["elsewhere"]:
        print(f"The committed ratios are not of this environment, so they judge nothing here: {about['elsewhere']}")
        print("make guard BASE=COMMIT compares on this machine alone.")
    print(f"{'':<40}{'base':>12}{'head':>12}{'ratio':>8}   {'interval':<15}")
    for verdict in verdicts:
        if verdict.why:
            print(f"{verdict.subject:<75}{verdict.says}: {verdict.why}")
            continue
        costs = "".join(f"{cost * factor:>12,.1f}" for cost in (verdict.base, verdict.head))
        interval = f"{verdict.low:.3f} - {verdict.high:.3f}"
        print(f"{verdict.subject:<40}{costs}{verdict.ratio:>8.3f}   {interval:<15} {verdict.says}")
    grew = [verdict.subject for verdict in verdicts if verdict.says == "GREW"]
    share = f"{100 * about['allowed']:.0f} %"
    print(f"grew by more than {share}: {'; '.join(grew) or 'nothing that could be told'}")


if __name__ == "__main__":
    main()
