"""SECURITY.md: every attack that it names has the test that it names, and the figures that were measured; and those attacks
that are nobody else's.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from benchmarks.attacking.table import HEAD, saved, with_figures
from benchmarks.attacks import ATTACKS
from benchmarks.harness.messages import foreign, post
from tests.raw_http import Wire

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "SECURITY.md").read_text()
ROWS = PAGE.partition(f"{HEAD}\n")[2].partition("\n\n")[0].splitlines()[1:]


def test_every_test_that_is_named_is_there():
    named = re.findall(r"`([\w/.-]+)::(\w+)`", PAGE)
    assert len(named) > 40
    for place, name in named:
        text = (ROOT / place).read_text()
        kind = {".py": r"def {}\(", ".go": r"func {}\(", ".java": r"void {}\("}[Path(place).suffix]
        assert re.search(kind.format(name), text), f"{place} has no {name}"


def test_every_attack_has_a_test():
    assert len(ROWS) > 40
    for row in ROWS:
        assert re.fullmatch(r"(\|[^|]+){5}\| `[\w/.-]+::\w+` \|", row), row


def test_the_figures_are_those_that_were_measured_and_every_attack_that_was_measured_is_told():
    kept = saved()
    assert with_figures(PAGE, kept) == PAGE
    told = [row.split("|")[3].strip() for row in ROWS]
    named = [name for name in told if name != "-"]
    assert sorted(named) == sorted(ATTACKS)
    assert set(named) == set(kept["attacks"])
    for row, name in zip(ROWS, told, strict=True):
        memory, p99 = row.split("|")[4:6]
        assert (memory.strip() == "-") == (name == "-"), row
        waits = name != "-" and ATTACKS[name].victim is None
        assert bool(re.fullmatch(r" [\d.,]+ / [\d.,]+ ", p99)) == waits, row


@pytest.mark.parametrize(
    "kind",
    ["smuggling", "oversize", "bombs", "traversal in model names", "traversal in archives", "replayed deadlines",
     "key timing", "hostile metadata", "hostile answers",
     "model files that run code", "dripping", "floods of connections", "heads that never repeat",
     "HTTP/2 floods", "protobuf bombs", "bombs: JSON"],
)  # fmt: skip
def test_no_kind_of_attack_is_missing(kind):
    assert re.search(rf"^\|.*{kind}", PAGE, re.MULTILINE)


def test_the_commands_and_flags_it_names_exist():
    targets = set(re.findall(r"^make ([a-z-]+)$", PAGE, re.MULTILINE))
    makefile = (ROOT / "Makefile").read_text()
    assert {target for target in targets if not re.search(rf"^{target}:", makefile, re.MULTILINE)} == set()
    flags = (ROOT / "docs" / "serving.md").read_text()
    for flag in set(re.findall(r"`(--[a-z][a-z0-9-]+)", PAGE)):
        assert f"`{flag}" in flags, flag


def test_no_path_of_a_request_leads_to_a_file(serve, tmp_path):
    """The models are in a folder with other files; whatever path is asked for, none of them is opened."""
    (tmp_path / "secret.txt").write_text("secret words")
    (tmp_path / "m.py").write_text("def f(x):\n    return x\n")
    server = serve("-m", f"m={tmp_path}/m.py:f", "-m", "n=echo")
    place = str(tmp_path / "secret.txt")
    up = "../" * 12
    paths = [
        "/models/../secret.txt", f"/models/{up}{place}", f"/models//{place}", "/models/%2e%2e/secret.txt", "//etc/passwd",
        f"/models/..%2f..%2f{place}", "/models/m/../../secret.txt", "/models/m%00.py", "/models/..%5csecret.txt",
        f"/models/{place.replace('/', '%2F')}", "/models/m.py:f", "/models/file:%2F%2F%2Fetc%2Fpasswd",
        "/models/http:%2F%2F127.0.0.1%2F", "/models/%c0%ae%c0%ae/secret.txt", "/metrics/../secret.txt",
        "/control/%2e./secret.txt",
    ]  # fmt: skip
    for path in paths:
        for method in ("GET", "POST"):
            with Wire(server.url) as wire:
                wire.send(f"{method} {path} HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n".encode())
                answer = wire.answer()
            assert answer.status in (400, 404, 405), (method, path, answer)
            assert b"secret words" not in answer.body
            assert b"root:" not in answer.body
    assert place not in [str(each.resolve()) for each in Path(f"/proc/{server.process.pid}/fd").iterdir()]


def test_a_long_name_makes_no_long_answer(serve, tmp_path):
    """The name of an output comes back in the refusal, and no more of it than somebody reads."""
    (tmp_path / "m.py").write_text(
        "import graphpipe\n\n@graphpipe.model(inputs={'x': 'float32[n]'}, outputs={'y': 'float32[n]'})\n"
        "def f(x):\n    return x\n"
    )
    server = serve("-m", f"m={tmp_path}/m.py:f")
    for length in (100, 100_000, 15 << 20):
        with Wire(server.url) as wire:
            wire.send(post("/", foreign(np.ones(4, np.float32), "z" * length)))
            answer = wire.answer()
        assert answer.status == 400
        assert len(answer.body) < 500
