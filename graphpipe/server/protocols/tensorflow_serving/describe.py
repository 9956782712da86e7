"""What there is, as the protocol's documents."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from graphpipe.backends.model import Model
from graphpipe.server.protocols.tensorflow_serving.signatures import method_of, name_of
from graphpipe.server.protocols.tensorflow_serving.tensors import number_of_dtype
from graphpipe.signature import Signature, TensorSpec

__all__ = ["metadata", "status"]

_DTYPES = {
    1: "FLOAT", 2: "DOUBLE", 3: "INT32", 4: "UINT8", 5: "INT16", 6: "INT8", 7: "STRING", 9: "INT64", 10: "BOOL",
    17: "UINT16", 19: "HALF", 22: "UINT32", 23: "UINT64",
}  # fmt: skip


def status(name: str, versions: Sequence[str]) -> dict[str, Any]:
    """A model's versions, and (``name``, ``ready``) what KServe's first protocol says of a model."""
    fine = {"error_code": "OK", "error_message": ""}
    return {
        "name": name,
        "ready": True,
        "model_version_status": [{"version": each, "state": "AVAILABLE", "status": fine} for each in versions],
    }


def metadata(name: str, version: str, model: Model, signature: Signature) -> dict[str, Any]:
    """What a model takes and gives."""
    described = {
        "inputs": _tensors(signature.inputs, signature.input_names),
        "outputs": _tensors(signature.outputs, signature.output_names),
        "method_name": method_of(model),
    }
    return {
        "model_spec": {"name": name, "signature_name": "", "version": version},
        "metadata": {"signature_def": {"signature_def": {name_of(model): described}}},
    }


def _tensors(specs: Sequence[TensorSpec], names: Sequence[str]) -> dict[str, Any]:
    by_name = {spec.name: spec for spec in specs}
    return {name: _tensor(by_name.get(name, TensorSpec(name))) for name in names}


def _tensor(spec: TensorSpec) -> dict[str, Any]:
    dims = [{"size": str(dim if isinstance(dim, int) else -1), "name": ""} for dim in spec.shape or ()]
    return {
        "dtype": f"DT_{_DTYPES.get(number_of_dtype(spec.dtype), 'INVALID')}",
        "tensor_shape": {"dim": dims, "unknown_rank": spec.shape is None},
        "name": spec.name if ":" in spec.name else f"{spec.name}:0",
    }
