"""What PyTorch refuses is told by its cause: a value, a type or a size."""

from __future__ import annotations

import numpy as np
import pytest

import graphpipe
from graphpipe.errors import InvalidRequest

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")


class Tokens(torch.nn.Module):
    """A text encoder as they are traced: its positions are as many as it was shown."""

    def __init__(self, bag: bool = False):
        super().__init__()
        self.table = torch.nn.EmbeddingBag(100, 8) if bag else torch.nn.Embedding(100, 8)
        self.register_buffer("positions", torch.zeros(16, 8))
        self.bag = bag

    def forward(self, ids):
        found = self.table(ids)
        return found if self.bag else found + self.positions


@pytest.mark.parametrize(
    "how", [torch.jit.script, lambda module: torch.jit.trace(module, torch.ones(1, 16, dtype=torch.int64))]
)
def test_a_token_out_of_range_a_wrong_type_and_a_traces_size_are_told_apart(tmp_path, how):
    path = tmp_path / "m.pt"
    how(Tokens().eval()).save(str(path))
    how(Tokens(bag=True).eval()).save(str(tmp_path / "bag.pt"))

    def refused(value, file=path):
        with graphpipe.load(file) as loaded:
            for _ in range(3):  # PyTorch compiles the second and third call otherwise
                with pytest.raises(InvalidRequest) as caught:
                    loaded.infer({"ids": value})
        return caught.value.message

    for token in (100, -1):
        said = refused(np.full((1, 16), token))
        assert said == (
            "an index in these inputs, a token's number say, is beyond what the model has: 'ids' int64 [1, 16]; "
            "PyTorch says: index out of range in self"
        )
    said = refused(np.full((1, 16), 1000), tmp_path / "bag.pt")
    assert "PyTorch says: Index 0 of input takes value 1000 which is not in the valid range [0, 100)" in said
    said = refused(np.ones((1, 16), np.float32))
    assert (
        "cannot take inputs of these types: 'ids' float32 [1, 16]; PyTorch says: Expected tensor for argument" in said
    )
    assert "trace" not in said
    said = refused(np.ones((1, 20), np.int64))
    assert "a trace takes the sizes" in said
    assert "PyTorch says: The size of tensor a (20) must match the size of tensor b (16)" in said
