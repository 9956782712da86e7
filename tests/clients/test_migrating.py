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
from tests.test_docs import SAME, STARTS_A_SERVER, Reader, blocks_of, plain

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
FOREIGN = re.compile(
    r"<!-- not run: here, but in the environment (\S+), by tests/clients/test_migrating\.py -->\n"
    r"```python\n(.*?)^```\n\n```text\n(.*?)^```",
    re.MULTILINE | re.DOTALL,
)
PAGES = sorted(path.name for path in (ROOT / "docs" / "migrating").glob("*.md"))


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    reader = Reader(tmp_path)
    yield reader
    reader.leave()


@pytest.mark.parametrize("page", PAGES)
def test_what_a_page_shows_of_foreign_clients_is_what_they_do(page: str, reader: Reader) -> None:
    text = (ROOT / "docs" / "migrating" / page).read_text()
    foreign = FOREIGN.findall(text)
    assert len(foreign) >= 2
    for block in blocks_of(text):
        if STARTS_A_SERVER.search(block.text):
            reader.start(block)
    for environment, code, expected in foreign:
        try:
            python = ENVIRONMENTS[environment].make()
        except Unavailable as why:
            pytest.skip(str(why))
        done = subprocess.run(
            [python, "-c", reader.with_real_ports(code)], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr[-3000:]
        assert SAME.check_output(plain(expected), plain(done.stdout), doctest.ELLIPSIS), done.stdout
