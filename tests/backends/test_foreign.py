"""What is not a model is told apart, and what can be done with it is said, in one line."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import graphpipe
from graphpipe.errors import LoadError
from tests import onnx_graphs


class Doubles:
    """An estimator as pickles hold them."""

    def predict(self, x):
        return x * 2


@pytest.fixture(autouse=True)
def in_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refusal(source):
    with pytest.raises(LoadError) as caught:
        graphpipe.load(source)
    words = str(caught.value)
    assert "\n" not in words
    assert words.startswith(f"{source}: ")
    return words.removeprefix(f"{source}: ")


def files(**contents):
    for name, content in contents.items():
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("localhost:9000", "a server's address begins with http:// or https://: http://localhost:9000"),
        ("127.0.0.1:9000/models/cats", "http://127.0.0.1:9000/models/cats"),
        ("[::1]:9000", "http://[::1]:9000"),
        ("models.example.com:80", "http://models.example.com:80"),
        ("localhost", "http://localhost:9000"),
        ("grpc://localhost:8001", "servers are asked by http here: http://localhost:8001"),
        ("s3://bucket/m.onnx", "download it (aws s3 cp s3://bucket/m.onnx ./)"),
        ("gs://bucket/m", "download it (gcloud storage cp gs://bucket/m ./)"),
        ("az://store/m", "download it (azcopy copy az://store/m ./)"),
        ("hf://org/model", "download it (hf download org/model --local-dir ./)"),
        ("file:///models/m.onnx", "give the path alone: /models/m.onnx"),
        ("models:/churn/3", 'predict = mlflow.pyfunc.load_model("models:/churn/3").predict'),
        ("ftp://host/m.onnx", "ftp: is not known here"),
        ("org/some-model", "if it is a model of Hugging Face's hub, export it: optimum-cli export onnx"),
    ],
)
def test_addresses_and_stores(source, words):
    assert words in refusal(source)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("m.joblib", b"\x80\x04", 'predict = joblib.load("m.joblib").predict'),
        ("m.pkl", b"\x80\x04", "skl2onnx"),
        ("m.pickle", b"\x80\x04", "a pickle, which may run any code"),
        ("m.safetensors", b"\x08", "weights without the program"),
        ("m.ckpt", b"PK", "a checkpoint, which is weights"),
        ("pytorch_model.bin", b"PK", "weights without the program"),
        ("m.tflite", b"\x18\0\0\0TFL3", "TensorFlow Lite"),
        ("m.mlmodel", b"\x08", "Core ML"),
        ("m.gguf", b"GGUF", "llama.cpp"),
        ("m.engine", b"ftrt", "TensorRT"),
        ("m.plan", b"ftrt", "TensorRT"),
        ("m.mar", b"PK", "TorchServe"),
        ("m.xml", b"<?xml", "OpenVINO"),
        ("m.pmml", b"<?xml", "PMML"),
        ("m.json", b'{"learner":{"attributes":{}}}', "an XGBoost model"),
        ("m.ubj", b"{L", "an XGBoost model"),
        ("m.txt", b"tree\nversion=v4\n", "a LightGBM model"),
        ("m.cbm", b"CBM1", "a CatBoost model"),
        ("m.ckpt-1.index", b"\0", "a TensorFlow checkpoint"),
        ("m.ckpt-1.data-00000-of-00001", b"\0", "a TensorFlow checkpoint"),
        ("m.ipynb", b"{}", "a notebook"),
        ("m.zip", b"PK", "an archive: unpack it"),
        ("m.bin", b"", "is empty: was it downloaded to its end?"),
        ("m.xyz", b"version https://git-lfs.github.com/spec/v1\n", "is a Git LFS pointer, not the model itself"),
        ("m.xyz", b"<!DOCTYPE html><html>", "is a web page, not a model"),
        ("m.onnx", b"<!DOCTYPE html><html>", "is a web page, not a model"),
        ("m.onnx", b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        ("m.pt", b"<!DOCTYPE html><html>", "is a web page, not a model"),
        ("m.pt", b"", "is empty"),
        ("m.pt2", b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        ("m.pb", b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        ("m.keras", b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        ("m.xyz", b"?", "not a kind of model that is known here; known kinds: echo"),
    ],
)
def test_files_by_their_endings_and_beginnings(name, content, words):
    files(**{name: content})
    assert words in refusal(name)


def test_a_file_of_python_is_asked_which_function_of_it():
    code = "import os\nfrom os import path\ndef predict(x): return x\ndef _own(x): ...\nclass Net: ...\nf = path.join\n"
    files(**{"app.py": code, "pkg/app.py": "async def late(x): ...", "none.py": "x = 1", "bad.py": "\ndef f(:"})
    all_of_it = "which function of it? app.py:predict, app.py:f, app.py:Net"
    assert [refusal(each) for each in ("app.py", "app", "app.py:")] == [all_of_it] * 3
    assert refusal("./app.py") == all_of_it
    assert refusal("pkg.app") == "which function of it? pkg/app.py:late"
    assert refusal("app.predict") == "no such file; did you mean app.py:predict?"
    assert refusal("none.py") == "Python without a function: write one of arrays, and serve none.py:NAME"
    assert refusal("bad.py") == "line 2: SyntaxError: invalid syntax"
    assert refusal("app.py:predikt") == "app has no 'predikt'; did you mean 'predict'?"
    assert refusal("app.py:x") == "app has no 'x'; it has 'predict', 'Net'"


@pytest.mark.parametrize("kind", ["joblib", "pickle"])
def test_the_two_lines_that_are_shown_for_a_pickle_serve_it(kind, in_folder):
    module = pytest.importorskip(kind)
    name = {"joblib": "m.joblib", "pickle": "m.pkl"}[kind]
    with open(name, "wb") as file:
        module.dump(Doubles(), file)
    lines = re.findall(r"`(.+?)`", refusal(name))
    files(**{"serve.py": "\n".join(lines)})
    [answer] = graphpipe.load("serve.py:predict").infer({"x": np.ones((1, 2))}).values()
    assert answer.tolist() == [[2, 2]]


def test_a_missing_file_with_a_near_name_is_asked_for():
    files(**{"models/resnet50.onnx": b"?", "models/bert.pt": b"?", "app.py": ""})
    for missing, meant in (
        ("models/resnet.onnx", "models/resnet50.onnx"),
        ("models/brt.pt", "models/bert.pt"),
        ("ap.py:f", "app.py"),
        ("modls/x.pb", None),
        ("models/quite-different.keras", None),
    ):
        with pytest.raises(LoadError) as caught:
            graphpipe.load(missing)
        said = str(caught.value)
        assert ": no such file" in said
        assert said.endswith(f"; did you mean {meant}?") if meant else "did you mean" not in said
    assert refusal("modls/x.pb") == "no such file, and no folder modls"


NONE = "there is no model in this folder, nor in a numbered version of it"


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (
            "config.json model.safetensors tokenizer.json",
            "`optimum-cli export onnx --model m OUT` and serve OUT/model.onnx",
        ),
        ("config.json pytorch_model.bin", "it has a Hugging Face model"),
        ("config.json model-00001-of-00002.safetensors model.safetensors.index.json", "it has a Hugging Face model"),
        ("adapter_config.json adapter_model.safetensors", "merge it into its model"),
        ("modules.json config_sentence_transformers.json", "it has a Hugging Face model"),
        ("MLmodel model.pkl", 'predict = mlflow.pyfunc.load_model("m").predict'),
        ("checkpoint ckpt-1.index ckpt-1.data-00000-of-00001", "a TensorFlow checkpoint"),
        ("variables/variables.index", "not its saved_model.pb"),
        ("1/model.plan config.pbtxt", "1/model.plan is not served: an engine of TensorRT"),
        ("churn.pkl README.md", "churn.pkl is not served: a pickle"),
        ("app.py", "app.py is not served: which function of it? m/app.py:predict"),
    ],
)
def test_folders_without_a_model(names, words):
    files(**{f"m/{name}": "def predict(x): return x" if name.endswith(".py") else "{}" for name in names.split()})
    said = refusal("m")
    assert said.startswith(NONE)
    assert words in said


def test_an_empty_folder_and_folders_of_models(in_folder):
    Path("empty").mkdir()
    assert refusal("empty") == f"{NONE}; it is empty"
    for name in ("cats", "dogs"):
        path = in_folder / "repo" / name / "1" / "model.onnx"
        path.parent.mkdir(parents=True)
        onnx_graphs.scaled(path, 2)
    assert refusal("repo") == f"{NONE}; name one of the folders in it: repo/cats, repo/dogs"
    files(**{"repo/cats/config.pbtxt": 'name: "cats"'})
    assert refusal("repo").endswith("name one of the models of a Triton repository: repo/cats, repo/dogs")
    said = refusal("repo/cats/config.pbtxt")
    assert said == "Triton's description of a model: serve the model itself: repo/cats/1/model.onnx"


def test_weights_of_pytorch_are_told_from_a_pickled_module():
    torch = pytest.importorskip("torch")
    torch.save(torch.nn.Linear(2, 2).state_dict(), "weights.pt")
    torch.save(torch.nn.Sequential(torch.nn.Linear(2, 2)), "module.pt")
    torch.save({"state_dict": {}, "epoch": np.float64(1)}, "light.pth")
    assert "weights (a state dict) or a pickled module cannot be served without its Python code" in refusal(
        "weights.pt"
    )
    assert "weights (a state dict)" in refusal("light.pth")
    assert "a pickled module, torch.nn.modules.container.Sequential, cannot be served" in refusal("module.pt")


# --- what fails to import ---


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import numpy\n\nimport sklearn_not", "app.py, line 3: ModuleNotFoundError: No module named 'sklearn_not'"),
        ("import os\nimport helper", "helper.py, line 1: ModuleNotFoundError: No module named 'nowhere'"),
        ("import os\nimport broken", "broken.py, line 2: SyntaxError: invalid syntax"),
        ("\n\ndef f(x:\n", "app.py, line 3: SyntaxError: '(' was never closed"),
        (
            "def f(x):\nreturn x",
            "app.py, line 2: IndentationError: expected an indented block after function definition on ",
        ),
        ("x = 1\nx.nothing", "app.py, line 2: AttributeError: 'int' object has no attribute 'nothing'"),
        ("import json\n\njson.loads('{')", "app.py, line 3: JSONDecodeError: Expecting property name"),
        ("raise SystemExit(3)", "app.py, line 1: SystemExit: 3"),
        ("x = '\0'", "app.py: SyntaxError: source code string cannot contain null bytes"),
    ],
)
@pytest.mark.parametrize("how", ["file", "module"])
def test_a_failing_import_names_the_line_of_the_users_file(code, words, how, in_folder):
    name = f"app_{abs(hash((code, how)))}"
    files(**{f"{name}.py": code, "helper.py": "import nowhere", "broken.py": "\ndef f(:"})
    sys.path.append(str(in_folder))
    try:
        said = refusal(f"{name}.py:f" if how == "file" else f"{name}:f")
    finally:
        sys.path.remove(str(in_folder))
    if "null bytes" in words:
        assert "null bytes" in said
    else:
        assert said.startswith(words.replace("app.py", f"{name}.py"))


def test_the_package_that_brings_a_missing_module_is_named_where_it_is_known(monkeypatch):
    if importlib.util.find_spec("faiss") is not None:
        pytest.skip("it is installed")
    files(**{"app.py": "\nfrom faiss import Index\ndef f(x): ..."})
    assert refusal("app.py:f") == "app.py, line 2: ModuleNotFoundError: No module named 'faiss'; pip install faiss-cpu"


def test_a_class_that_cannot_be_made_names_the_line_too():
    files(**{"made.py": "class A:\n def __init__(self):\n  1 / 0"})
    assert refusal("made.py:A") == "making one raised ZeroDivisionError: division by zero (made.py, line 3)"


def test_shell_words_of_hints_can_be_copied():
    files(**{"m/config.json": "{}", "m/model.safetensors": "x"})
    [command] = re.findall(r"`(optimum.+?)`", refusal("m"))
    assert shlex.split(command)[-3:] == ["--model", "m", "OUT"]


# --- what cannot be looked at, and hints that must be true ---

ASKS = """
import sys, graphpipe
for source in sys.argv[1:]:
    try:
        graphpipe.load(source)
    except graphpipe.LoadError as error:
        print(error)
