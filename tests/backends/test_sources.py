"""What a source is: which backend takes it, what it is called, what is imported for it, and what is said if none
does.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import graphpipe
from graphpipe.backends.find import default_name
from graphpipe.backends.known import ours
from graphpipe.errors import LoadError
from tests import onnx_graphs
from tests.serving import ROOT, environment


def run(code: str) -> str:
    """What a fresh interpreter prints."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment(),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize(
    ("source", "backend"),
    [
        ("echo", "echo"),
        ("folder/Model.ONNX", "onnx"),
        ("model.ort", "onnx"),
        ("frozen.pb", "tensorflow"),
        ("model.keras", "tensorflow"),
        ("model.h5", "tensorflow"),
        ("model.pt", "torch"),
        ("model.pt2", "torch"),
        ("package.module:function", "python"),
        ("module:Class.method", "python"),
        ("some/folder/file.py:function", "python"),
        ("http://host:9000", "remote"),
        ("https://host/models/cats", "remote"),
        ("unix:/run/graphpipe.sock", "remote"),
        ("remote:http://host/model.onnx", "remote"),
        ("predict_net.pb", "caffe2"),
    ],
)
def test_a_source_is_taken_for_what_it_is(source, backend):
    assert next(each.name for each in ours() if each.matches(source)) == backend


def test_a_url_that_ends_like_a_file_is_no_server():
    from graphpipe.backends.remote import BACKEND

    assert not BACKEND.matches("https://host/path/model.onnx")
    assert not BACKEND.matches("http://host/model.tar.gz?version=2")


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("models/resnet.onnx", "resnet"),
        ("models/saved/", "saved"),
        ("package.module:function", "function"),
        ("folder/file.py:function", "function"),
        ("http://127.0.0.1:9000", "127.0.0.1"),
        ("http://host:9000/models/cats", "cats"),
        ("unix:/tmp/a.sock:/models/cats", "cats"),
        ("echo", "echo"),
    ],
)
def test_a_model_is_called_after_its_source(source, name):
    assert default_name(source) == name


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("nowhere.onnx", "no such file"),
        ("nowhere.pt", "no such file"),
        ("nowhere.pb", "no such file"),
        ("nowhere.keras", "no such file"),
        ("nowhere.py:f", "no such file"),
        ("nowhere/at/all", "no such file"),
        ("json:nonsense", "json has no 'nonsense'"),
        ("no_such_module_here:f", "there is no module 'no_such_module_here'"),
        ("json:__name__", "a str is neither a function nor a model"),
        ("http://127.0.0.1:1", "no connection"),
        ("init_net.pb", "convert-caffe2-to-onnx"),
        ("word", "not a kind of model"),
    ],
)
def test_what_cannot_be_loaded_is_refused_in_one_line(source, words):
    with pytest.raises(LoadError, match=words) as caught:
        graphpipe.load(source)
    assert "\n" not in str(caught.value)


def test_a_folder_of_caffe2_nets_is_refused_with_the_way_out(tmp_path):
    (tmp_path / "init_net.pb").write_bytes(b"")
    (tmp_path / "predict_net.pb").write_bytes(b"")
    with pytest.raises(LoadError, match="Caffe2 nets are not served"):
        graphpipe.load(tmp_path)


def test_a_backend_can_be_forced(tmp_path):
    path = onnx_graphs.pair_sum(tmp_path / "model.onnx")
    path = path.rename(tmp_path / "model.xyz")
    with pytest.raises(LoadError, match="known kinds: echo, remote, placeholder, package, pipeline, onnx"):
        graphpipe.load(path)
    assert graphpipe.load(path, backend="onnx").signature.output_names == ("sum", "twice")
    with pytest.raises(LoadError, match="there is no backend 'onyx'"):
        graphpipe.load(path, backend="onyx")


def test_an_unknown_option_is_named():
    with pytest.raises(TypeError, match="no setting 'devise'; did you mean 'device'?"):
        graphpipe.load("echo", devise="cpu")


@pytest.mark.parametrize(
    ("module", "file", "extra"),
    [("onnxruntime", "m.onnx", "onnx"), ("torch", "m.pt", "torch"), ("tensorflow", "m.pb", "tensorflow")],
)
def test_a_missing_framework_names_its_extra(tmp_path, module, file, extra):
    path = tmp_path / file
    path.write_bytes(b"")
    if extra == "torch":
        import zipfile

        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("m/code/__torch__.py", "")
    said = run(
        f"import sys; sys.modules[{module!r}] = None\nimport graphpipe\n"
        f"try: graphpipe.load({str(path)!r})\nexcept graphpipe.LoadError as error: print(error)"
    )
    assert f"pip install 'graphpipe-rpc[{extra}]'" in said
    assert module in said


def test_serving_an_onnx_model_loads_neither_tensorflow_nor_torch(tmp_path, serve):
    server = serve("--model", onnx_graphs.pair_sum(tmp_path / "model.onnx"), afresh=True)
    graphpipe.remote.metadata(server.url)
    libraries = Path(f"/proc/{server.process.pid}/maps").read_text()
    assert "onnxruntime" in libraries
    assert "tensorflow" not in libraries
    assert "torch" not in libraries


def test_python_and_remote_models_load_no_framework_at_all(tmp_path, serve):
    server = serve("--model", "echo")
    heavy = {"torch", "tensorflow", "onnxruntime", "aiohttp", "click"}
    for source in ("lambda x: x", repr(server.url)):
        code = f"import sys, graphpipe; graphpipe.load({source}); print(*sys.modules)"
        assert not heavy & set(run(code).split())


@pytest.mark.slow
@pytest.mark.timeout(300)  # on a machine that has other work it takes minutes to import both
def test_tensorflow_and_torch_live_in_one_process_whatever_torch_loads_late(tmp_path):
    # torch.export imports triton, whose LLVM does not live beside TensorFlow's.
    torch_part = f"""
import torch, numpy as np, graphpipe
from graphpipe.backends.torch import save
class Double(torch.nn.Module):
    def forward(self, x):
        return x * 2
save(Double(), {str(tmp_path / "double.pt2")!r}, [torch.ones(2, 3)])
print(graphpipe.load({str(tmp_path / "double.pt2")!r}).infer({{"x": np.ones((2, 3), np.float32)}}))
"""
    tensorflow_part = """
from graphpipe.backends.options import LoadOptions
from graphpipe.backends.tensorflow.runtime import runtime
tf = runtime("", LoadOptions()).tf
print(tf.constant(1) + 1)
"""
    # The other order is that of the contract suite.
    assert "2., 2., 2." in run("import torch\n" + tensorflow_part + torch_part)
