"""What a server is told: one frozen value, made once from flags, environment, file or Python, passed on by the fields.

**To add a setting**: one field here (of Settings for the whole server, of ModelSettings for each model; what concerns
loading is in backends/options.py), and ``python scripts/flag_table.py``, which brings along what is written down from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from graphpipe.backends.options import LoadOptions
from graphpipe.backends.unused import Said
from graphpipe.kinds import (
    address,
    choice,
    choices,
    count,
    integer,
    integers,
    names,
    number,
    origins,
    path,
    size,
    switch,
    text,
)
from graphpipe.machine import descriptors, memory_bytes
from graphpipe.server.quotas.quota import Limits
from graphpipe.setting import setting

__all__ = ["PROGRESS_BYTES_PER_S", "PROTOCOLS", "ModelSettings", "Settings", "fitting_body"]

# A body or an answer that moves more slowly than this has stopped.
PROGRESS_BYTES_PER_S = 1024

# What --protocols may name. gRPC carries those that are named beside it.
PROTOCOLS = ("graphpipe", "open-inference", "tensorflow-serving", "grpc")

_BATCHED = ("batch_rows_max", "batch_sizes")
_CACHED = ("cache",)


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """One model to serve: what it is called, where it comes from, and how it is loaded and run.

    ``said`` has the options of loading that somebody asked for: what the model cannot make use of is refused when it is
    known what loads it.
    """

    name: str
    source: str
    options: LoadOptions = field(default_factory=LoadOptions)
    said: Mapping[str, Said] = field(default_factory=dict, compare=False)
    backend: str = setting("", "Models", text("KIND"), "What loads the model, where its source does not say.")
    cast: bool = setting(
        False, "Models", switch(), "Convert numbers to the type that the model takes, float64 to float32 say."
    )
    ignore_extra_inputs: bool = setting(False, "Models", switch(), "Leave out tensors that the model has no input for.")
    threads: int = setting(
        0, "Speed", integer(0, 1024), "Calls of one model that run at once.", default_text="usable CPUs"
    )
    batch_rows_max: int = setting(
        0, "Batching", integer(0, 1 << 20),
        "Join the rows of several callers into calls of at most this many. Only for models whose rows are independent.",
        default_text="no batching",
    )  # fmt: skip
    batch_wait_ms: float = setting(
        0.0, "Batching", number(0, 60_000, "MS"),
        "How long the first member of a batch waits for others; 0: a batch is what comes while the model is busy.",
        needs=_BATCHED,
    )  # fmt: skip
    batch_sizes: tuple[int, ...] = setting(
        (), "Batching", integers(1, 1 << 20),
        "The only numbers of rows that the model is called with: filled up by repeating a row, larger requests split.",
        default_text="any",
    )  # fmt: skip
    batch_pad: tuple[str, ...] = setting(
        (), "Batching", names("NAME:AXIS:VALUE"),
        "Make ragged inputs equally long along an axis with a value; OUTPUT:AXIS:INPUT or OUTPUT:none say of an output "
        "whether it grows with an input, where the model does not.",
        needs=_BATCHED,
    )  # fmt: skip
    queue_rows_max: int = setting(
        0, "Batching", integer(0), "Rows that may wait for their batch; beyond it 503.",
        default_text="16 batches, at least 1024", needs=_BATCHED,
    )  # fmt: skip
    cache: bool = setting(
        False, "Row cache", switch(),
        "Keep the answer to every row on disk, and give it again. Only for models whose rows are independent and whose "
        "answers depend on nothing else.",
        original_env="GP_CACHE",
    )  # fmt: skip
    cache_dir: str = setting(
        "~/.graphpipe",
        "Row cache",
        path("FOLDER"),
        "Where the rows are kept, in a folder for each model.",
        needs=_CACHED,
    )
    cache_bytes_max: int = setting(
        1 << 30,
        "Row cache",
        size(1 << 20, 1 << 44),
        "Bytes of rows kept; those used least are dropped.",
        needs=_CACHED,
    )
    cache_ttl_s: float = setting(
        0.0,
        "Row cache",
        number(),
        "Rows older than this are computed anew.",
        default_text="they do not age",
        needs=_CACHED,
    )
    cache_version: str = setting(
        "", "Row cache", text("TEXT"),
        "Part of every row's key: change it, and all rows are computed anew. A model without a digest needs one.",
        needs=_CACHED,
    )  # fmt: skip
    cache_fresh_ms: float = setting(
        0.0, "Row cache", number(0, 3_600_000, "MS"),
        "How long an upstream's word on which model it serves is taken for true; 0: it is asked before every answer.",
        needs=_CACHED,
    )  # fmt: skip
    queue_requests_max: int = setting(
        1024, "Limits", integer(1), "Requests that may wait for a thread of the model; beyond it 503."
    )
    warmup: int = setting(1, "Operation", integer(0, 1000), "Calls on made-up inputs before requests are welcome.")


@dataclass(frozen=True, slots=True)
class Settings:
    """One server. Sizes are bytes, times are seconds."""

    listen: str = setting(
        "127.0.0.1:9000", "Network", address(9000),
        "HOST:PORT, [IPv6]:PORT or unix:PATH. Port 0 picks a free one, a port alone is this machine's only, and 0.0.0.0 or "
        ":PORT is for whoever reaches it. fd:N is a socket of systemd's, the first is 3.", short="l",
    )  # fmt: skip
    tls_cert: str = setting("", "Network", path(), "PEM file with the server's certificate: serve https.")
    tls_key: str = setting(
        "", "Network", path(), "PEM file with its key.", default_text="in the certificate's file", needs=("tls_cert",)
    )
    grpc_listen: str = setting(
        "", "Network", address(),
        "An address for gRPC alone, which is spoken at --listen too: for those who must say which port is whose.",
        default_text="none",
    )  # fmt: skip
    protocols: tuple[str, ...] = setting(
        PROTOCOLS, "Network", choices(*PROTOCOLS),
        "Which protocols are spoken beside GraphPipe's own, which always is: open-inference (v2, as Triton and KServe have "
        "it), tensorflow-serving, and those of the two over grpc; graphpipe: none of them.", default_text="all of them",
    )  # fmt: skip
    allow_origin: tuple[str, ...] = setting(
        (), "Network", origins(),
        "Let web pages of these origins read answers (CORS): https://HOST or https://HOST:PORT, or * for every page.",
        default_text="no page may",
    )  # fmt: skip
    compress_answers: bool = setting(
        False, "Network", switch(), "Compress answers and pages for whoever sends Accept-Encoding: gzip."
    )
    api_key_file: str = setting(
        "", "Network", path(),
        "Ask callers for a key (Authorization: Bearer) of this file, which `graphpipe keys add` writes. It is watched: a "
        "change holds at once.", default_text="nobody is asked",
    )  # fmt: skip
    tls_client_ca: str = setting(
        "", "Network", path(),
        "PEM file of authorities: whoever calls needs a certificate of one of them, and has the name in it.",
        default_text="anybody may call", needs=("tls_cert",),
    )  # fmt: skip
    connections_max: int = setting(
        0, "Limits", integer(0), "Connections that a worker has open at once; a further one gets 503.",
        default_text="what the limit of descriptors (ulimit -n) leaves",
    )  # fmt: skip
    body_bytes_max: int = setting(1 << 30, "Limits", size(1, 2**31 - 1), "Largest request body; a larger one gets 413.")
    inflate_ratio_max: int = setting(
        100, "Limits", integer(0, 1 << 20),
        "How many times as many bytes as came a compressed body may become, from 8 MiB on; more gets 413. 0: no body "
        "may be compressed. What it becomes is limited by --body-bytes-max too.",
    )  # fmt: skip
    strings_max: int = setting(
        1 << 20, "Limits", integer(1, 1 << 24), "Most strings in a request; one with more gets 413."
    )
    in_flight_bytes_max: int = setting(
        0, "Limits", size(),
        "Bytes of bodies and of answers that a worker holds at once; beyond it callers wait, then get 503.",
        default_text="a quarter of the memory, shared by the workers",
    )  # fmt: skip
    caller_requests_max: int = setting(
        0, "Limits", integer(0),
        "Requests that one caller has in flight, in each worker; a further one gets 429. A caller is a key, else a "
        "client's certificate, else an address.", default_text="no limit",
    )  # fmt: skip
    caller_bytes_max: int = setting(
        0, "Limits", size(), "Bytes of bodies that one caller has in flight, likewise.", default_text="no limit"
    )
    caller_requests_per_s: float = setting(
        0.0, "Limits", number(0, metavar="N"),
        "Requests a second of one caller, likewise; a second's worth may come at once.", default_text="no limit",
    )  # fmt: skip
    caller_bytes_per_s: int = setting(
        0, "Limits", size(), "Bytes of bodies a second of one caller, likewise.", default_text="no limit"
    )
    admission_wait_s: float = setting(1.0, "Limits", number(), "How long a caller waits for room before it gets 503.")
    head_timeout_s: float = setting(
        10.0, "Limits", number(0.001),
        "How long the head of a request may take to come, and the first byte, or the TLS handshake, of a new connection.",
    )  # fmt: skip
    body_timeout_s: float = setting(
        30.0, "Limits", number(0.001), "How long a body may make no progress on its way in."
    )
    send_timeout_s: float = setting(
        30.0, "Limits", number(0.001), "How long an answer may make no progress on its way out."
    )
    keepalive_timeout_s: float = setting(75.0, "Limits", number(0), "How long an idle connection is kept open.")
    connection_age_max_s: float = setting(
        0.0, "Limits", number(0),
        "Age from which a connection is closed with its next answer, so that balancers can move it; 0: never.",
    )  # fmt: skip
    memory_limit_bytes: int = setting(
        0, "Limits", size(), "Memory from which a worker is replaced by a fresh one, gracefully; 0: never."
    )
    workers: int = setting(
        1, "Operation", integer(1, 256), "Processes that serve on the one address; several are watched."
    )
    start_timeout_s: float = setting(
        600.0, "Operation", number(0),
        "How long a worker may take to load and warm up its models before it counts as failed; 0: as long as it likes.",
    )  # fmt: skip
    metrics_listen: str = setting(
        "", "Operation", address(), "An address for /metrics, which then leaves --listen, and for health checks."
    )
    log_format: str = setting("human", "Operation", choice("human", "json"), "How log lines look on stderr.")
    access_lines_per_s: int = setting(
        20, "Operation", integer(0),
        "Log a line for each request, at most so many a second; the rest is counted. 0: none.",
    )  # fmt: skip
    log_values: bool = setting(
        False, "Operation", switch(),
        "Log the words of a model's failure as they are: they may quote what callers sent, and are masked otherwise.",
    )  # fmt: skip
    debug: bool = setting(
        False, "Operation", switch(),
        "Tell callers why the model failed on their request: the exception, its words and the line of code.",
    )  # fmt: skip
    drain_grace_s: float = setting(
        1.0, "Operation", number(0),
        "After SIGTERM: how long new requests are still taken, while balancers take note.",
    )  # fmt: skip
    drain_timeout_s: float = setting(
        30.0, "Operation", number(0), "After SIGTERM: how long requests in flight may take to finish."
    )
    enable_shutdown: bool = setting(
        False, "Operation", switch(),
        "Let anybody who can reach the server end it: POST /control/shutdown. With --api-key-file that takes a key with "
        "the scope admin, and not this flag.",
    )  # fmt: skip
    verbose: int = setting(0, "Operation", count(), "Say more; twice: everything.", short="v")

    @property
    def in_workers(self) -> bool:
        """Whether processes of their own serve, which this one watches."""
        return self.workers > 1 or self.memory_limit_bytes > 0

    def in_flight_cap(self) -> int:
        """The bytes that may be in flight in one worker: as told, or its share of a quarter of this machine's memory.

        That share is at least one whole body.
        Raises ValueError if one body has no room in what was told.
        """
        told = self.in_flight_bytes_max
        if told and told < self.body_bytes_max:
            raise ValueError(_no_room(self.body_bytes_max, told))
        return told or max(memory_bytes() // 4 // self.workers, self.body_bytes_max)

    def caller_limits(self) -> Limits:
        """What one caller may ask of one worker."""
        return Limits(
            self.caller_requests_max, self.caller_bytes_max, self.caller_requests_per_s, self.caller_bytes_per_s
        )

    def connections_cap(self) -> int:
        """The connections that may be open in one worker: as told, or what the limit of descriptors leaves at this moment.

        Some are kept for files and for those who are told that there are too many.
        """
        if self.connections_max:
            return self.connections_max
        limit, is_open = descriptors()
        return max(1, limit - is_open - max(64, limit // 16)) if limit > 128 else max(1, (limit - is_open) // 2)


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
