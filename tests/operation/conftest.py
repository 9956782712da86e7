"""What the tests of operation share: a folder for signs between test and model, and looks at a server's pages."""

from __future__ import annotations

import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.serving import ROOT, Server

Serve = Callable[..., Server]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the models of models.py leave and look for files."""
    return tmp_path


@pytest.fixture
def start(serve: Serve, folder: Path) -> Serve:
    """Starts servers of the models in models.py, by name: start("double", "--workers", "2")."""

    def start(names: str, *arguments: str, **settings: object) -> Server:
        models = [part for name in names.split() for part in ("-m", f"{name}=tests.operation.models:{name}")]
        settings.setdefault("env", {"TEST_FOLDER": str(folder)})
        return serve(*models, "--drain-grace-s", "0", *arguments, cwd=ROOT, **settings)

    return start


def get(url: str, timeout_s: float = 10) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=timeout_s) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def samples(url: str) -> dict[str, float]:
    """The page of metrics, by name and labels."""
    status, page = get(f"{url}/metrics")
    assert status == 200
    return {name: float(value) for name, value in re.findall(r"^([^#\s]\S*(?:\{.*?\})?) (\S+)$", page, re.MULTILINE)}


def until(condition: Callable[[], object], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not become true"
        time.sleep(0.02)
