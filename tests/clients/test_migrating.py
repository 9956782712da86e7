"""The pages for those who come from other servers: what they show of foreign clients is run with these clients.

Their other blocks are run with all documents, by tests/test_docs.py.
"""

from __future__ import annotations

import doctest
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.harness.environment import Unavailable
from benchmarks.harness.environments import ENVIRONMENTS
from tests.serving import ROOT
from tests.test_docs import SAME, Reader, blocks_of, plain

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
FOREIGN = re.compile(
    r"<!-- not run: here, but in the environment (\S+), by tests/clients/test_migrating\.py -->\n"
    r"```python\n(.*?)^```",
    re.MULTILINE | re.DOTALL,
)
PAGES = sorted(path.name for path in (ROOT / "docs" / "migrating").glob("*.md"))


@pytest.fixture
def reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Reader]:
    monkeypatch.chdir(ROOT)
    reader = Reader(tmp_path)
    yield reader
    reader.leave()


@pytest.mark.parametrize("page", PAGES)
def test_what_a_page_shows_of_foreign_clients_is_what_they_do(page: str, reader: Reader) -> None:
    text = (ROOT / "docs" / "migrating" / page).read_text()
    environments = {code: environment for environment, code in FOREIGN.findall(text)}
    assert len(environments) >= 2
    for block in blocks_of(text):
        if block.text not in environments:
            assert not block.is_excused
            reader.read(block)
            continue
        try:
            python = ENVIRONMENTS[environments[block.text]].make()
        except Unavailable as why:
            pytest.skip(str(why))
        done = subprocess.run(
            [python, "-c", reader.with_real_ports(block.text)], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr[-3000:]
        assert block.expected is not None
        assert SAME.check_output(plain(block.expected), plain(done.stdout), doctest.ELLIPSIS), done.stdout
