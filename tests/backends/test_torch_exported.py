"""Programs that PyTorch exported, and what ``save`` writes."""

from __future__ import annotations

import numpy as np
import pytest

import graphpipe
from graphpipe.errors import InvalidRequest, LoadError

torch = pytest.importorskip("torch")

from graphpipe.backends.torch import save  # noqa: E402 -- after the check that there is a torch
from tests.backends.torch_programs import Double, Sum, X  # noqa: E402 -- after the check that there is a torch


def test_an_exported_program_knows_its_names_types_and_symbols(tmp_path):
    n, m = torch.export.Dim("rows"), torch.export.Dim("columns")
    program = torch.export.export(
        Sum(), (torch.ones(4, 5), torch.ones(4, 5)), dynamic_shapes={"left": {0: n, 1: m}, "right": {0: n, 1: m}}
    )
    torch.export.save(program, str(tmp_path / "sum.pt2"))
    with graphpipe.load(tmp_path / "sum.pt2") as model:
        assert (
            str(model.signature)
            == "(left float32 [n, m], right float32 [n, m]) -> (sum float32 [n, m], difference float32 [n, m])"
        )
        assert np.array_equal(model.infer({"right": X, "left": X})["sum"], X * 2)
        with pytest.raises(InvalidRequest, match="both must be equal"):
            model.infer({"left": X, "right": X[:1]})


def test_a_pt2_that_is_called_pt_is_taken_for_what_it_is(tmp_path):
    save(Double(), tmp_path / "double.pt2", [X])
    renamed = (tmp_path / "double.pt2").rename(tmp_path / "double.pt")
    assert np.array_equal(graphpipe.load(renamed).infer({"x": X})["output_0"], X * 2)
    (tmp_path / "nonsense.pt2").write_bytes(b"nonsense")
    with pytest.raises(LoadError, match=r"not a program that torch\.export\.save wrote"):
        graphpipe.load(tmp_path / "nonsense.pt2")


def test_nested_and_keyword_arguments_of_an_exported_program_are_found(tmp_path):
    class Nested(torch.nn.Module):
        def forward(self, pair, *, by):
            return pair["a"] * by + pair["b"]

    program = torch.export.export(Nested(), ({"a": torch.ones(2), "b": torch.ones(2)},), {"by": torch.ones(2)})
    torch.export.save(program, str(tmp_path / "nested.pt2"))
    with graphpipe.load(tmp_path / "nested.pt2") as model:
        a, b, by = model.signature.input_names
        two, three, four = (np.full(2, value, np.float32) for value in (2, 3, 4))
        assert model.infer({a: two, b: three, by: four})["output_0"].tolist() == [11.0, 11.0]


@pytest.mark.parametrize("suffix", [".pt", ".pt2"])
def test_save_writes_the_signature_with_its_symbols(tmp_path, suffix):
    class Pair(torch.nn.Module):
        def forward(self, ids, mask):
            return ids.float() * mask, ids.sum(1)

    path = tmp_path / f"pair{suffix}"
    save(
        Pair(), path, {"mask": np.ones((2, 5), np.float32), "ids": np.ones((2, 5), np.int64)},
        output_names=["scores", "sums"], description="a pair",
        dynamic={"ids": {0: "n", 1: "length"}, "mask": {0: "n", 1: "length"}},
    )  # fmt: skip
    with graphpipe.load(path) as model:
        assert str(model.signature) == (
            "(ids int64 [n, length], mask float32 [n, length]) -> (scores float32 [n, length], sums int64 [n])"
        )
        assert model.description == "a pair"
        got = model.infer({"ids": np.ones((3, 7), np.int64), "mask": np.ones((3, 7), np.float32)})
        assert got["sums"].tolist() == [7] * 3


def test_save_refuses_what_would_be_wrong_at_another_size(tmp_path):
    class Fixed(torch.nn.Module):
        def forward(self, x):
            return x + torch.arange(int(x.shape[1]))

    class Branch(torch.nn.Module):
        def forward(self, x):
            return x * (1 if len(x) > 2 else 2)

    with pytest.raises(ValueError, match=r"a size is fixed in it\. Leave that axis out of `dynamic`"):
        save(Fixed(), tmp_path / "m.pt", [X], dynamic={"x": {1: "m"}})
    with pytest.raises(ValueError, match="'output_0' is not the module's"):
        save(Branch(), tmp_path / "m.pt", [X])
    assert not (tmp_path / "m.pt").exists()
    save(Fixed(), tmp_path / "m.pt", [X])
    assert str(graphpipe.load(tmp_path / "m.pt").signature) == "(x float32 [n, 3]) -> (output_0 float32 [n, 3])"


def test_save_names_what_it_does_not_know(tmp_path):
    with pytest.raises(ValueError, match="forward has no parameter 'z'; it has x"):
        save(Double(), tmp_path / "m.pt", {"z": X})
    with pytest.raises(ValueError, match=r"ends in \.pt or \.pt2"):
        save(Double(), tmp_path / "m.onnx", [X])
