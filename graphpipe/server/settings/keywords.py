"""The keywords of ``graphpipe.serve``, for type checkers: written by scripts/flag_table.py."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from typing import Literal, TypedDict

from graphpipe.problem import Problem

__all__ = ["Keywords"]


class Keywords(TypedDict, total=False):
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
    backend: str
    cast: bool
    ignore_extra_inputs: bool

    # Speed
    device: str
    providers: Sequence[str]
    intra_threads: int
    bfloat16: bool
    channels_last: bool
    threads: int

    # Isolation
    isolate: int | bool
    python: str | PathLike[str]
    isolate_container: str
    isolate_timeout_s: float
    isolate_memory_bytes: int | str
    isolate_cpus: int

    # Batching
    batch_rows_max: int
    batch_wait_ms: float
    batch_sizes: Sequence[int]
    batch_pad: Sequence[str]
    queue_rows_max: int

    # Row cache
    cache: bool
    cache_dir: str | PathLike[str]
    cache_bytes_max: int | str
    cache_ttl_s: float
    cache_version: str
    cache_fresh_ms: float

    # Network
    tls_cert: str | PathLike[str]
    tls_key: str | PathLike[str]
    grpc_listen: str | int
    protocols: Sequence[Literal["graphpipe", "open-inference", "tensorflow-serving", "grpc"]]
    allow_origin: Sequence[str]
    compress_answers: bool
    api_key_file: str | PathLike[str]
    tls_client_ca: str | PathLike[str]

    # Limits
    connections_max: int
    body_bytes_max: int | str
    inflate_ratio_max: int
    strings_max: int
    in_flight_bytes_max: int | str
    caller_requests_max: int
    caller_bytes_max: int | str
    caller_requests_per_s: float
    caller_bytes_per_s: int | str
    admission_wait_s: float
    head_timeout_s: float
    body_timeout_s: float
    send_timeout_s: float
    keepalive_timeout_s: float
    connection_age_max_s: float
    memory_limit_bytes: int | str
    queue_requests_max: int

    # Operation
    workers: int
    start_timeout_s: float
    metrics_listen: str | int
    log_format: Literal["human", "json"]
    access_lines_per_s: int
    log_values: bool
    debug: bool
    drain_grace_s: float
    drain_timeout_s: float
    enable_shutdown: bool
    verbose: int
    warmup: int
