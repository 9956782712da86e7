"""TorchScript, and the module that the other PyTorch sample exports."""

from pathlib import Path

import numpy as np

from tests.contract.samples import Sample


def module():
    import torch

    class Sums(torch.nn.Module):
        def forward(self, x, k, flags):
            return {"y": x + k.to(torch.float32)[:, None], "total": x.sum(1), "no": ~flags}

    return Sums()


EXAMPLE = {"x": np.ones((2, 4), np.float32), "k": np.arange(2), "flags": np.array([True, False])}


def build(folder: Path) -> Sample:
    from graphpipe.backends.torch import save

    path = folder / "sample.pt"
    save(module(), path, EXAMPLE)
    return Sample(str(path))
