"""Run every suite that this machine can run, and say plainly what ran, what failed and what did not run.

    python scripts/run_tests.py [--slow] [SUITE...]

The output of each suite is passed on as it comes. The last line counts single tests ('N passed, N failed, N skipped'; a
check without tests of its own counts as one), and the status is 0 only if nothing failed. A suite whose toolchain is
absent is NOT RUN, with the reason; where CI=true that is a failure, as a skipped suite must not look green there.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / ".build"
REPORTS = BUILD / "reports"
HOME = BUILD / "home"

STATICCHECK = "honnef.co/go/tools/cmd/staticcheck@v0.7.0"
# Suites of their own, so that a broken README does not read as a broken server.
OWN_SUITES = {
    "docs": ["tests/test_docs.py"],
    "repository": ["tests/test_repository.py", "tests/test_make.py", "tests/test_run_tests.py"],
}
# About how many seconds a suite takes beside others on two cores: those that take long begin first, so that no core is
# idle at the end. One that is not named here is taken for a short one, so name it when it takes half a minute.
SECONDS = {
    "go": 45,
    "java": 75,
    "conformance": 45,
    "python-front": 150,
    "python-operation": 130,
    "python-backends": 90,
    "docs": 80,
    "python-cli": 80,
    "python-faults": 65,
    "python-contract": 60,
    "python-rows": 55,
    "python-server": 50,
    "repository": 50,
    "python-benchmarks": 45,
    "python-grpc": 45,
    "python-examples": 35,
    "python-tensorflow_serving": 35,
    "python-wire": 35,
    "python": 30,
    "python-client": 30,
    "python-package": 30,
    "lint": 25,
    "python-aio": 25,
    "python-isolation": 25,
    "python-open_inference": 25,
    "python-sharing": 25,
    "python-first_hour": 15,
    "python-pipeline": 15,
    "python-problem": 15,
    "python-venvs": 15,
    "python-interop": 15,
}


@dataclass(frozen=True)
class Suite:
    """Commands that belong together, run in turn, all of them, whatever the first ones say."""

    name: str
    commands: Sequence[Sequence[str]]
    folder: str = "."
    needs: Sequence[str] = ()  # programs; without one of them the suite is NOT RUN
    needs_root: bool = False
    exists_with: str = "."  # a path of the repository; without it there is no such suite
    reports: str = ""  # where the commands leave JUnit reports: a glob below the root
    slow: bool = False  # left to `make test-all`
    alone_with: str = ""  # suites that name the same build in the same folders, and never run side by side


@dataclass
class Outcome:
    """What came of a suite."""

    suite: str
    result: str = "passed"
    reason: str = ""
    seconds: float = 0.0
    passed: int = 0
    failed: int = 0
    skipped: int = 0


@dataclass
class Counter:
    """Counts what `go test -v` says, and says on what is worth reading."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0
    _line: re.Pattern[str] = field(default=re.compile(r"--- (PASS|FAIL|SKIP): "), repr=False)

    def is_worth_reading(self, line: str) -> bool:
        if match := self._line.match(line):
            self.passed += match[1] == "PASS"
            self.failed += match[1] == "FAIL"
            self.skipped += match[1] == "SKIP"
        return not re.match(r"\s*(=== |--- PASS)", line)


