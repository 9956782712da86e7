"""The keywords of ``graphpipe.load``, for type checkers: written by scripts/flag_table.py."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from typing import TypedDict

from graphpipe.problem import Problem

__all__ = ["LoadKeywords"]


class LoadKeywords(TypedDict, total=False):
    """Every setting, by the name of its field; docs/serving.md says what each does."""

    # Models
    inputs: Sequence[str]
    outputs: Sequence[str]
    signature: str
    tags: Sequence[str]
    value_inputs: str | PathLike[str]
    pad: Sequence[str]
    problem: str | PathLike[str] | Problem
    custom_ops: Sequence[str | PathLike[str]]
    model_sha256: str
    download_bytes_max: int | str
    download_timeout_s: float
    download_private: bool
    trust_model: bool
    upstream_api_key_file: str | PathLike[str]
    upstream_tls_ca: str | PathLike[str]
    upstream_tls_cert: str | PathLike[str]
    upstream_tls_key: str | PathLike[str]

    # Speed
    device: str
    providers: Sequence[str]
    intra_threads: int
    bfloat16: bool
    channels_last: bool

    # Isolation
    isolate: int | bool
    python: str | PathLike[str]
    isolate_container: str
    isolate_timeout_s: float
    isolate_memory_bytes: int | str
    isolate_cpus: int
