"""What a server counts: a row here is a metric, and where its numbers are."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from typing import Literal

__all__ = [
    "BUCKETS_S",
    "FAMILIES",
    "FAMILY",
    "OTHER",
    "PLACES",
    "PROTOCOLS",
    "START",
    "STATUSES",
    "STATUS_PLACE",
    "WIDTH",
    "Family",
]

# From a small model's run to a caller's patience, three steps to each factor of ten.
BUCKETS_S = (
    0.0001,
    0.00025,
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    30.0,
)
BUCKETS_ROWS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 4096.0, 16384.0)
# What the label `code` can be; anything else counts as "other".
STATUSES = (200, 400, 401, 403, 404, 405, 408, 413, 415, 429, 431, 500, 501, 502, 503, 504, 505, 0)
# What the label `protocol` can be: messages, descriptions as JSON, the protocols of other servers, over HTTP and gRPC, and
# what came by HTTP/2 and is none of these.
PROTOCOLS = (
    "graphpipe",
    "json",
    "open_inference",
    "open_inference_grpc",
    "tensorflow_serving",
    "tensorflow_serving_grpc",
    "health_grpc",
    "grpc",
)
PLACES = {protocol: place for place, protocol in enumerate(PROTOCOLS)}


@dataclass(frozen=True, slots=True)
class Family:
    """One metric.

    ``per`` says what it is kept for: each model, each caller who has a name, or the worker as a whole; ``total`` how the
    workers' numbers become one.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram", "by_code"]
    per: Literal["model", "worker", "caller"]
    help: str
    buckets: tuple[float, ...] = BUCKETS_S
    total: Literal["sum", "max"] = "sum"

    @property
    def width(self) -> int:
        """How many numbers it takes."""
        if self.kind == "histogram":
            return len(self.buckets) + 2  # a count for each bucket and one above, and the sum
        return len(STATUSES) * len(PROTOCOLS) if self.kind == "by_code" else 1


FAMILIES = (
    Family("graphpipe_requests", "by_code", "model", "Inference and metadata requests answered, by HTTP status."),
    Family(
        "graphpipe_request_duration_seconds", "histogram", "model", "From the whole request here to its answer written."
    ),
    Family("graphpipe_queue_duration_seconds", "histogram", "model", "From a request's check to the start of its run."),
    Family("graphpipe_batch_wait_duration_seconds", "histogram", "model", "How long a request waited for its batch."),
    Family("graphpipe_inference_duration_seconds", "histogram", "model", "One run of the model."),
    Family(
        "graphpipe_encode_duration_seconds", "histogram", "model", "From the model's outputs to the answer's bytes."
    ),
    Family("graphpipe_rows", "counter", "model", "Rows (first dimension of the first input) in answered requests."),
    Family(
        "graphpipe_batch_rows",
        "histogram",
        "model",
        "Rows of one call of a batched model, padding included.",
        BUCKETS_ROWS,
    ),
    Family("graphpipe_batch_requests", "counter", "model", "Requests in these calls."),
    Family("graphpipe_batch_padding_rows", "counter", "model", "Rows that were added to reach an allowed size."),
    Family("graphpipe_batch_retried", "counter", "model", "Requests run alone because their batch failed."),
    Family("graphpipe_batch_refused", "counter", "model", "Requests refused because too many rows waited."),
    Family("graphpipe_batch_queue_rows", "gauge", "model", "Rows that wait for their batch."),
    Family("graphpipe_cache_hits", "counter", "model", "Rows answered from the row cache."),
    Family("graphpipe_cache_misses", "counter", "model", "Rows that the row cache did not know."),
    Family("graphpipe_cache_shared", "counter", "model", "Rows that somebody else's request was computing already."),
    Family("graphpipe_cache_passed", "counter", "model", "Requests that could not be cached."),
    Family("graphpipe_cache_stored", "counter", "model", "Rows written to the row cache, one for each output."),
    Family("graphpipe_cache_evicted", "counter", "model", "Rows dropped to hold the row cache's limit."),
    Family("graphpipe_cache_left_out", "counter", "model", "Rows not written for want of room, time or a disk."),
    Family("graphpipe_cache_errors", "counter", "model", "Failures of the row cache: damaged rows, failed writes."),
    Family("graphpipe_isolated_restarts", "counter", "model", "Processes of an isolated model that ended unasked."),
    Family("graphpipe_isolated_processes", "gauge", "model", "Processes of an isolated model that are up now."),
    Family(
        "graphpipe_shown_bytes",
        "counter",
        "model",
        "Bytes of tensors that callers on this host showed, and did not send.",
    ),
    Family("graphpipe_abandoned_requests", "counter", "model", "Requests whose callers left before their answer."),
    Family("graphpipe_queue_requests", "gauge", "model", "Requests that wait for a batch, or a thread of the model."),
    Family(
        "graphpipe_longest_run_seconds",
        "gauge",
        "model",
        "How long the longest run that is under way has taken so far.",
        total="max",
    ),
    Family(
        "graphpipe_model_load_seconds",
        "gauge",
        "model",
        "How long the model took to load and warm up, in the slowest worker.",
        total="max",
    ),
    Family(
        "graphpipe_caller_requests", "counter", "caller", "Requests of a caller who has a key, answered or refused."
    ),
    Family("graphpipe_caller_errors", "counter", "caller", "Those of them whose answer was not 200."),
    Family("graphpipe_in_flight_requests", "gauge", "worker", "Requests that are being answered."),
    Family(
        "graphpipe_in_flight_bytes",
        "gauge",
        "worker",
        "Bytes of bodies that have come, and of answers that are not sent yet.",
    ),
    Family("graphpipe_buffer_pool_idle_bytes", "gauge", "worker", "Bytes of buffers that wait for their next use."),
    Family("graphpipe_connections", "gauge", "worker", "Open connections."),
    Family("graphpipe_memory_bytes", "gauge", "worker", "Resident memory of the worker processes."),
    Family(
        "graphpipe_log_lines_left_out",
        "counter",
        "worker",
        "Log lines about failures that were left out because there were many alike, and lines that nobody took.",
    ),
)
FAMILY = {family.name: family for family in FAMILIES}
# Every owner, a model or the worker itself, has a row of so many numbers, and in it each family begins here.
START = dict(zip(FAMILY, accumulate((family.width for family in FAMILIES), initial=0), strict=False))
WIDTH = sum(family.width for family in FAMILIES)
# Where a status counts among those of a protocol.
STATUS_PLACE = {status: i for i, status in enumerate(STATUSES)}
OTHER = len(STATUSES) - 1