def suites() -> list[Suite]:
    """Everything there is to run, the quickest to fail first. A new suite is one entry."""
    return [
        Suite(
            "lint",
            [
                ["ruff", "check", "."],
                ["ruff", "format", "--check", "."],
                ["mypy"],
                ["hadolint", *dockerfiles()],
            ],
        ),
        *python_suites(),
        *(
            Suite(name, [pytest(name, paths)], exists_with=paths[0], reports=f".build/reports/{name}.xml")
            for name, paths in OWN_SUITES.items()
        ),
        Suite(
            "go",
            [
                ["sh", "-c", 'unformatted=$(gofmt -l .); echo "$unformatted"; test -z "$unformatted"'],
                ["go", "vet", "./..."],
                ["go", "run", STATICCHECK, "./..."],
                ["go", "test", "-v", "./..."],
                # A module of its own, since it alone depends on the official FlatBuffers runtime.
                ["sh", "-c", "cd oracle && go vet ./... && go test -v ./..."],
            ],
            folder="clients/go",
            needs=["go", "gofmt"],
            exists_with="clients/go/go.mod",
            alone_with="clients",
        ),
        Suite(
            "java",
            [["mvn", "-q", "-B", f"-Dmaven.repo.local={BUILD / 'm2'}", "verify"]],
            folder="clients/java",
            needs=["java", "javac", "mvn"],
            exists_with="clients/java/pom.xml",
            reports="clients/java/**/target/surefire-reports/TEST-*.xml",
            alone_with="clients",
        ),
        Suite(
            "conformance",
            [["python", "conformance/run.py", "--junit", str(REPORTS / "conformance.xml")]],
            exists_with="conformance/run.py",
            reports=".build/reports/conformance.xml",
            alone_with="clients",
        ),
        Suite(
            "conformance-huge",
            [["python", "conformance/run.py", "--huge"], ["python", "conformance/fuzz.py", "--messages", "1000000"]],
            alone_with="clients",
            slow=True,
        ),
        # A minute of each; `make test` reads what they start from, and what they found, once.
        Suite(
            "fuzz",
            [["python", "-m", "scripts.fuzz", "--seconds", "60"]],
            exists_with="scripts/fuzz",
            slow=True,
            alone_with="clients",
        ),
        Suite(
            "java-consumer",
            [["sh", "consumer/check.sh", f"-Dmaven.repo.local={BUILD / 'm2'}"]],
            folder="clients/java",
            needs=["java", "javac", "mvn", "jlink"],
            exists_with="clients/java/consumer/check.sh",
            slow=True,
            alone_with="clients",
        ),
        Suite(
            "soak",
            [["python", "scripts/soak.py"], ["python", "scripts/soak.py", "--minutes", "5", "--workers", "2"]],
            slow=True,
        ),
        Suite(
            "deploy",
            [pytest("deploy", ["tests/deploy"], "slow")],
            needs=["promtool", "prometheus", "nginx", "haproxy", "systemd-analyze"],
            reports=".build/reports/deploy.xml",
            slow=True,
        ),
        Suite(
            "images",
            [["python", "-m", "scripts.images"]],
            needs=["podman", "buildah"],
            needs_root=True,
            exists_with="docker",
            slow=True,
        ),
        Suite("dist", [["python", "scripts/dist.py"]], slow=True),
        *slow_suites(),
    ]


def dockerfiles() -> list[str]:
    paths = (*ROOT.glob("docker/Dockerfile.*"), *ROOT.glob("scripts/images/Dockerfile.*"))
    found = (path for path in paths if path.suffix != ".dockerignore")
    return sorted(str(path.relative_to(ROOT)) for path in found)


def python_suites() -> Iterator[Suite]:
    """The tests of the package: one suite for the files in tests/, one for each folder there that holds tests."""
    own = [f"--ignore={path}" for paths in OWN_SUITES.values() for path in paths]
    folders = sorted({path.relative_to(ROOT).parts[1] for path in ROOT.glob("tests/*/**/test_*.py")})
    if any(ROOT.glob("tests/test_*.py")):
        others = [f"--ignore=tests/{folder}" for folder in folders]
        yield Suite("python", [pytest("python", ["tests", *own, *others])], reports=".build/reports/python.xml")
    for folder in folders:
        name = f"python-{folder}"
        yield Suite(name, [pytest(name, [f"tests/{folder}"])], reports=f".build/reports/{name}.xml")


def slow_suites() -> Iterator[Suite]:
    """The tests that are marked as slow, a suite for each folder: no process has to bear all frameworks at once."""
    marked = [path for path in ROOT.glob("tests/**/test_*.py") if "mark.slow" in path.read_text()]
    for folder in sorted({path.relative_to(ROOT).parts[1:-1][:1] for path in marked}):
        name = "-".join(("slow", *folder))
        paths = (
            [f"tests/{folder[0]}"]
            if folder
            else [f"tests/{path.name}" for path in marked if path.parent == ROOT / "tests"]
        )
        if folder != ("deploy",):  # it needs programs of its own
            yield Suite(name, [pytest(name, paths, "slow")], reports=f".build/reports/{name}.xml", slow=True)


