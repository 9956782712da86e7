"""Hold every language to the same cases: the vectors, each writer against each reader, and live calls.

    python conformance/run.py [--write-doc] [--junit FILE] [--only LANGUAGE] [--huge]

A language whose toolchain is missing is NOT RUN, loudly; where CI=true that is a failure. The last line counts single
outcomes, one for each case and language.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import sys
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from conformance import answers, golden, sequences, writing
from conformance.cases import expand_bytes, expand_value, groups
from conformance.languages import LANGUAGES, Adapter, BuildFailed, Language, adapters
from conformance.live import FLAGS, Live, against_go, against_server
from conformance.report import Report
from conformance.runner import ROWS, difference
from tests.canned import canned
from tests.serving import serving

Value = dict[str, Any]
Vectors = dict[str, list[Value]]
_FAILURES_SHOWN_MAX = 60


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--write-doc", action="store_true", help="bring the table in docs/conformance.md up to date")
    parser.add_argument("--junit", type=Path, help="write the outcomes there too")
    parser.add_argument("--only", choices=[language.name for language in LANGUAGES], action="append")
    parser.add_argument(
        "--huge", action="store_true", help="also what takes a gigabyte in each language; --write-doc does"
    )
    options = parser.parse_args()
    began = time.monotonic()
    report = Report([language.name for language in LANGUAGES])
    ready = prepare(report, options.only)
    print(f"prepared: {time.monotonic() - began:.1f} s", flush=True)
    huge = options.huge or options.write_doc
    vectors = {
        group: [vector for vector in each if huge or "huge" not in vector["flags"]] for group, each in groups().items()
    }
    if not huge:
        print("what takes a gigabyte in each language: NOT RUN; --huge reads it too")
    with adapters(ready) as running:
        for step in (read_and_refuse, write_and_read, read_golden, call_server, call_go, call_odd, call_again):
            at = time.monotonic()
            step(report, running, vectors)
            print(f"{step.__name__.replace('_', ' ')}: {time.monotonic() - at:.1f} s", flush=True)
    if options.write_doc:
        report.write_page()
    elif not options.only:
        for difference in report.page_differs():
            report.add("docs/conformance.md", "Python", difference, "make conformance ARGS=--write-doc writes it anew")
    if options.junit:
        report.write_junit(options.junit)
    return tell(report)


def prepare(report: Report, only: Sequence[str] | None) -> list[Language]:
    """Build the adapters, side by side; those that are ready."""
    wanted = [language for language in LANGUAGES if not only or language.name in only]
    report.not_run |= {language.name: "not asked for" for language in LANGUAGES if language not in wanted}
    for language in wanted:
        if language.missing:
            report.not_run[language.name] = f"{' and '.join(language.missing)} not found"
            if os.environ.get("CI") == "true":
                report.failures.append(("toolchain", language.name, "toolchain", report.not_run[language.name]))
    ready = []
    with ThreadPoolExecutor() as pool:
        builds = [(language, pool.submit(language.prepare)) for language in wanted if not language.missing]
        for language, build in builds:
            try:
                build.result()
                ready.append(language)
            except BuildFailed as error:
                report.not_run[language.name] = "its adapter could not be built"
                report.failures.append(("build", language.name, "build", str(error)))
    return ready


def everywhere(running: dict[str, Adapter], case: Value) -> dict[str, Value]:
    """The result of one case in every language at once."""
    line = json.dumps(case).encode() + b"\n"
    with ThreadPoolExecutor(max(1, len(running))) as pool:
        asked = {name: pool.submit(adapter.ask, case["id"], line) for name, adapter in running.items()}
    return {name: result.result() for name, result in asked.items()}


def one_by_one(running: dict[str, Adapter], case: Value) -> dict[str, Value]:
    """The same in one language after another, for what takes a gigabyte of memory in each."""
    line = json.dumps(case).encode() + b"\n"
    return {name: adapter.ask(case["id"], line) for name, adapter in running.items()}


def judge(report: Report, row: str, name: str, case: str, result: Value, reason: str) -> None:
    """Take note of a result: what an adapter says that it does not do neither passes nor fails."""
    if "unsupported" in result:
        report.leave_out(row, name)
    else:
        report.add(row, name, case, reason)


# --- the codec --------------------------------------------------------------------------------------------------------


def read_and_refuse(report: Report, running: dict[str, Adapter], vectors: Vectors) -> None:
    """Every vector in every language."""
    for group, each in vectors.items():
        for vector in each:
            case = {"id": vector["id"], "message": vector["message"]}
            if "bytes" in vector:
                case |= {"op": "decode", "bytes": base64.b64encode(expand_bytes(vector["bytes"])).decode()}
            else:
                case |= {"op": "encode", "value": expand_value(vector["value"])}
            wanted = {"error": vector["error"]} if "error" in vector else {"value": expand_value(vector["value"])}
            huge = "huge" in vector["flags"]
            for name, result in (one_by_one if huge else everywhere)(running, case).items():
                reason = difference(wanted, result)
                reason = reason and f"{vector['comment']}: {reason}"
                judge(report, ROWS["huge" if huge else group], name, vector["id"], result, reason)


def write_and_read(report: Report, running: dict[str, Adapter], vectors: Vectors) -> None:
    """Every value that is in a valid vector, written by every language and read by every language."""
    values: dict[str, tuple[str, str, Value]] = {}
    for vector in vectors["valid"]:
        if not {"large", "read-only"} & {*vector["flags"]}:
            value = expand_value(vector["value"])
            values.setdefault(vector["message"] + json.dumps(value), (vector["id"], vector["message"], value))
    for case, kind, value in values.values():
        asked = {"id": case, "message": kind}
        written = everywhere(running, {**asked, "op": "encode", "value": value})
        for writer, result in written.items():
            row = "written as docs/wire.md says"
            if not result.get("ok"):
                judge(report, row, writer, case, result, f"not written: {str(result)[:300]}")
                continue
            report.add(row, writer, case, "; ".join(writing.faults(kind, base64.b64decode(result["bytes"]), value)))
            for name, found in everywhere(running, {**asked, "op": "decode", "bytes": result["bytes"]}).items():
                judge(report, f"what {writer} wrote, read", name, case, found, difference({"value": value}, found))


def read_golden(report: Report, running: dict[str, Adapter], vectors: Vectors) -> None:
    """The captured samples of the original programs, where they lie beside the clone."""
    samples = list(golden.samples())
    for sample, kind, raw, value in samples:
        case = {"id": sample, "op": "decode", "message": kind, "bytes": base64.b64encode(raw).decode()}
        for name, result in everywhere(running, case).items():
            row = "samples of the original programs, read"
            judge(report, row, name, sample, result, difference({"value": value}, result))
    if not samples:
        print("the captured samples of the original programs are not beside this clone: NOT RUN")


# --- live calls -------------------------------------------------------------------------------------------------------


def call_server(report: Report, running: dict[str, Adapter], vectors: Vectors) -> None:
    """Calls of every client to our server."""
    with serving(*FLAGS, tracebacks=True) as server:
        call_all(report, running, server.url, against_server(vectors["valid"]))


def call_go(report: Report, running: dict[str, Adapter], vectors: Vectors) -> None:
    """Calls of every client to the Go handler."""
    go = next(language for language in LANGUAGES if language.name == "Go")
    if "Go" not in running:
        return
    server = Adapter(go)
    try:
        url = server.ask("serve", b'{"id": "serve", "op": "serve"}\n').get("url", "")
        call_all(report, running, url, against_go(vectors["valid"]))
    finally:
        server.close()


def call_odd(report: Report, running: dict[str, Adapter], vectors: Vectors) -> None:
    """Calls of every client to servers that answer oddly."""
    for each in answers.cases():
        with canned(each.talk) as server:
            results = everywhere(running, {"id": each.name, "url": server.url, **each.case})
            again = server.requests > len(running)
        for name, result in results.items():
            reason = each.check(result) or again * "somebody sent the request again"
            judge(report, "answers of odd servers", name, each.name, result, reason)


def call_again(report: Report, running: dict[str, Adapter], vectors: Vectors) -> None:
    """Several calls of each client to a server that leaves in between: nothing may be sent twice."""
    for name, adapter in running.items():
        for each in sequences.cases():
            with canned(*each.talks) as server:
                line = json.dumps({"id": each.name, "url": server.url, **each.case}).encode() + b"\n"
                result = adapter.ask(each.name, line)
            judge(report, "sequences of calls", name, each.name, result, each.fault(result))


def call_all(report: Report, running: dict[str, Adapter], url: str, cases: Iterable[Live]) -> None:
    """All cases in every language."""
    for live in cases:
        for name, result in everywhere(running, {"id": live.name, "url": url + live.path, **live.case}).items():
            judge(report, live.row, name, live.name, result, live.check(result))


# --- the end ----------------------------------------------------------------------------------------------------------


def tell(report: Report) -> int:
    """Print what came of it, and give the exit status."""
    for row, language, case, reason in report.failures[:_FAILURES_SHOWN_MAX]:
        print(f"\nFAILED {language}: {row}: {case}\n    {reason}")
    if len(report.failures) > _FAILURES_SHOWN_MAX:
        print(f"\n... and {len(report.failures) - _FAILURES_SHOWN_MAX} more")
    print(f"\n{report.table()}\n")
    for line in report.known:
        print(f"known failure: {line}")
    for language, reason in report.not_run.items():
        print(f"NOT RUN: {language}: {reason}")
    failed = max(report.failed, len(report.failures))
    print(f"{report.passed} passed, {failed} failed", flush=True)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
