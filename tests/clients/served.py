"""The models of models.py as graphpipe-serve takes them: ``--model simple=tests.clients.served:simple``."""

from __future__ import annotations

from typing import Any

import numpy as np

import graphpipe
from tests.clients.models import DTYPES, MODELS, Served, Tensors


def specs(tensors: Tensors) -> dict[str, str]:
    """The same in our words: ``int32[?, 16]``."""
    return {
        name: f"{'string' if datatype == 'BYTES' else np.dtype(DTYPES[datatype]).name}"
        f"[{', '.join('?' if size < 0 else str(size) for size in shape)}]"
        for name, (datatype, shape) in tensors.items()
    }


def ours(served: Served) -> Any:
    @graphpipe.model(inputs=specs(served.inputs), outputs=specs(served.outputs))
    def model(*arrays: Any) -> tuple[Any, ...]:
        return served.function(*arrays)

    return model


globals().update({name: ours(served) for name, served in MODELS.items()})

ARGUMENTS = [part for name in MODELS for part in ("--model", f"{name}=tests.clients.served:{name}")]
