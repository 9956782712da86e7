"""GraphPipe: put a model behind a socket, and call it.

    answer = graphpipe.remote.execute("http://127.0.0.1:9000", array)       # call a model anywhere
    model = graphpipe.load("model.onnx"); model.infer({"x": array})         # load one into this process
    graphpipe.serve(model, listen="127.0.0.1:9000")                         # put it behind a socket, until Ctrl-C
    with graphpipe.serving(model) as server: ...                            # beside what this program does: server.url

Everything here is loaded when it is first used: the import itself costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from graphpipe.version import __version__

if TYPE_CHECKING:
    from graphpipe import errors, package, remote
    from graphpipe.backends import LoadedModel, Model
    from graphpipe.backends.find import load
    from graphpipe.backends.options import LoadOptions
    from graphpipe.backends.placeholder import placeholder
    from graphpipe.backends.python.hints import model
    from graphpipe.client import Client
    from graphpipe.client.asyncio_client import AsyncClient
    from graphpipe.comparison.comparing import compare
    from graphpipe.errors import (
        DeadlineExceeded,
        Forbidden,
        GraphPipeError,
        InvalidRequest,
        LoadError,
        MalformedMessage,
        ModelFailed,
        NoAnswer,
        NotFound,
        NotReady,
        Overloaded,
        PackageError,
        ProblemError,
        ServiceError,
        TestFailed,
        TimedOut,
        TooLarge,
        TraceError,
        Unauthenticated,
        Unreachable,
        Unsupported,
        UpstreamFailed,
    )
    from graphpipe.explanation.explanation import explain
    from graphpipe.fusing.fusing import fuse
    from graphpipe.pipeline.pipeline import Pipeline
    from graphpipe.pipeline.stage import Stage
    from graphpipe.problem import Case, Problem
    from graphpipe.server.serving import Serving, serve, serving
    from graphpipe.signature import Signature, TensorSpec
    from graphpipe.tracing.staging import stage
    from graphpipe.tracing.tracing import trace

__all__ = [
    "AsyncClient",
    "Case",
    "Client",
    "DeadlineExceeded",
    "Forbidden",
    "GraphPipeError",
    "InvalidRequest",
    "LoadError",
    "LoadOptions",
    "LoadedModel",
    "MalformedMessage",
    "Model",
    "ModelFailed",
    "NoAnswer",
    "NotFound",
    "NotReady",
    "Overloaded",
    "PackageError",
    "Pipeline",
    "Problem",
    "ProblemError",
    "ServiceError",
    "Serving",
    "Signature",
    "Stage",
    "TensorSpec",
    "TestFailed",
    "TimedOut",
    "TooLarge",
    "TraceError",
    "Unauthenticated",
    "Unreachable",
    "Unsupported",
    "UpstreamFailed",
    "__version__",
    "compare",
    "errors",
    "explain",
    "fuse",
    "load",
    "model",
    "package",
    "placeholder",
    "remote",
    "serve",
    "serving",
    "stage",
    "trace",
]

_ERRORS = (
    "DeadlineExceeded", "Forbidden", "GraphPipeError", "InvalidRequest", "LoadError", "MalformedMessage", "ModelFailed",
    "NoAnswer", "NotFound", "NotReady", "Overloaded", "PackageError", "ProblemError", "ServiceError", "TestFailed",
    "TimedOut", "TooLarge", "TraceError", "Unauthenticated", "Unreachable", "Unsupported", "UpstreamFailed",
)  # fmt: skip

_HOMES = {
    "AsyncClient": "graphpipe.client.asyncio_client",
    "Client": "graphpipe.client.blocking",
    "compare": "graphpipe.comparison.comparing",
    "explain": "graphpipe.explanation.explanation",
    "fuse": "graphpipe.fusing.fusing",
    "load": "graphpipe.backends",
    "LoadOptions": "graphpipe.backends",
    "LoadedModel": "graphpipe.backends",
    "Model": "graphpipe.backends",
    "model": "graphpipe.backends.python.hints",
    "placeholder": "graphpipe.backends.placeholder",
    "Case": "graphpipe.problem",
    "Problem": "graphpipe.problem",
    "Pipeline": "graphpipe.pipeline.pipeline",
    "Stage": "graphpipe.pipeline.stage",
    "Serving": "graphpipe.server.serving",
    "serve": "graphpipe.server.serving",
    "serving": "graphpipe.server.serving",
    "Signature": "graphpipe.signature",
    "TensorSpec": "graphpipe.signature",
    "stage": "graphpipe.tracing.staging",
    "trace": "graphpipe.tracing.tracing",
    **dict.fromkeys(_ERRORS, "graphpipe.errors"),
}


def __getattr__(name: str) -> Any:
    if name in ("errors", "package", "remote"):
        return importlib.import_module(f"graphpipe.{name}")
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'graphpipe' has no attribute {name!r}")
    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
