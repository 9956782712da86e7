"""PyTorch: what is particular to each of its formats. What all backends promise is in tests/contract."""

from __future__ import annotations

import json
import warnings
from typing import Any, NamedTuple

import numpy as np
import pytest

import graphpipe
from graphpipe.errors import InvalidRequest, LoadError, ModelFailed
from tests.serving import serving

torch = pytest.importorskip("torch")

from graphpipe.backends.torch import save  # noqa: E402 -- after the check that there is a torch

X = np.arange(6, dtype=np.float32).reshape(2, 3)


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


class Fields(NamedTuple):
    low: torch.Tensor
    high: torch.Tensor


class Double(torch.nn.Module):
    def forward(self, x):
        return x * 2


class Sum(torch.nn.Module):
    def forward(self, left, right):
        return {"sum": left + right, "difference": left - right}


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


# --- TorchScript ------------------------------------------------------------------------------------------------------


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


# --- exported programs ------------------------------------------------------------------------------------------------


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


# --- save -------------------------------------------------------------------------------------------------------------


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


# --- modules as they are, placement -----------------------------------------------------------------------------------


def test_a_module_is_a_model_as_it_is():
    module = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Dropout(0.5))
    model = graphpipe.load(module)
    assert model.signature.input_names == ("input",)
    [got] = model.infer({"input": X}).values()
    with torch.no_grad():
        assert np.allclose(got, module[0](torch.from_numpy(X)).numpy(), atol=1e-4)


def test_a_modules_forward_may_say_what_it_takes(tmp_path):
    (tmp_path / "described.py").write_text(
        """
import torch
import graphpipe

class Described(torch.nn.Module):
    @graphpipe.model(inputs={"x": "float32[n, 3]"}, outputs={"y": "float32[n, 3]"}, description="doubles")
    def forward(self, x, scale=2):
        return x * scale
"""
    )
    model = graphpipe.load(f"{tmp_path / 'described.py'}:Described")
    assert str(model.signature) == "(x float32 [n, 3]) -> (y float32 [n, 3])"
    assert model.description == "doubles"
    assert np.array_equal(model.infer({"x": X})["y"], X * 2)


def test_bfloat16_is_computed_in_and_comes_out_as_float32(tmp_path):
    save(torch.nn.Linear(3, 64), tmp_path / "linear.pt", [X])
    exact = graphpipe.load(tmp_path / "linear.pt").infer({"input": X})["output_0"]
    rough = graphpipe.load(tmp_path / "linear.pt", bfloat16=True).infer({"input": X})["output_0"]
    assert rough.dtype == np.float32
    assert not np.array_equal(rough, exact)
    assert np.allclose(rough, exact, atol=0.05)


@pytest.mark.parametrize("suffix", [".pt", ".pt2"])
def test_a_model_that_is_bfloat16_itself_is_float32_on_the_wire(tmp_path, suffix):
    path = tmp_path / f"half{suffix}"
    save(torch.nn.Linear(3, 4).to(torch.bfloat16), path, [torch.ones(2, 3, dtype=torch.bfloat16)])
    with graphpipe.load(path) as model:
        assert str(model.signature) == "(input float32 [n, 3]) -> (output_0 float32 [n, 4])"
        assert model.infer({"input": X})["output_0"].dtype == np.float32


def test_images_may_be_kept_channels_last(tmp_path):
    image = np.random.default_rng(0).random((2, 3, 8, 8), np.float32)
    save(torch.nn.Conv2d(3, 4, 3), tmp_path / "conv.pt", [image])
    plain = graphpipe.load(tmp_path / "conv.pt").infer({"input": image})["output_0"]
    last = graphpipe.load(tmp_path / "conv.pt", channels_last=True).infer({"input": image})["output_0"]
    assert last.shape == plain.shape
    assert np.allclose(last, plain, atol=1e-4)


