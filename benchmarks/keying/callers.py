"""Callers with keys: the file that a server reads, and the requests that they send."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.harness.messages import post, small
from graphpipe.keyfile import digest_of, key_of, new_key, text_of

__all__ = ["CALLERS", "key_file", "new_keys", "request"]

CALLERS = 1000


def new_keys(count: int = CALLERS) -> list[str]:
    """So many keys."""
    return [new_key() for _ in range(count)]


def key_file(path: Path, keys: Sequence[str]) -> Path:
    """A file with these keys, each for a caller who may infer."""
    lines = [text_of(key_of(f"c{n}", digest_of(key.encode()), ["infer", "metadata"])) for n, key in enumerate(keys)]
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def request(key: str = "") -> bytes:
    """1 KB for echo, with a key or none."""
    return post("/", small(), "1.1", *([f"Authorization: Bearer {key}"] if key else []))
