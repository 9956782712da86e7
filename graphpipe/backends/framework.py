"""How a backend gets at its framework: imported when the first model of its kind is loaded, and missed in words of
ours.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

from graphpipe.errors import LoadError

__all__ = ["first_line", "framework", "keep_triton_out"]


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


def keep_triton_out() -> None:
    """In a process that has TensorFlow, see to it that triton is not imported afterwards.

    Both bring an LLVM of their own, and triton's, loaded second, takes the process down (TensorFlow 2.21 with triton
    3.7). PyTorch imports triton on its own account, with torch.export for one; where there is none it goes on without
    it, and loses only compiled GPU kernels.
    """
    if "tensorflow" in sys.modules:
        sys.modules.setdefault("triton", None)  # type: ignore[arg-type]


def first_line(error: BaseException) -> str:
    """What an exception says, in one line that fits into a message."""
    try:
        lines = str(error).strip().splitlines()
    except BaseException:  # its words cannot be had
        lines = []
    return lines[0][:300] if lines else type(error).__name__
