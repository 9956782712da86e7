"""Fixtures that every room may use."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import pytest

from tests.serving import Server, serving


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    """Starts server processes that end with the test: ``serve("--model", "echo").url``; the arguments of serving."""
    with contextlib.ExitStack() as stack:
        yield lambda *args, **settings: stack.enter_context(serving(*args, **settings))
