"""What each environment holds: one for every peer, and one for what two formats cannot share.

Versions are pinned where two of a release would be two measurements; what they need themselves is left to them.
"""

from __future__ import annotations

from benchmarks.harness.about import ROOT
from benchmarks.harness.environment import Environment

__all__ = ["ENVIRONMENTS", "RUNTIME"]


def _ours(package: str) -> str:
    """The version that we are measured with, as a requirement."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return next(line for line in lines if line.startswith(f"{package}=="))


# The same model has to be run by the same runtime behind every peer.
RUNTIME = ("numpy", _ours("onnxruntime"))

ENVIRONMENTS: dict[str, Environment] = {
    each.name: each
    for each in (
        # Formats: those of protobuf 6 beside everything that has no opinion, and those of protobuf 7.
        Environment(
            "formats",
            (
                "numpy",
                "flatbuffers",
                "ml_dtypes",
                "msgpack",
                "orjson",
                "pyarrow",
                "safetensors",
                "tritonclient[all]",
                "ujson",
            ),
        ),
        # And the servers of throughput.py: JSON's and PredictionService's, in front of both runtimes.
        Environment(
            "tensorflow-serving",
            ("tensorflow-serving-api==2.21.0", _ours("tensorflow-cpu"), *RUNTIME, "aiohttp", "uvloop", "orjson"),
        ),
        # gRPC's own server, with the classes that it generates.
        Environment("grpc", ("numpy", *map(_ours, ("grpcio", "grpcio-tools", "protobuf")))),
        # Ours, to be weighed: the client and its commands, and with a server for ONNX.
        Environment("graphpipe-client", (f"graphpipe-rpc @ {ROOT.as_uri()}",)),
        Environment("graphpipe", (f"graphpipe-rpc[onnx] @ {ROOT.as_uri()}", *RUNTIME)),
        # Peers, with what their clients need.
        Environment("aiohttp", (*RUNTIME, _ours("aiohttp"), _ours("uvloop"))),
        Environment("mosec", (*RUNTIME, "mosec==0.9.8", "httpx")),
        Environment("fastapi", (*RUNTIME, "fastapi==0.165.0", "uvicorn[standard]==0.54.0", "orjson", "httpx")),
        Environment("torchserve", (*RUNTIME, "torchserve==0.12.0", "torch-model-archiver==0.12.0", "requests")),
        Environment("litserve", (*RUNTIME, "litserve==0.2.19", "requests")),
        # Triton's Python backend is built for the Python of Debian: it does not run in one that was built otherwise.
        Environment("pytriton", (*RUNTIME, "nvidia-pytriton==0.7.0"), python="/usr/bin/python3.11"),
        Environment("bentoml", (*RUNTIME, "bentoml==1.4.40")),
        Environment("ray", (*RUNTIME, "ray[serve]==2.60.0", "requests")),
        Environment("mlserver", (*RUNTIME, "mlserver==1.7.1", "requests")),
        Environment("kserve", (*RUNTIME, "kserve==0.21.0")),
        # Clients of other protocols that tests/clients/ runs against our server, and what reads a protocol's text.
        Environment("tritonclient", ("numpy", "tritonclient[http,grpc]==2.73.0")),
        Environment("schemathesis", ("schemathesis==4.32.5",)),
    )
}
