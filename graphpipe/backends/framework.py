"""How a backend gets at its framework: imported when the first model of its kind is loaded, and missed in words of
ours.
"""

from __future__ import annotations

import contextlib
import importlib
import re
import sys
from importlib import metadata
from typing import Any

from graphpipe.errors import LoadError
from graphpipe.words import WORDS_MAX, first_line

__all__ = ["framework", "keep_triton_out", "versions", "words_of"]

# What frameworks write around the words that matter: the node, the operation, their error's number, its class.
_AROUND = re.compile(
    r"\{\{.*?\}\}|\[\[.*?\]\]|\[Op:.*?\]"
    r"|^\[ONNXRuntimeError\] : \d+ : \w+ : (?:.*?Status Message: )?(?:/\S+ onnxruntime::.* was false\. )?"
    r"|^(?:\w+\.)*\w+Error: "
)
# Lines that come before those words: frames, which are indented, and what announces them.
_BEFORE = re.compile(
    r"\s|File \"|Graph execution error|Detected at node|Node: '|<stack traces|Traceback|.*most recent call last|"
    r"The following operation failed in the TorchScript"
)
_PLACE = re.compile(r"(?<![\w/:.])(?:/[\w.+@-]+){2,}(?::\d+)?")


def framework(module: str, source: str, extra: str) -> Any:
    """The framework's module. Raises LoadError, which names the extra that brings it, or says why it cannot be
    imported.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module.partition(".")[0]:
            raise LoadError(f"{source}: {module} is installed, but lacks {error.name}") from error
        raise LoadError(
            f"{source}: {module} is not installed, and this model needs it: pip install 'graphpipe-rpc[{extra}]'"
        ) from None
    except Exception as error:
        # A wheel for another machine, or a framework that cannot live beside one that is loaded already.
        raise LoadError(f"{source}: {module} is installed, but cannot be imported: {first_line(error)}") from error


def versions(*modules: str) -> str:
    """Frameworks with their versions, those that are not here without."""
    return ", ".join(f"{name} {_version(name)}".strip() for name in modules)


def _version(module: str) -> str:
    version = getattr(sys.modules.get(module), "__version__", "")
    if not version:
        with contextlib.suppress(metadata.PackageNotFoundError):
            version = metadata.version(module)
    return str(version)


def keep_triton_out() -> None:
    """In a process that has TensorFlow, see to it that triton is not imported afterwards.

    Both bring an LLVM of their own, and triton's, loaded second, takes the process down (TensorFlow 2.21 with triton
    3.7). PyTorch imports triton on its own account, with torch.export for one; where there is none it goes on without
    it, and loses only compiled GPU kernels.
    """
    if "tensorflow" in sys.modules:
        sys.modules.setdefault("triton", None)  # type: ignore[arg-type]


def words_of(error: BaseException) -> str:
    """What a framework says about a value that it refuses, fit for the caller who sent it: one line of bounded length,
    without the traces, the nodes and the places of files that frameworks add. It may quote the value.
    """
    for line in str(error).splitlines():
        if not _BEFORE.match(line):
            words = _PLACE.sub("...", _AROUND.sub("", line[: 10 * WORDS_MAX])).strip()
            if words:
                words = "".join(char if char.isprintable() else "?" for char in words)
                return words if len(words) <= WORDS_MAX else f"{words[:WORDS_MAX]}..."
    return type(error).__name__