def pytest(name: str, arguments: Sequence[str], marked: str = "not slow") -> list[str]:
    return ["python", "-m", "pytest", "-q", "-m", marked, f"--junitxml={REPORTS / name}.xml", *arguments]


def main() -> int:
    """Run the suites that were asked for, or all, and return the exit status."""
    known = [suite for suite in suites() if (ROOT / suite.exists_with).exists()]
    parser = argparse.ArgumentParser(description="Run the test suites.")
    parser.add_argument("--slow", action="store_true", help="also those that take long")
    parser.add_argument(
        "--lanes", type=int, default=1 + min(2, os.cpu_count() or 1), help="suites that run side by side"
    )
    parser.add_argument("suite", nargs="*", help=f"one of {', '.join(suite.name for suite in known)}; default: all")
    options = parser.parse_args()
    if unknown := set(options.suite) - {suite.name for suite in known}:
        parser.error(f"there is no suite {min(unknown)!r}; there are {', '.join(suite.name for suite in known)}")
    wanted = [
        suite
        for suite in known
        if suite.name in options.suite or (not options.suite and (options.slow or not suite.slow))
    ]
    began = time.monotonic()
    try:
        outcomes = run_all(wanted, options.lanes)
    except KeyboardInterrupt:
        print("\ninterrupted", flush=True)
        return 130
    print(table(outcomes, time.monotonic() - began), flush=True)
    return int(any(outcome.result == "failed" for outcome in outcomes))


def run_all(wanted: Sequence[Suite], lanes: int) -> list[Outcome]:
    """Run suites, so many at a time: most of a test's time is waiting. Suites of one ``alone_with`` never overlap.

    A single lane passes on what a suite prints as it comes, several when it ends.
    """
    if lanes < 2 or len(wanted) < 2:
        return [run(suite, say) for suite in wanted]
    chains: dict[str, list[Suite]] = {}
    for suite in wanted:
        chains.setdefault(suite.alone_with or suite.name, []).append(suite)

    def run_chain(chain: list[Suite]) -> list[Outcome]:
        outcomes = []
        for suite in chain:
            said: list[bytes] = []
            say(f"... {suite.name}\n".encode())
            outcomes.append(run(suite, said.append))
            say(b"".join(said))
        return outcomes

    with ThreadPoolExecutor(lanes) as pool:
        longest_first = sorted(chains.values(), key=seconds_of, reverse=True)
        found = {outcome.suite: outcome for outcomes in pool.map(run_chain, longest_first) for outcome in outcomes}
    return [found[suite.name] for suite in wanted]


def seconds_of(chain: Sequence[Suite]) -> int:
    return sum(SECONDS.get(suite.name, 0) for suite in chain)


def say(what: bytes) -> None:
    """Print, now and in one piece."""
    sys.stdout.flush()
    sys.stdout.buffer.write(what)
    sys.stdout.buffer.flush()


def run(suite: Suite, say: Callable[[bytes], object] = say) -> Outcome:
    """Run one suite, passing on what it prints."""
    say(f"\n== {suite.name} ==\n".encode())
    outcome = Outcome(suite.name)
    if why := " and ".join(lacking(suite)):
        outcome.result, outcome.reason = "NOT RUN", why
        if os.environ.get("CI") == "true":
            outcome.result, outcome.failed = "failed", 1
        say(f"{outcome.reason}\n".encode())
        return outcome
    began = time.monotonic()
    for report in ROOT.glob(suite.reports or "no-reports"):
        report.unlink()  # of the last run
    broken = []
    for command in suite.commands:
        counter = Counter()
        status = run_command(command, ROOT / suite.folder, counter, say)
        if status != 0:
            broken.append(" ".join(command[:3]))
        if counter.passed + counter.failed + counter.skipped:
            outcome.passed, outcome.failed = outcome.passed + counter.passed, outcome.failed + counter.failed
            outcome.skipped += counter.skipped
        elif not suite.reports:
            outcome.passed, outcome.failed = outcome.passed + (status == 0), outcome.failed + (status != 0)
    if suite.reports:
        add_reports(outcome, suite.reports)
    outcome.seconds = time.monotonic() - began
    if broken or outcome.failed:
        outcome.result, outcome.reason = "failed", ", ".join(broken)
        outcome.failed = max(outcome.failed, 1)  # it may have died before it could count
    elif not outcome.passed:
        outcome.result, outcome.reason, outcome.failed = "failed", "no test ran", 1
    return outcome


