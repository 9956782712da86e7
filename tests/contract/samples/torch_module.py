"""A PyTorch module as it is, which works in place wherever it can."""

from pathlib import Path

from tests.contract.samples import Sample

_CODE = """
import torch

import graphpipe


class Sums(torch.nn.Module):
    @graphpipe.model(
        inputs={"x": "float32[n, 4]", "k": "int64[n]", "flags": "bool[n]"},
        outputs={"y": "float32[n, 4]", "total": "float32[n]", "no": "bool[n]"},
    )
    def forward(self, x, k, flags):
        total = x.sum(1)
        return {"y": x.add_(k.to(torch.float32)[:, None]), "total": total, "no": flags.logical_not_()}
"""


def build(folder: Path) -> Sample:
    path = folder / "sums_in_place.py"
    path.write_text(_CODE)
    return Sample(f"{path}:Sums", copies_inputs=True)
