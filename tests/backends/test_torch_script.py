"""TorchScript: what is particular to it. What all backends promise is in tests/contract."""

from __future__ import annotations

import json
from typing import NamedTuple

import numpy as np
import pytest

import graphpipe
from graphpipe.errors import InvalidRequest, LoadError, ModelFailed
from tests.serving import serving

torch = pytest.importorskip("torch")

from graphpipe.backends.torch import save  # noqa: E402 -- after the check that there is a torch
from tests.backends.torch_programs import Double, Sum, X, scripted, traced, write  # noqa: E402 -- after the check that there is a torch


class Fields(NamedTuple):
    low: torch.Tensor
    high: torch.Tensor


class Ends(torch.nn.Module):
    def forward(self, x):
        return Fields(x.min(1).values, x.max(1).values)


class Several(torch.nn.Module):
    def forward(self, x):
        return x + 1, (x + 2, [x + 3])


class Optional(torch.nn.Module):
    def forward(self, x, by: torch.Tensor | None = None, twice: bool = False):
        y = x if by is None else x * by
        return y * 2 if twice else y


class Listed(torch.nn.Module):
    def forward(self, x):
        return [x, x + 1]


class Writes(torch.nn.Module):
    def forward(self, x, y):
        x += y
        return x * 1


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """The URL of a server with two traces as they are, double and fixed, and fixed with padding, as padded."""

    class Fixed(torch.nn.Module):
        def forward(self, x):
            return x + torch.arange(int(x.shape[1]))

    folder = tmp_path_factory.mktemp("served")
    double = write(traced(Double(), torch.ones(2, 3)), folder / "double.pt")
    fixed = write(traced(Fixed(), torch.ones(1, 3)), folder / "fixed.pt")
    models = ("--model", double, "--model", fixed, "--model", f"padded={fixed}")
    with serving(*models, "--pad", "padded=x:1:0:3") as server:
        yield server.url


def test_a_bare_file_serves_with_the_names_of_forward(served):
    url = f"{served}/models/double"
    assert np.array_equal(graphpipe.remote.execute(url, X), X * 2)
    meta = graphpipe.remote.metadata(url)
    assert [io.name for io in meta.inputs] == ["x"]
    assert [io.name for io in meta.outputs] == ["output_0"]
    with graphpipe.Client(url) as client:
        assert list(client.infer({"x": X})) == ["output_0"]


@pytest.mark.parametrize(
    ("module", "names"),
    [
        (traced(Sum(), torch.ones(2), torch.ones(2)), ["sum", "difference"]),
        (scripted(Ends()), ["low", "high"]),
        (scripted(Listed()), ["output_0", "output_1"]),
        (traced(Several(), torch.ones(2, 3)), ["output_0", "output_1_0", "output_1_1_0"]),
    ],
    ids=["dict", "named tuple", "list", "nested"],
)
def test_results_of_every_form_have_names(tmp_path, module, names):
    with graphpipe.load(write(module, tmp_path / "m.pt")) as model:
        inputs = dict.fromkeys(model.signature.input_names, X)
        assert list(model.infer(inputs)) == names
        assert list(model.infer(inputs, names[1:])) == names[1:]
        with pytest.raises(InvalidRequest, match="no output 'nonsense'"):
            model.infer(inputs, ["nonsense"])


def test_an_optional_input_may_be_left_out(tmp_path):
    with graphpipe.load(write(scripted(Optional()), tmp_path / "m.pt")) as model:
        assert np.array_equal(model.infer({"x": X})["output_0"], X)
        assert np.array_equal(model.infer({"by": X, "x": X})["output_0"], X * X)
        with pytest.raises(InvalidRequest, match="no input 'twice'"):
            model.infer({"x": X, "twice": np.array(True)})


def test_a_signature_may_stand_inside_the_file_or_beside_it(tmp_path):
    signature = {"inputs": [{"name": "photo", "dtype": "float32", "shape": ["n", 3]}], "outputs": [{"name": "twice"}]}
    path = write(scripted(Double()), tmp_path / "m.pt", {"graphpipe.json": json.dumps(signature)})
    with graphpipe.load(path) as model:
        assert str(model.signature) == "(photo float32 [n, 3]) -> (twice unknown any shape)"
        assert np.array_equal(model.infer({"photo": X})["twice"], X * 2)
        inside = model.version
    signature["outputs"][0]["name"] = "doubled"
    signature["description"] = "Twice as much."
    (tmp_path / "m.graphpipe.json").write_text(json.dumps(signature))
    with graphpipe.load(path) as model:
        assert model.signature.output_names == ("doubled",)
        assert model.description == "Twice as much."
        assert model.version != inside