def test_a_program_that_is_exported_keeps_its_form(tmp_path):
    save(Double(), tmp_path / "m.pt2", [X])
    with pytest.raises(LoadError, match="keeps the form it was exported in"):
        graphpipe.load(tmp_path / "m.pt2", bfloat16=True)


def test_a_device_that_is_not_there_is_refused_with_those_that_are(tmp_path):
    path = write(scripted(Double()), tmp_path / "m.pt")
    with pytest.raises(LoadError, match="no device 'cuda:7' here; it has cpu"):
        graphpipe.load(path, device="cuda:7")
    with pytest.raises(LoadError, match="no device 'tpu'"):
        graphpipe.load(path, device="tpu")
    assert np.array_equal(graphpipe.load(path, device="cpu").infer({"x": X})["output_0"], X * 2)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("suffix", [".pt", ".pt2"])
def test_on_a_gpu_it_answers_as_on_a_cpu(tmp_path, suffix):
    path = tmp_path / f"conv{suffix}"
    image = np.random.default_rng(0).random((2, 3, 8, 8), np.float32)
    save(torch.nn.Conv2d(3, 4, 3), path, [image])
    here = graphpipe.load(path).infer({"input": image})["output_0"]
    there = graphpipe.load(path, device="cuda:0").infer({"input": image})["output_0"]
    assert np.allclose(there, here, atol=1e-3)


def test_operators_that_cannot_be_loaded_are_named(tmp_path):
    path = write(scripted(Double()), tmp_path / "m.pt")
    with pytest.raises(LoadError, match=r"nowhere\.so: PyTorch cannot load these operators"):
        graphpipe.load(path, custom_ops=[str(tmp_path / "nowhere.so")])


# --- programs that want gradients --------------------------------------------------------------------------------------


class Forces(torch.nn.Module):
    """Differentiates by itself, with nothing said of enabling that."""

    def forward(self, positions: torch.Tensor):
        p = positions.detach().requires_grad_(True)
        energy = (p * p).sum(-1)
        grad = torch.autograd.grad([energy.sum()], [p])[0]
        assert grad is not None
        return {"energy": energy, "forces": -grad}


class EnabledForces(torch.nn.Module):
    @torch.enable_grad()
    def forward(self, positions):
        p = positions.detach().requires_grad_(True)
        (grad,) = torch.autograd.grad((p * p).sum(), p)
        return {"forces": -grad}


class FunctionalForces(torch.nn.Module):
    def forward(self, positions):
        return {"forces": -torch.func.grad(lambda p: (p * p).sum())(positions)}


class JacobianForces(torch.nn.Module):
    """Gives zeros, not an error, where gradients cannot be had."""

    def forward(self, positions):
        return {"forces": -torch.autograd.functional.jacobian(lambda p: (p * p).sum(), positions)}


def _slope(x: Any) -> Any:
    p = x.detach().requires_grad_(True)
    (p * p).sum().backward()
    return p.grad


class HelpedForces(torch.nn.Module):
    """What differentiates is a function beside it."""

    def forward(self, positions):
        return {"forces": -_slope(positions)}


class HiddenForces(torch.nn.Module):
    """Nothing of its code speaks of gradients, where it can be seen."""

    def __init__(self):
        super().__init__()
        self.call = {"slope": _slope}

    def forward(self, positions):
        return {"forces": -self.call["slope"](positions)}


