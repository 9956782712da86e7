"""Targets of libFuzzer's kind: atheris on Python, Jazzer on Java. Both take its options and print what it prints."""

from __future__ import annotations

import hashlib
import re
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from scripts.fuzz.fuzzer import FOLDER, ROOT, Outcome, failed, run
from scripts.run_tests import BUILD
from tests.fuzz.corpus import inputs, keep

__all__ = ["Atheris", "Jazzer", "LibFuzzer"]

_LAST = re.compile(r"^#\d+\s+DONE\s+cov: (\d+) ft: \d+ corp: (\d+)/", re.MULTILINE)
_EXECUTIONS = re.compile(r"^stat::number_of_executed_units: (\d+)", re.MULTILINE)
_FINDING = re.compile(r"Test unit written to (\S+)")
# What a corpus in the repository may take, in bytes of its inputs.
_CORPUS_BYTES_MAX = 40_000

_JAVA = ROOT / "clients" / "java"
_JAZZER = "0.24.0"
_JAZZER_FOLDER = BUILD / "jazzer"
_MAVEN = ("mvn", "-q", "-B", f"-Dmaven.repo.local={BUILD / 'm2'}")


@dataclass(frozen=True)
class LibFuzzer:
    """One target. ``corpus`` is the name of its inputs in tests/fuzz/corpus, which languages share."""

    name: str
    corpus: str

    @property
    def folder(self) -> Path:
        """Where what it finds lies: inputs that reach something new in ``inputs``, findings beside that."""
        return FOLDER / self.name

    def command(self) -> Sequence[str]:
        """The fuzzer, to which libFuzzer's options are added."""
        raise NotImplementedError

    def missing(self) -> str:
        """Why it cannot run here; empty if it can."""
        raise NotImplementedError

    def prepare(self) -> str:
        """Build what it needs. Gives what went wrong; empty if nothing did."""
        return ""

    def fuzz(self, seconds: int) -> Outcome:
        """Go on from all that is known: the repository's inputs, and those of runs before this one."""
        log = self.folder / "log"
        if wrong := self.prepare():
            return failed(self.name, wrong, log)
        grown, known = self._folders()
        options = [f"-max_total_time={seconds}", "-print_final_stats=1", "-timeout=10", "-rss_limit_mb=4096"]
        command = [*self.command(), *options, f"-artifact_prefix={self.folder}/", str(grown), str(known)]
        status, said, took = run(command, log)
        executions = _EXECUTIONS.search(said)
        found = [str(Path(path).relative_to(ROOT)) for path in _FINDING.findall(said)]
        last = _LAST.search(said)
        if status and not found:
            return failed(self.name, said, log)
        return Outcome(
            self.name,
            int(executions[1]) if executions else 0,
            took,
            last[1] if last else "",
            last[2] if last else "",
            [f"{path}, as {log.relative_to(ROOT)} tells" for path in found],
        )

    def minimise(self) -> str:
        """Put into the repository the fewest inputs that reach all that any known one does; gives how many they are."""
        if wrong := self.prepare():
            return wrong
        grown, known = self._folders()
        least = self.folder / "least"
        shutil.rmtree(least, ignore_errors=True)
        least.mkdir()
        command = [*self.command(), "-merge=1", "-timeout=10", str(least), str(known), str(grown)]
        status, said, _ = run(command, self.folder / "merge.log")
        if status:
            return said[-2000:]
        # libFuzzer takes the small ones first, and so do we where all are too many.
        kept, size = [], 0
        for content in sorted((path.read_bytes() for path in least.iterdir()), key=len):
            size += len(content)
            if size <= _CORPUS_BYTES_MAX:
                kept.append(content)
        keep(self.corpus, kept)
        return f"{len(kept)} inputs"

    def _folders(self) -> tuple[Path, Path]:
        """Where new inputs go, and where all that the repository has lies as files."""
        grown, known = self.folder / "inputs", self.folder / "known"
        grown.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(known, ignore_errors=True)
        known.mkdir()
        target = import_module(f"tests.fuzz.{self.corpus}")
        for content in (*target.seeds(), *inputs(self.corpus)):
            (known / hashlib.sha256(content).hexdigest()).write_bytes(content)
        return grown, known


class Atheris(LibFuzzer):
    """A target in tests/fuzz."""

    def missing(self) -> str:
        return "" if find_spec("atheris") else "atheris is not here (the extra fuzz; x86-64, Python 3.11 to 3.13)"

    def command(self) -> Sequence[str]:
        return [sys.executable, "-m", "tests.fuzz.guided", self.corpus]


@dataclass(frozen=True)
class Jazzer(LibFuzzer):
    """A class among the tests of the Java client."""

    target: str = ""

    def missing(self) -> str:
        absent = [program for program in ("java", "javac", "mvn") if not shutil.which(program)]
        return f"{' and '.join(absent)} not found" if absent else ""

    def prepare(self) -> str:
        compiled = run([*_MAVEN, "-pl", "client", "test-compile"], self.folder / "build.log", _JAVA)
        if compiled[0]:
            return compiled[1]
        for name in ("jazzer", "jazzer-api"):
            if not (_JAZZER_FOLDER / f"{name}-{_JAZZER}.jar").exists():
                copy = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy"
                artifact = f"-Dartifact=com.code-intelligence:{name}:{_JAZZER}"
                options = [artifact, f"-DoutputDirectory={_JAZZER_FOLDER}", "-N"]
                fetched = run([*_MAVEN, copy, *options], self.folder / "build.log", _JAVA)
                if fetched[0]:
                    return fetched[1]
        return ""

    def command(self) -> Sequence[str]:
        client = _JAVA / "client" / "target"
        path = f"{client / 'classes'}:{client / 'test-classes'}:{_JAZZER_FOLDER}/*"
        return [
            *("java", "-XX:+UseSerialGC", "-Xmx2g", "-cp", path, "com.code_intelligence.jazzer.Jazzer"),
            f"--target_class=org.graphpipe.{self.target}",
            "--instrumentation_includes=org.graphpipe.**",
            f"--reproducer_path={self.folder}",
        ]
