"""The languages under test: how each one's adapter is built, and talking to one that runs."""

from __future__ import annotations

import contextlib
import json
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.run_tests import BUILD, ROOT, environment

__all__ = ["LANGUAGES", "Adapter", "BuildFailed", "Language"]

# For one case. The longest carries 64 MiB.
_ANSWER_S_MAX = 120

_GO = BUILD / "conformance-go"
_JAVA = ROOT / "clients" / "java"
_JAR = _JAVA / "conformance" / "target" / "conformance.jar"


class BuildFailed(Exception):
    """What the compiler said."""


@dataclass(frozen=True)
class Language:
    """One language's adapter."""

    name: str
    command: Sequence[str]
    needs: Sequence[str] = ()
    build: Sequence[str] = ()
    folder: Path = ROOT

    @property
    def missing(self) -> list[str]:
        """The programs that this machine lacks."""
        return [program for program in self.needs if not shutil.which(program)]

    def prepare(self) -> None:
        """Build the adapter. Raises BuildFailed."""
        if not self.build or (self.name == "Java" and _is_newest(_JAR)):
            return
        done = subprocess.run(
            self.build, cwd=self.folder, env=environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        if done.returncode:
            raise BuildFailed(f"{' '.join(self.build)}\n{done.stdout}{done.stderr}")


def _is_newest(jar: Path) -> bool:
    """Whether the jar is younger than all that it is made of. `go build` finds that out by itself; Maven takes long."""
    sources = [*_JAVA.glob("*/src/main/**/*.java"), *_JAVA.glob("**/pom.xml")]
    return jar.exists() and jar.stat().st_mtime > max(path.stat().st_mtime for path in sources)


LANGUAGES = (
    Language("Python", [sys.executable, str(ROOT / "conformance" / "adapters" / "python.py")]),
    Language("Go", [str(_GO)], ["go"], ["go", "build", "-o", str(_GO), "./conformance"], ROOT / "clients" / "go"),
    Language(
        "Java",
        ["java", "-XX:+UseSerialGC", "-jar", str(_JAR)],
        ["java", "javac", "mvn"],
        [
            *("mvn", "-q", "-B", f"-Dmaven.repo.local={BUILD / 'm2'}", "-DskipTests"),
            *("-pl", "client,conformance", "package"),
        ],
        _JAVA,
    ),
    # It decodes, and does nothing else: the proof that docs/new-client.md is enough to write an adapter from.
    Language("JavaScript", ["node", str(ROOT / "conformance" / "adapters" / "javascript.mjs")], ["node"]),
)


class Adapter:
    """A running adapter. One that dies is started anew for the next case."""

    def __init__(self, language: Language) -> None:
        self._command = language.command
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the adapter
        self._process: subprocess.Popen[bytes] | None = None
        self._lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()

    def ask(self, case: str, line: bytes) -> dict[str, Any]:
        """The result of one case, which is a line; an ``error`` with its last words if the adapter gives none."""
        process = self._process = self._process or self._started()
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(line)
            process.stdin.flush()
        try:
            answer = self._lines.get(timeout=_ANSWER_S_MAX)
        except queue.Empty:
            answer = b""
        if answer:
            result: dict[str, Any] = json.loads(answer)
            if result.get("id") == case:
                return result
        self._process = None
        return {"ok": False, "error": f"adapter died or hung: {answer[:200]!r} {_end(process, self._log)}"}

    def _started(self) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, env=environment()
        )
        self._lines = queue.SimpleQueue()
        threading.Thread(target=_pass_on, args=(process, self._lines), daemon=True).start()
        return process

    def close(self) -> None:
        """End it as a shell would: with the end of its input."""
        if self._process is not None:
            _end(self._process, self._log)
        self._log.close()


def _pass_on(process: subprocess.Popen[bytes], lines: queue.SimpleQueue[bytes]) -> None:
    assert process.stdout is not None
    with process.stdout:
        for line in process.stdout:
            lines.put(line)
    lines.put(b"")


def _end(process: subprocess.Popen[bytes], log: Any) -> str:
    """End a process, and give the last that it wrote."""
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError):
        process.stdin.close()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    log.seek(0)
    last: bytes = log.read()[-2000:]
    return f"status {process.returncode}: {last.decode(errors='replace')}"


@contextlib.contextmanager
def adapters(languages: Sequence[Language]) -> Iterator[dict[str, Adapter]]:
    """An adapter of each language, ended at the end."""
    running = {language.name: Adapter(language) for language in languages}
    try:
        yield running
    finally:
        for adapter in running.values():
            adapter.close()
