"""What a test of faults sees of a server from outside: its pages, its counts, its processes."""

from __future__ import annotations

import re
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tests.serving import Server

DOUBLE = ("--model", "double=tests.faults.models:double", "--access-lines-per-s", "0", "--drain-grace-s", "0")
X = np.array([1, 2, 3], np.float32)
Serve = Callable[..., Server]


def get(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def metric(url: str, name: str) -> float:
    found = re.search(rf"^{re.escape(name)} (\S+)$", get(f"{url}/metrics")[1], re.MULTILINE)
    assert found, name
    return float(found[1])


def is_ready(server: Server) -> bool:
    return get(f"{server.url}/readyz")[0] == 200


def worker_pids(server: Server) -> list[int]:
    children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text()
    return [int(pid) for pid in children.split()]


def limited(what: str, soft: int) -> str:
    """A program that serves under a resource limit of its own; its arguments begin with where to listen."""
    hard = f"resource.getrlimit(resource.{what})[1]"
    return (
        f"import resource; resource.setrlimit(resource.{what}, ({soft}, {hard})); "
        "from graphpipe.server.cli import main; main(prog_name='graphpipe-serve')"
    )