@pytest.mark.parametrize(
    "text",
    [
        "nonsense", "[]", '{"inputs": [{}]}', '{"inputs": [{"name": "x", "dtype": "float33"}]}',
        '{"inputs": [{"name": "x", "shape": [1.5]}]}', '{"inputs": [{"name": "x"}, {"name": "y"}]}',
    ],
)  # fmt: skip
def test_a_sidecar_that_makes_no_sense_is_named(tmp_path, text):
    path = write(scripted(Double()), tmp_path / "m.pt")
    (tmp_path / "m.graphpipe.json").write_text(text)
    with pytest.raises(LoadError, match=r"m\.(graphpipe\.json: expected|pt: 2 described inputs, )"):
        graphpipe.load(path)


def test_a_size_that_a_trace_fixed_is_refused_in_our_words(served):
    fixed = f"{served}/models/fixed"
    assert graphpipe.remote.execute(fixed, X).shape == (2, 3)
    with pytest.raises(InvalidRequest, match=r"'x' float32 \[2, 4\]; a trace takes the sizes") as caught:
        graphpipe.remote.execute(fixed, np.ones((2, 4), np.float32))
    assert caught.value.http_status == 400
    assert caught.value.message.endswith(
        "PyTorch says: The size of tensor a (4) must match the size of tensor b (3) at non-singleton dimension 1"
    )
    assert graphpipe.remote.execute(f"{served}/models/padded", X[:, :2]).tolist() == [[0, 2, 2], [3, 5, 2]]


def test_a_failure_that_is_not_the_callers_is_the_models(tmp_path):
    class Fails(torch.nn.Module):
        def forward(self, x):
            if bool(x.sum() > 0):
                raise ValueError("on purpose")
            return x

    with graphpipe.load(write(scripted(Fails()), tmp_path / "m.pt")) as model, pytest.raises(ModelFailed):
        model.infer({"x": X})


@pytest.mark.parametrize("suffix", [".pt", ".pt2"])
def test_a_program_that_writes_into_its_input_gets_a_copy_of_it(tmp_path, suffix):
    path = tmp_path / f"writes{suffix}"
    if suffix == ".pt":
        write(traced(Writes(), torch.ones(2, 3), torch.ones(2, 3)), path)
    else:
        save(Writes(), path, {"x": X, "y": X})
    x, y = X.copy(), X.copy()
    with graphpipe.load(path) as model:
        assert "x" in model.model.written
        [got] = model.infer({"x": x, "y": y}).values()
    assert np.array_equal(got, X * 2)
    assert np.array_equal(x, X)


def test_weights_and_pickles_are_refused_with_the_way_out(tmp_path):
    torch.save(Double().state_dict(), tmp_path / "weights.pt")
    (tmp_path / "nonsense.pt").write_bytes(b"nonsense")
    for name in ("weights", "nonsense"):
        with pytest.raises(LoadError, match=r"not TorchScript.*graphpipe\.backends\.torch\.save"):
            graphpipe.load(tmp_path / f"{name}.pt")


def test_a_forward_that_takes_what_does_not_travel_is_refused(tmp_path):
    class Counted(torch.nn.Module):
        def forward(self, x, count: int):
            return x * count

    with pytest.raises(LoadError, match="forward takes 'count', a int; only tensors travel"):
        graphpipe.load(write(scripted(Counted()), tmp_path / "m.pt"))


@pytest.mark.parametrize(
    "dtype", ["float16", "float32", "float64", "uint8", "int8", "int16", "int32", "int64", "uint16", "bool"]
)
def test_every_type_comes_and_goes(tmp_path, dtype):
    value = np.array([[0, 1], [1, 0]]).astype(dtype)
    with graphpipe.load(write(scripted(torch.nn.Flatten()), tmp_path / "m.pt")) as model:
        [got] = model.infer({"input": value}).values()
    assert got.dtype == value.dtype
    assert np.array_equal(got, value)
