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
            ("tensorflow-serving-api", _ours("tensorflow-cpu"), *RUNTIME, "aiohttp", "uvloop", "orjson"),
        ),
        # What an installation takes on disk: ours, and what one would write by hand.
        Environment("ours", (f"graphpipe-rpc @ {ROOT.as_uri()}",)),
        Environment("ours-onnx", (f"graphpipe-rpc[onnx] @ {ROOT.as_uri()}", *RUNTIME)),
        Environment("by-hand", ("aiohttp", "uvloop", *RUNTIME)),
        Environment("fastapi-raw", ("fastapi", "uvicorn[standard]", *RUNTIME)),
    )
}
