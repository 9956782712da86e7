"""How batches are formed, as a user says it; and what is counted of them."""

from __future__ import annotations

from dataclasses import dataclass

from graphpipe.server.stages.batching.ragged import RaggedAxes

__all__ = ["BatchCounts", "BatchLimits"]


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """How batches are formed.

    ``rows_max`` rows close a batch, and so do ``wait_s`` seconds after its first member; 0 means that a batch is what
    came while the model was busy. ``sizes`` are the only numbers of rows that the model is called with (empty: any);
    ``ragged`` makes inputs of different lengths equally long. ``queue_rows_max`` rows may wait, further ones are refused.
    ``at_once`` is how many calls the next stage can run at the same time.
    """

    rows_max: int
    wait_s: float = 0.0
    sizes: tuple[int, ...] = ()
    ragged: RaggedAxes | None = None
    queue_rows_max: int = 1024
    at_once: int = 1


@dataclass(slots=True)
class BatchCounts:
    """What has happened so far."""

    calls: int = 0
    rows: int = 0
    padding_rows: int = 0
    requests: int = 0
    refused: int = 0
    retried_alone: int = 0
    wait_s: float = 0.0