class InnerGradient(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = Forces()

    def forward(self, positions):
        return {"forces": self.inner(positions)["forces"]}


@pytest.mark.parametrize(
    "module",
    [Forces(), EnabledForces(), FunctionalForces(), JacobianForces(), HelpedForces(), HiddenForces(), InnerGradient()],
    ids=lambda module: type(module).__name__,
)
def test_a_program_that_differentiates_gives_what_it_gives_by_itself(module):
    with graphpipe.load(module) as model:
        for _ in range(2):
            np.testing.assert_array_equal(model.infer({"positions": X})["forces"], -2 * X)


def test_a_script_that_differentiates_gives_what_it_gives_by_itself(tmp_path):
    with graphpipe.load(write(scripted(Forces()), tmp_path / "m.pt")) as model:
        got = model.infer({"positions": X})
        np.testing.assert_array_equal(got["forces"], -2 * X)
        assert got["energy"].shape == (2,)


def test_a_program_without_gradients_keeps_no_graph_of_its_weights():
    seen = []

    class Looks(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = torch.nn.Linear(3, 1)

        def forward(self, x):
            y = self.linear(x)
            seen.append(y.grad_fn)
            return y

    with graphpipe.load(Looks()) as model:
        model.infer({"x": X})
    assert seen == [None]


# --- parameters with defaults, and what Hugging Face's models give ------------------------------------------------------


class Defaults(torch.nn.Module):
    def forward(
        self,
        x: torch.Tensor,
        mask: torch.Tensor | None = None,
        bias: torch.FloatTensor | None = None,
        unsaid=None,
        scale: float = 2.0,
        twice: bool | None = None,
        extra: tuple[torch.Tensor] | None = None,
    ):
        y = x * scale
        for part in (mask, bias, unsaid):
            y = y if part is None else y * part
        return y


def test_tensors_with_a_default_are_inputs_that_may_be_left_out():
    with graphpipe.load(Defaults()) as model:
        assert [spec.name for spec in model.signature.inputs] == ["x", "mask", "bias", "unsaid"]
        assert model.signature.input_names == ("x",)
        np.testing.assert_array_equal(model.infer({"x": X})["output_0"], X * 2)
        np.testing.assert_array_equal(model.infer({"x": X, "mask": X * 0})["output_0"], X * 0)
        with pytest.raises(InvalidRequest, match="no input 'scale'"):
            model.infer({"x": X, "scale": X})


class _Words(torch.nn.Module):
    main_input_name = "pixels"

    def forward(self, mask: torch.Tensor | None = None, pixels: torch.Tensor | None = None):
        return pixels if mask is None else pixels * mask


def test_where_all_inputs_may_be_left_out_an_unnamed_one_is_the_main_one():
    with graphpipe.load(_Words()) as model:
        assert model.signature.input_names == ("pixels",)
        np.testing.assert_array_equal(model.infer({"pixels": X})["output_0"], X)
    with graphpipe.load(_Words(), inputs=["mask", "pixels"]) as model:
        assert model.signature.input_names == ("mask", "pixels")


def test_a_module_that_takes_no_tensor_says_so_when_it_is_loaded():
    class Nothing(torch.nn.Module):
        def forward(self, steps: int = 3):
            return torch.zeros(steps)

    class Anything(torch.nn.Module):
        def forward(self, **tensors):
            return next(iter(tensors.values()))

    for module, words in ((Nothing(), "takes no tensors"), (Anything(), "by any name")):
        with pytest.raises(LoadError, match=words):
            graphpipe.load(module)


def test_what_travels_of_a_hugging_face_models_outputs_is_answered():
    transformers = pytest.importorskip("transformers")
    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    ids = np.ones((1, 3), np.int64)
    bert = transformers.BertModel(transformers.BertConfig(**small, vocab_size=50))
    with graphpipe.load(bert) as model:
        got = model.infer({"input_ids": ids, "attention_mask": ids})
        assert {name: array.shape for name, array in got.items()} == {
            "last_hidden_state": (1, 3, 16),
            "pooler_output": (1, 16),
        }
        assert model.signature.input_names == ("input_ids",)
        embedded = {"inputs_embeds": np.zeros((1, 3, 16), np.float32)}
        assert model.infer(embedded)["pooler_output"].shape == (1, 16)
        with pytest.raises(InvalidRequest, match="missing input 'input_ids'"):
            model.infer({})
    gpt = transformers.GPT2LMHeadModel(transformers.GPT2Config(n_embd=16, n_layer=1, n_head=2, vocab_size=50))
    with graphpipe.load(gpt) as model:
        assert model.infer({"input_ids": ids})["logits"].shape == (1, 3, 50)
        with pytest.raises(InvalidRequest, match="'past_key_values' is a .*Cache, which has no type on the wire"):
            model.infer({"input_ids": ids}, ["past_key_values"])


def test_outputs_that_cannot_travel_are_in_nobodys_way():
    class Complex(torch.nn.Module):
        def forward(self, x):
            return {"spectrum": torch.fft.fft(x), "power": x * x, "words": "quiet"}

    with graphpipe.load(Complex()) as model:
        assert list(model.infer({"x": X})) == ["power"]
        with pytest.raises(InvalidRequest, match="'spectrum' is torch.complex64"):
            model.infer({"x": X}, ["spectrum"])
        with pytest.raises(InvalidRequest, match="'words' is a str"):
            model.infer({"x": X}, ["words"])


# --- whose fault -------------------------------------------------------------------------------------------------------


class Embed(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.table = torch.nn.Embedding(3, 1)

    def forward(self, ids):
        return self.table(ids)


class Applied(torch.nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


class Pairs(torch.nn.Module):
    def forward(self, x):
        return x.reshape(x.shape[0] // 2, -1)


def exported(module: Any, example: Any, path: Any, **axes: Any) -> Any:
    program = torch.export.export(module, (example,), dynamic_shapes=axes)
    torch.export.save(program, str(path))
    return path


def test_a_value_that_only_the_caller_can_have_got_wrong_is_the_callers(tmp_path):
    rows, few, even = torch.export.Dim("n"), torch.export.Dim("n", max=8), 2 * torch.export.Dim("k", max=50)
    ids, two = np.array([[99]]), torch.zeros(2, 4)
    e, p = tmp_path / "e.pt2", tmp_path / "p.pt2"
    scripts = [write(scripted(Embed()), tmp_path / name) for name in ("e.pt", "t.pt")]
    sources: list[tuple[Any, dict[str, Any], str]] = [
        (scripts[0], {"ids": ids}, "out of range"),
        (Embed(), {"ids": ids}, "out of range"),
        (exported(Embed(), torch.zeros(2, 1, dtype=torch.int64), e, ids={0: rows}), {"ids": ids}, "out of range"),
        (
            exported(torch.nn.Linear(4, 3), two, tmp_path / "l.pt2", input={0: few}),
            {"input": np.zeros((9, 4), np.float32)},
            "'input' has 9 rows; the model takes at most 8 rows",
        ),
        (exported(Pairs(), torch.zeros(4, 4), p, x={0: even}), {"x": np.zeros((3, 4), np.float32)}, "refuses a value"),
        (scripts[1], {"ids": np.array([["a"]])}, "PyTorch takes numbers; 'ids'"),
        (torch.nn.Linear(4, 3), {"input": np.zeros((2, 5), np.float32)}, "cannot take"),
        (torch.nn.Linear(4, 3), {"input": np.zeros((2, 4), np.int64)}, "cannot take"),
        (Embed(), {"ids": np.zeros(2, np.float32)}, "cannot take"),
        (torch.nn.Conv2d(3, 1, 3), {"input": np.zeros((1, 3, 2, 2), np.float32)}, "cannot take"),
        (Applied(torch.bernoulli), {"x": np.array([2], np.float32)}, "refuses a value"),
        (Applied(torch.linalg.cholesky), {"x": -np.eye(2, dtype=np.float32)}, "refuses a value"),
        (Applied(lambda x: torch.nn.functional.one_hot(x, 3)), {"x": np.array([7])}, "refuses a value"),
    ]
    for source, inputs, words in sources:
        with graphpipe.load(source) as model, pytest.raises(InvalidRequest, match=words) as refused:
            model.infer(inputs)
        assert "\n" not in str(refused.value)


def test_what_nobody_can_tell_is_the_models_fault():
    class Broken(torch.nn.Module):
        def forward(self, x):
            return x.no_such_thing

    with graphpipe.load(Broken()) as model, pytest.raises(ModelFailed):
        model.infer({"x": X})
