"""What a server is told: one frozen value, made once from flags and environment, passed on by the fields."""

from __future__ import annotations

from dataclasses import dataclass, field

from graphpipe.backends.options import LoadOptions
from graphpipe.machine import memory_bytes

__all__ = ["PROGRESS_BYTES_PER_S", "ModelSettings", "Settings", "fitting_body"]

# A body or an answer that moves more slowly than this has stopped.
PROGRESS_BYTES_PER_S = 1024


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """One model to serve: what it is called, where it comes from, and how it is loaded and run."""

    name: str
    source: str
    options: LoadOptions = field(default_factory=LoadOptions)
    backend: str = ""
    threads: int = 0
    cast: bool = False
    ignore_extra_inputs: bool = False
    queue_requests_max: int = 1024
    warmup: int = 1
    batch_rows_max: int = 0
    batch_wait_ms: float = 0.0
    batch_sizes: tuple[int, ...] = ()
    batch_pad: tuple[str, ...] = ()
    queue_rows_max: int = 0
    cache: bool = False
    cache_dir: str = "~/.graphpipe"
    cache_bytes_max: int = 1 << 30
    cache_ttl_s: float = 0.0
    cache_version: str = ""
    cache_fresh_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class Settings:
    """One server. Sizes are bytes, times are seconds; 0 threads means as many as there are CPUs to use."""

    listen: str = "127.0.0.1:9000"
    body_bytes_max: int = 1 << 30
    in_flight_bytes_max: int = 0
    admission_wait_s: float = 1.0
    head_timeout_s: float = 10.0
    body_timeout_s: float = 30.0
    send_timeout_s: float = 30.0
    keepalive_timeout_s: float = 75.0
    connection_age_max_s: float = 0.0
    drain_grace_s: float = 1.0
    drain_timeout_s: float = 30.0
    workers: int = 1
    start_timeout_s: float = 600.0
    memory_limit_bytes: int = 0
    metrics_listen: str = ""
    log_format: str = "human"
    access_lines_per_s: int = 20
    enable_shutdown: bool = False
    tls_cert: str = ""
    tls_key: str = ""
    verbose: int = 0

    def in_flight_cap(self) -> int:
        """The bytes that may be in flight in one worker: as told, or its share of a quarter of this machine's memory.

        That share is at least one whole body.
        Raises ValueError if one body has no room in what was told.
        """
        told = self.in_flight_bytes_max
        if told and told < self.body_bytes_max:
            raise ValueError(_no_room(self.body_bytes_max, told))
        return told or max(memory_bytes() // 4 // self.workers, self.body_bytes_max)


def fitting_body(body: int, in_flight: int, workers: int, is_said: bool) -> int:
    """The largest body, which gives way to the bytes that may be in flight (0: a share of the memory) unless it was said.

    Raises ValueError if both were said and one body has no room.
    """
    if not is_said:
        return max(1, min(body, in_flight or memory_bytes() // 4 // workers))
    if in_flight and in_flight < body:
        raise ValueError(_no_room(body, in_flight))
    return body


def _no_room(body: int, in_flight: int) -> str:
    return f"--in-flight-bytes-max {in_flight} has no room for one body of --body-bytes-max {body}"
