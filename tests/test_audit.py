"""`make audit` says plainly what it did not do, and fails only for what was found."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
NOTHING, FOUND = (
    {"dependencies": [{"name": "a", "version": "1", "vulns": each}]} for each in ([], [{"id": "PYSEC-1"}])
)


def audit(folder: Path, **tools: str) -> tuple[int, list[str]]:
    """Run it with these tools, each a line of sh, and no others."""
    for name in ("pip-audit", "govulncheck", "osv-scanner"):
        if name.replace("-", "_") in tools:
            (folder / name).write_text(f"#!/bin/sh\n{tools[name.replace('-', '_')]}\n")
            (folder / name).chmod(0o755)
    # One that is installed beside the interpreter is not to be met either.
    code = (
        f"import sys, runpy; sys.executable = {str(folder / 'python')!r}; sys.argv = ['audit.py'];"
        f"runpy.run_path({str(ROOT / 'scripts' / 'audit.py')!r}, run_name='__main__')"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PATH": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert not run.stderr
    return run.returncode, run.stdout.splitlines()


def test_tools_that_are_not_here_are_not_run_and_that_is_no_failure(tmp_path):
    status, lines = audit(tmp_path)
    assert status == 0
    assert [line.split()[:3] for line in lines] == [
        [name, "NOT", "RUN:"] for name in ("pip-audit", "govulncheck", "osv-scanner")
    ]
    assert all("install" in line for line in lines)


@pytest.mark.parametrize(
    "said",
    [
        "requests.exceptions.ConnectionError: HTTPSConnectionPool(host='pypi.org', port=443): Max retries exceeded",
        'govulncheck: fetching vulnerabilities: Get \\"https://vuln.go.dev/index/db.json\\": dial tcp: no such host',
        "failed to query: Post https://api.osv.dev/v1/querybatch: context deadline exceeded (Client.Timeout exceeded)",
    ],
)
def test_a_database_out_of_reach_is_said_and_is_no_failure(tmp_path, said):
    failing = f'echo "{said}" >&2; exit 2'
    status, lines = audit(tmp_path, pip_audit=failing, govulncheck=failing, osv_scanner=failing)
    assert status == 0
    assert all("NOT RUN: its database is out of reach" in line for line in lines)
    assert len(lines) == 3


def test_what_is_found_is_shown_and_fails(tmp_path):
    quiet = f"echo '{json.dumps(NOTHING)}'"
    status, lines = audit(tmp_path, pip_audit=quiet, govulncheck="exit 0", osv_scanner="exit 0")
    assert (status, [line.split(maxsplit=1)[1] for line in lines]) == (0, ["nothing known"] * 3)
    for tools in (
        {"pip_audit": f"echo '{json.dumps(FOUND)}'; exit 1"},
        {"govulncheck": "echo GO-2026-1; exit 3"},
        {"osv_scanner": "echo GHSA-1; exit 1"},
    ):
        status, lines = audit(
            tmp_path, **{"pip_audit": quiet, "govulncheck": "exit 0", "osv_scanner": "exit 0"} | tools
        )
        assert status == 1
        assert any("FOUND something" in line for line in lines)


def test_a_tool_that_fails_for_another_reason_is_a_failure(tmp_path):
    status, lines = audit(tmp_path, govulncheck="echo 'no go.mod file'; exit 1")
    assert status == 1
    assert "govulncheck  FAILED with status 1" in lines
