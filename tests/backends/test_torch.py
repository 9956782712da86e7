"""PyTorch: modules as they are, what is an input and an output of theirs, and where they run."""

from __future__ import annotations

import numpy as np
import pytest

import graphpipe
from graphpipe.errors import InvalidRequest, LoadError

torch = pytest.importorskip("torch")

from graphpipe.backends.torch import save  # noqa: E402 -- after the check that there is a torch
from tests.backends.torch_programs import Double, X, scripted, write  # noqa: E402 -- after the check that there is a torch


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


def test_a_problem_takes_dtypes_of_torch_as_they_are() -> None:
    names = ("float32", "float", "double", "half", "int64", "int", "uint8", "bool")
    inputs = [{"name": name, "dtype": getattr(torch, name)} for name in names]
    problem = graphpipe.Problem.of(inputs, {"y": "float32"})
    assert [spec.text for spec in problem.inputs] == [
        "float32", "float32", "float64", "float16", "int64", "int32", "uint8", "bool",
    ]  # fmt: skip