def lacking(suite: Suite) -> Iterator[str]:
    """What a suite needs and has not."""
    if missing := [program for program in suite.needs if not shutil.which(program)]:
        yield f"{' and '.join(missing)} not found"
    if suite.needs_root and os.geteuid() != 0:
        yield "root is needed"


def run_command(command: Sequence[str], folder: Path, counter: Counter, say: Callable[[bytes], object]) -> int:
    say(f"$ {' '.join(command)}\n".encode())
    # Leaving the block waits for the command: it has had the same Ctrl-C as we.
    with subprocess.Popen(
        command,
        cwd=folder,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if counter.is_worth_reading(line.decode(errors="replace")):
                say(line)
    return process.returncode


def environment() -> dict[str, str]:
    """What the suites see: .venv first, and a home of their own, so that they write nothing outside the clone."""
    HOME.mkdir(parents=True, exist_ok=True)
    REPORTS.mkdir(exist_ok=True)
    mine = Path(os.environ.get("HOME", HOME))
    # The Makefile's PORT is for `make serve`: to a server it is where to listen. And the suites start some thousand
    # interpreters, half of whose time goes into compiling what each imports where nobody may keep it.
    not_mine = ("PORT", "PYTHONDONTWRITEBYTECODE")
    return {
        **{name: value for name, value in os.environ.items() if name not in not_mine},
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(HOME),
        "XDG_CACHE_HOME": str(HOME / ".cache"),
        "XDG_CONFIG_HOME": str(HOME / ".config"),
        "GIT_CONFIG_GLOBAL": os.environ.get("GIT_CONFIG_GLOBAL", str(mine / ".gitconfig")),
        "GOENV": os.environ.get("GOENV", str(mine / ".config" / "go" / "env")),
        "GOFLAGS": f"{os.environ.get('GOFLAGS', '')} -modcacherw".strip(),
        "PYTHONUNBUFFERED": "1",
        "ORT_DISABLE_TELEMETRY": "1",  # for tests that run ONNX Runtime themselves, beside the server that they check
    }


def add_reports(outcome: Outcome, pattern: str) -> None:
    for report in ROOT.glob(pattern):
        for element in ElementTree.parse(report).getroot().iter("testsuite"):
            bad = int(element.get("failures", 0)) + int(element.get("errors", 0))
            skipped = int(element.get("skipped", 0))
            outcome.failed += bad
            outcome.skipped += skipped
            outcome.passed += int(element.get("tests", 0)) - bad - skipped


def table(outcomes: Sequence[Outcome], seconds: float) -> str:
    """The suites, one a line, all of them together, and the line that machines read."""
    lines = ["", f"{'suite':<20}{'result':<10}{'passed':>8}{'failed':>8}{'skipped':>9}{'seconds':>9}  reason"]
    for each in outcomes:
        counts = f"{each.passed:>8}{each.failed:>8}{each.skipped:>9}{each.seconds:>9.1f}"
        lines.append(f"{each.suite:<20}{each.result:<10}{counts}  {each.reason}".rstrip())
    totals = [sum(getattr(each, name) for each in outcomes) for name in ("passed", "failed", "skipped")]
    lines.append(f"{'together':<30}{totals[0]:>8}{totals[1]:>8}{totals[2]:>9}{seconds:>9.1f}")
    not_run = [each.suite for each in outcomes if each.result == "NOT RUN"]
    if not_run:
        lines += ["", f"NOT RUN: {', '.join(not_run)}"]
    return "\n".join([*lines, "", f"{totals[0]} passed, {totals[1]} failed, {totals[2]} skipped"])


if __name__ == "__main__":
    sys.exit(main())
