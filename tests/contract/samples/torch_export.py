"""A torch.export program."""

from pathlib import Path

from tests.contract.samples import Sample
from tests.contract.samples.torch_script import EXAMPLE, module


def build(folder: Path) -> Sample:
    from graphpipe.backends.torch import save

    path = folder / "sample.pt2"
    save(module(), path, EXAMPLE)
    return Sample(str(path))
