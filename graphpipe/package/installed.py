"""The frameworks of this machine: which version of one is here, without importing it."""

from __future__ import annotations

import contextlib
import sys
from importlib import metadata

__all__ = ["version_of"]

# What else brings a module of this name.
_BUILDS = {
    "onnxruntime": ("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino", "onnxruntime-directml"),
    "tensorflow": ("tensorflow", "tensorflow-cpu", "tensorflow-cpu-aws", "tensorflow-macos", "tf-nightly"),
}


def version_of(framework: str) -> str:
    """Its version; empty where it is not installed."""
    if not framework:
        return ""
    found = getattr(sys.modules.get(framework.replace("-", "_")), "__version__", "")
    for name in () if found else _BUILDS.get(framework, (framework,)):
        with contextlib.suppress(metadata.PackageNotFoundError, ValueError):
            return metadata.version(name)
    return str(found)