"""
CLOSED = ["locked/model.onnx", "locked", "np.py", "np.py:f", "m.onnx", "m.pkl", "outer", "two"]


def without_privilege(*command):
    """A command as a user runs it whom modes of files stop, though the one who runs the tests may be root."""
    drop = "-dac_override,-dac_read_search"
    privileged = [shutil.which("setpriv"), f"--bounding-set={drop}", f"--inh-caps={drop}"] if os.geteuid() == 0 else []
    return subprocess.run([*privileged, sys.executable, *command], capture_output=True, text=True, check=False)


@pytest.mark.skipif(os.geteuid() == 0 and not shutil.which("setpriv"), reason="root without setpriv opens every file")
def test_what_is_closed_to_a_user_is_said_in_one_line(in_folder):
    files(
        **{
            "locked/model.onnx": b"?",
            "np.py": "def f(x): return x",
            "m.onnx": b"?",
            "m.pkl": b"?",
            "outer/a/m.pt": b"?",
            "two/a/m.pt": b"?",
            "two/b/m.xyz": b"?",
        }
    )
    closed = ["np.py", "m.onnx", "m.pkl", "outer/a", "two/a", "locked"]
    for each in closed:
        Path(each).chmod(0)
    try:
        said = without_privilege("-c", ASKS, *CLOSED)
        served = without_privilege("-m", "graphpipe.server.cli", "-m", "locked/model.onnx")
    finally:
        for each in closed:
            Path(each).chmod(0o700)
    assert said.stderr == ""
    lines = said.stdout.splitlines()
    assert lines[:3] == [f"{each}: Permission denied" for each in CLOSED[:3]]
    assert lines[-2:] == ["outer/a: Permission denied", f"two: {NONE}; a: Permission denied"]
    assert len(lines) == len(CLOSED)
    assert all("Permission denied" in line for line in lines)
    assert served.stderr == "graphpipe-serve: locked/model.onnx: Permission denied\n"
    assert served.returncode == 1


def test_a_name_that_is_too_long_is_said_in_one_line():
    for name in ("m" * 300, "m" * 300 + ".onnx", "./" + "m" * 300 + "/m.onnx", "m" * 300 + ".py:f"):
        assert refusal(name) == "File name too long"
    assert "not a kind of model that is known here" in refusal("m" * 252)


def test_hints_name_nothing_that_is_the_same_or_quite_another():
    files(**{"w.onnx": b"?"})
    Path("gone.onnx").symlink_to("away.onnx")
    assert refusal("/dev/null") == "is not a plain file"
    assert refusal("gone.onnx") == "is a link to away.onnx, which is not there"
    assert "did you mean" not in refusal("C:\\x.onnx")


def test_a_source_with_a_line_break_is_told_in_one_line():
    with pytest.raises(LoadError, match=r"^a\\nb\.xyz: no such file$"):
        graphpipe.load("a\nb.xyz")


def test_an_empty_file_tells_of_a_folder_only_what_its_name_does():
    files(
        **{
            "etc/environment": b"",
            "etc/hosts": b"?",
            "other/m.safetensors": b"",
            "py/syn.py": "\ndef f(:",
            "syn.py": "def f(:",
        }
    )
    assert refusal("etc") == NONE
    assert refusal("other").endswith("m.safetensors is not served: is empty: was it downloaded to its end?")
    assert refusal("py") == f"{NONE}; syn.py is not served: line 2: SyntaxError: invalid syntax"
    assert refusal("syn.py") == "line 1: SyntaxError: invalid syntax"
    assert refusal("py/syn.py") == "line 2: SyntaxError: invalid syntax"


def test_what_has_a_predict_is_served_by_it():
    class Estimator:
        def predict(self, x):
            return x

    said = (
        "an Estimator is neither a function nor a model (signature, infer, close); it has a predict: serve its method: "
    )
    files(**{"app.py": "class A:\n def predict(self, x): return 2 * x\na = A()"})
    for load in (graphpipe.load, graphpipe.serve):
        with pytest.raises(LoadError, match=re.escape(f"{said}graphpipe.serving(model.predict)")):
            load(Estimator())
    assert refusal("app.py:a").endswith("it has a predict: serve its method: app.py:a.predict")
    assert graphpipe.load("app.py:a.predict").execute([1.0]).tolist() == [2]
    with pytest.raises(LoadError, match="^dict: the class dict is neither a function nor a model"):
        graphpipe.load(dict)
    with pytest.raises(LoadError, match=": an int is neither a function nor a model"):
        graphpipe.load(3)
