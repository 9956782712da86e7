"""An option of loading that can make no difference to any model is refused, in words, before anything heavy is loaded."""

from __future__ import annotations

import sys
from dataclasses import fields

import numpy as np
import pytest

import graphpipe
from graphpipe.backends import Backend, LoadOptions
from graphpipe.backends.echo import Echo
from graphpipe.backends.find import kind_of
from graphpipe.backends.known import ours
from graphpipe.errors import LoadError
from graphpipe.server.settings.configuration import configure
from tests.serving import run_to_end

DIGITS = "examples/digits/digits.onnx"


def function(x):
    return x + 1


@pytest.mark.parametrize("model", ["echo", DIGITS, function, Echo()], ids=["echo", "onnx", "function", "Model"])
@pytest.mark.parametrize(
    ("option", "words"),
    [
        ({"bfloat16": True}, "--bfloat16 does nothing for model '.*', whose backend is .*: it is for torch models"),
        ({"channels_last": True}, "--channels-last does nothing .*: it is for torch models"),
        ({"tags": ["serve"]}, "--tags does nothing .*: it is for SavedModels"),
        ({"signature": "key"}, "--signature does nothing .*: it is for SavedModels"),
        ({"download_bytes_max": "1GiB"}, "--download-bytes-max does nothing .*: it is for models at a URL"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_a_model_cannot_make_use_of_is_refused(model, option, words):
    with pytest.raises(LoadError, match=rf"{words} \(argument {next(iter(option))}\)"):
        graphpipe.load(model, **option)
    if model is not DIGITS and not isinstance(model, Echo):  # one that is loaded is told in load()
        with pytest.raises(LoadError, match=words):
            graphpipe.serving(model, **option)


def test_options_of_one_framework_are_refused_for_another_and_what_is_not_asked_for_is_not():
    for option in ({"providers": ["cpu"]}, {"intra_threads": 2}, {"device": "cpu"}, {"custom_ops": ["x.so"]}):
        with pytest.raises(
            LoadError, match=r"does nothing for model 'function', whose backend is python: it is for .*onnx"
        ):
            graphpipe.load(function, **option)
    with pytest.raises(LoadError, match="--model-sha256 does nothing .* it is for models that are files"):
        graphpipe.load(function, model_sha256="0" * 64)
    assert graphpipe.load(
        function, bfloat16=False, tags=None, providers=[], intra_threads=0, download_bytes_max=16 << 30
    )
    assert graphpipe.load(DIGITS, providers=["cpu"], intra_threads=2, outputs=["label"])
    with pytest.raises(LoadError, match="--backend is for sources, and this is a function already"):
        graphpipe.load(function, backend="onnx")


def test_a_module_of_torch_takes_what_torch_has_wherever_it_is_found(tmp_path, monkeypatch):
    torch = pytest.importorskip("torch")
    assert graphpipe.load(torch.nn.Linear(2, 2), bfloat16=True)
    (tmp_path / "net.py").write_text(
        "import torch\nclass Net(torch.nn.Linear):\n    def __init__(self):\n        super().__init__(2, 2)\n"
        "def plain(x):\n    return x\n"
    )
    assert graphpipe.load(f"{tmp_path}/net.py:Net", bfloat16=True)
    with pytest.raises(LoadError, match="--bfloat16 does nothing for model 'plain', whose backend is python"):
        graphpipe.load(f"{tmp_path}/net.py:plain", bfloat16=True)


def test_a_model_at_a_url_is_known_by_its_name_before_it_is_fetched():
    kind = kind_of("https://example.org/net.pt?key=1")
    assert kind.backend == "torch"
    assert {"bfloat16", "download_bytes_max", "model_sha256"} <= set(kind.uses)
    assert kind_of("https://example.org/saved_model.tar.gz") is None
    assert kind_of("package.module:function") is None
    with pytest.raises(LoadError, match="--bfloat16 does nothing for model 'net', whose backend is onnx"):
        graphpipe.load("https://127.0.0.1:1/net.onnx", bfloat16=True)


def test_a_flag_of_all_models_is_of_use_if_it_is_to_one_and_a_flag_of_one_is_to_be_of_use_to_that():
    done = run_to_end("-m", "a=echo", "-m", f"b={DIGITS}", "--bfloat16", "--listen", "127.0.0.1:0")
    assert done.returncode == 1
    assert "--bfloat16 does nothing for any of the 2 models: it is for torch models (flag --bfloat16)" in done.stderr
    arguments = ("-m", "a=echo", "-m", f"b={DIGITS}", "--listen", "127.0.0.1:0")
    done = run_to_end(*arguments, "--providers", "cpu", "--intra-threads", "a=2")
    assert "--intra-threads does nothing for model 'a', whose backend is echo" in done.stderr
    assert "(flag --intra-threads)" in done.stderr


def test_what_is_of_use_to_one_of_them_starts_and_an_images_environment_is_no_mistake(serve):
    flags = ("-m", "a=echo", "-m", f"b={DIGITS}", "--providers", "cpu", "--intra-threads", "b=2")
    server = serve(*flags, env={"GRAPHPIPE_BFLOAT16": "true", "GRAPHPIPE_TAGS": "serve"})
    x = np.zeros(2, np.float32)
    assert graphpipe.remote.execute(server.url, x).tolist() == [0, 0]


def test_what_is_said_in_the_environment_is_not_held_against_a_model():
    (model,) = configure({"model": ["echo"], "device": ["cpu"]}, {"GRAPHPIPE_BFLOAT16": "1"}).models
    assert model.options.bfloat16
    assert set(model.said) == {"device"}


def test_every_backend_uses_options_that_there_are_and_one_that_does_not_say_uses_all():
    known = {field.name for field in fields(LoadOptions)}
    for backend in ours():
        assert set(backend.uses("")) <= known
    assert set(Backend("mine", lambda source: True, lambda source, options: Echo()).uses("x")) == known


def test_the_flag_is_refused_before_a_framework_is_imported():
    code = (
        "import graphpipe, sys\n"
        "try:\n    graphpipe.load('net.onnx', bfloat16=True)\n"
        "except graphpipe.LoadError as error:\n    print(error, 'onnxruntime' in sys.modules)\n"
    )
    import subprocess

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "whose backend is onnx" in done.stdout
    assert done.stdout.endswith("False\n")
