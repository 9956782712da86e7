"""Programs of PyTorch, and how people write them: what several of its tests take."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

X = np.arange(6, dtype=np.float32).reshape(2, 3)


class Double(torch.nn.Module):
    def forward(self, x):
        return x * 2


class Sum(torch.nn.Module):
    def forward(self, left, right):
        return {"sum": left + right, "difference": left - right}


def write(program: Any, path: Any, extra: dict[str, str] | None = None) -> Any:
    """TorchScript as people write it, without a signature."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch would rather have people write .pt2
        torch.jit.save(program, str(path), extra or {})
    return path


def scripted(module: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.script(module)


def traced(module: Any, *example: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.trace(module.eval(), example, strict=False)


def exported(module: Any, example: Any, path: Any, **axes: Any) -> Any:
    program = torch.export.export(module, (example,), dynamic_shapes=axes)
    torch.export.save(program, str(path))
    return path
