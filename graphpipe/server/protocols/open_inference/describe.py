"""What there is and how it does, as the protocol's documents."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphpipe.backends.model import Model
from graphpipe.server.numbers.families import FAMILY, START
from graphpipe.server.protocols.open_inference.datatypes import datatype_of
from graphpipe.signature import Signature, TensorSpec
from graphpipe.version import __version__

__all__ = ["EXTENSIONS", "configuration", "in_index", "metadata", "server", "statistics"]

# What of Triton's extensions is here, by its own names for them.
EXTENSIONS = ("binary_tensor_data", "model_configuration", "model_repository", "statistics")
# Of an input or output whose type is not known before it comes.
_ANY = "ANY"
# Where a configuration calls a type by another name.
_CONFIGURED = {"BYTES": "STRING", _ANY: "INVALID"}


def server() -> dict[str, Any]:
    """The server."""
    return {"name": "graphpipe", "version": __version__, "extensions": list(EXTENSIONS)}


def metadata(name: str, versions: Sequence[str], model: Model, signature: Signature) -> dict[str, Any]:
    """A model: -1 is a dimension that varies, and one of -1 alone may stand for any shape."""
    return {
        "name": name,
        "versions": list(versions),
        "platform": _platform(model),
        "inputs": _tensors(signature.inputs, signature.input_names),
        "outputs": _tensors(signature.outputs, signature.output_names),
    }


def _platform(model: Model) -> str:
    """What runs it, by its own word, which whoever wrote it may have got wrong."""
    try:
        return str(getattr(model, "kind", "")).encode("utf-8", "replace").decode()
    except BaseException:
        return ""


def _tensors(specs: Sequence[TensorSpec], names: Sequence[str]) -> list[dict[str, Any]]:
    by_name = {spec.name: spec for spec in specs}
    return [_tensor(by_name.get(name, TensorSpec(name))) for name in names]


def _tensor(spec: TensorSpec) -> dict[str, Any]:
    shape = [-1] if spec.shape is None else [dim if isinstance(dim, int) else -1 for dim in spec.shape]
    return {"name": spec.name, "datatype": datatype_of(spec.dtype) or _ANY, "shape": shape}


def configuration(name: str, model: Model, signature: Signature) -> dict[str, Any]:
    """A model as Triton's configuration has it: every dimension is said, that of the batch too (max_batch_size 0)."""
    said = metadata(name, (), model, signature)
    return {
        "name": name,
        "platform": said["platform"],
        "backend": said["platform"],
        "max_batch_size": 0,
        **{
            side: [
                {
                    "name": tensor["name"],
                    "data_type": f"TYPE_{_CONFIGURED.get(tensor['datatype'], tensor['datatype'])}",
                    "dims": tensor["shape"],
                }
                for tensor in said[f"{side}s"]
            ]
            for side in ("input", "output")
        },
    }


def in_index(name: str, version: str) -> dict[str, Any]:
    """A model that is served, in the list of all."""
    return {"name": name, "version": version, "state": "READY", "reason": ""}


def statistics(name: str, version: str, numbers: NDArray[np.float64]) -> dict[str, Any]:
    """What was counted for a model, by whichever protocol it was asked. Failures are counted by status, in /metrics."""
    answered, encoding = _histogram(numbers, "graphpipe_encode_duration_seconds")
    runs, running = _histogram(numbers, "graphpipe_inference_duration_seconds")
    waits, waiting = _histogram(numbers, "graphpipe_queue_duration_seconds")
    hits, misses = (int(numbers[START[f"graphpipe_cache_{what}"]]) for what in ("hits", "misses"))
    return {
        "name": name,
        "version": version,
        "last_inference": 0,
        "inference_count": int(numbers[START["graphpipe_rows"]]),
        "execution_count": runs,
        "inference_stats": {
            "success": {"count": answered, "ns": waiting + running + encoding},
            "fail": {"count": 0, "ns": 0},
            "queue": {"count": waits, "ns": waiting},
            "compute_input": {"count": 0, "ns": 0},
            "compute_infer": {"count": runs, "ns": running},
            "compute_output": {"count": answered, "ns": encoding},
            "cache_hit": {"count": hits, "ns": 0},
            "cache_miss": {"count": misses, "ns": 0},
        },
        "batch_stats": [],
    }


def _histogram(numbers: NDArray[np.float64], name: str) -> tuple[int, int]:
    """How often something took time, and how many nanoseconds in all."""
    buckets = len(FAMILY[name].buckets) + 1
    at = START[name]
    return int(numbers[at : at + buckets].sum()), int(numbers[at + buckets] * 1e9)
