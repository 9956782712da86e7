"""A real Triton and our server are asked the same by the same clients: what differs stands in docs/protocols.md, with why.

Words of errors are nobody's promise and are not compared; statuses are.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest

from benchmarks.harness.environment import Unavailable
from tests.clients.oddities import ODDITIES, Oddity
from tests.clients.real_triton import triton
from tests.clients.roster import ROSTER, Line, Program
from tests.clients.served import ARGUMENTS
from tests.serving import Server, serving

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
PROTOCOLS = Path(__file__).resolve().parent.parent.parent / "docs" / "protocols.md"
SPEAKERS = [program for program in ROSTER if program.speaks != "tf"]

# Questions that are answered differently, and how the row of docs/protocols.md begins that says so.
DIFFERENCES = {
    "types float16 (json*)": "| FP16 only as bytes |",
    "many other-order (*)": "| outputs come in the order of the model |",
    "errors answer-without-json (*)": "| NaN and infinities in JSON |",
    "errors more-rows-said (json)": "| broken JSON, a wrong kind or number of elements: 500 |",
    "errors less-rows-said (json)": "| elements in JSON for a shape that holds none are passed over |",
    "errors negative-rows (*)": "| a negative size in a shape: 500 |",
    "errors huge-shape (json)": "| a shape of 2 GiB and more ",
    "errors classification (*)": "| `classification` |",
    "pages live (http)": "| `/v2/health/*` has no body |",
    "pages ready (http)": "| `/v2/health/*` has no body |",
    "pages load_model simple (*)": "| load and unload |",
    "pages unload_model simple (*)": "| load and unload |",
    "pages *_shared_memory* (*)": "| shared memory, trace, logging,",
    "pages get_trace_settings simple (*)": "| shared memory, trace, logging,",
    "pages get_log_settings (*)": "| shared memory, trace, logging,",
}
# Of requests by hand. A caller's mistake that is 500 there and 400 here is one difference, whatever the mistake.
HAS_500 = "| broken JSON, a wrong kind or number of elements: 500 |"
ODD_DIFFERENCES = {
    "outputs null": "| `outputs` that are null: 500 |",
    "too large for its type": "| numbers that do not fit their type wrap, or become infinite |",
    "too large for a float": "| numbers that do not fit their type wrap, or become infinite |",
    "NaN": "| NaN and infinities in JSON |",
    "an output twice": "| an output that is asked for twice |",
    "an unknown coding": "| an unknown `Content-Encoding`: 501 |",
    "a slash behind it": "| a slash at the end of a path: 404 |",
    "ready of an unknown model": "| `/ready` and `/stats` of an unknown model: 400 |",
    "statistics of an unknown model": "| `/ready` and `/stats` of an unknown model: 400 |",
}
# Of pages: what is a server's own, and numbers.
OWN = (
    *("platform", "extensions", "reason", "last_inference", "batch_stats", "inference_stats", "response_stats"),
    *("memory_usage", "inference_count", "execution_count"),
)
seen: set[str] = set()
asked_by: set[str] = set()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving(*ARGUMENTS, tracebacks=True) as server:
        yield server


@pytest.mark.parametrize("program", SPEAKERS, ids=lambda program: program.name)
def test_what_differs_from_a_real_triton_is_documented(program: Program, server: Server, tmp_path: Path) -> None:
    try:
        with triton(tmp_path) as real:
            theirs = program.run(getattr(real, program.speaks))
        ours = program.run(server.url.removeprefix("http://"))
    except Unavailable as why:
        pytest.skip(str(why))
    asked_by.add(program.name)
    documented = PROTOCOLS.read_text()
    unexplained = []
    for question, there, here in differences(theirs, ours):
        rows = {pattern: row for pattern, row in DIFFERENCES.items() if fnmatchcase(question, pattern)}
        seen.update(rows)
        if not rows:
            unexplained.append(f"{question}: {there} there, {here} here")
        assert all(f"\n{row}" in documented for row in rows.values()), (question, rows)
    assert not unexplained, "\n".join(unexplained)


def test_what_differs_of_requests_by_hand_is_documented(server: Server, tmp_path: Path) -> None:
    try:
        with triton(tmp_path) as real:
            pairs = {
                each.name: (status(real.http, each), status(server.url[len("http://") :], each)) for each in ODDITIES
            }
    except Unavailable as why:
        pytest.skip(str(why))
    different = {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}
    of_500 = {name for name, pair in different.items() if pair == (500, 400)}
    assert different.keys() - of_500 == set(ODD_DIFFERENCES), {
        name: different[name] for name in different.keys() - of_500
    }
    documented = PROTOCOLS.read_text()
    for row in (HAS_500, *ODD_DIFFERENCES.values()):
        assert f"\n{row}" in documented, row


def status(address: str, oddity: Oddity) -> int:
    connection = http.client.HTTPConnection(address, timeout=60)
    connection.request(oddity.method, oddity.path, oddity.body, oddity.fields)
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    if body:
        assert isinstance(json.loads(body), list if oddity.path.endswith("/index") else dict)
    return answer.status


def test_no_difference_is_documented_that_is_none() -> None:
    if asked_by != {program.name for program in SPEAKERS}:
        pytest.skip("a Triton was not asked by every client")
    assert seen == set(DIFFERENCES)


def differences(theirs: list[Line], ours: list[Line]) -> Iterator[tuple[str, str, str]]:
    assert [asked(line) for line in theirs] == [asked(line) for line in ours]
    for there, here in zip(theirs, ours, strict=True):
        if told(there) != told(here):
            yield asked(there), str(told(there))[:300], str(told(here))[:300]


def asked(line: Line) -> str:
    return f"{line['subject']} {line['name']} ({line['way']})"


def told(line: Line) -> object:
    """What an answer says that two servers ought to say alike."""
    if "outputs" in line:
        outputs = list(line["outputs"].items())
        identity = line["id"] if line["name"] == "with-id" else ""  # KServe's client makes up the others
        return outputs, line["types"], line["model_name"], line["model_version"], identity
    if line["name"] == "get_model_config simple" and "answer" in line:
        return configuration(line["answer"])
    if "answer" in line:
        return page(line["answer"], is_server=line["name"] == "get_server_metadata")
    return line.get("status") or ("an error of the client's own" if line["subject"] == "pages" else line["error"])


def configuration(answer: Any) -> object:
    """What a model takes and gives; the rest of config.pbtxt is about how Triton runs it."""
    found = answer.get("config", answer)
    fields = ("name", "data_type", "dims")
    return found["name"], *([[each[field] for field in fields] for each in found[role]] for role in ("input", "output"))


def page(answer: Any, *, is_server: bool = False) -> Any:
    if isinstance(answer, list):
        parts = [page(each) for each in answer]
        # Models stand in an order that nobody asked for.
        of_models = all(isinstance(each, dict) and "version" in each for each in parts)
        return sorted(parts, key=str) if of_models else parts
    if isinstance(answer, dict):
        kept = {key: page(value) for key, value in answer.items() if key not in OWN}
        return sorted(kept) if is_server else kept
    return answer
