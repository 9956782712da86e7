"""What is not a model here, in a sentence: what it is, and what can be done with it.

Asked only where no backend knows a source. It looks at names, and at the first bytes of files; nothing is run.
"""

from __future__ import annotations

import ast
import difflib
import os
import pickletools
import re
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from graphpipe.arguments import a_kind
from graphpipe.words import visible

__all__ = ["damage", "neither", "no_model", "no_such_file", "public_names", "what_folder_holds", "what_pickle_holds"]

_SHOWN_MAX = 5
_START_BYTES = 4096
# To compare a name with more than so many would take long.
_COMPARED_MAX = 1000
# More than difflib asks for, as most names end alike.
_LIKENESS = 0.75
_CODE_BYTES_MAX = 4 << 20

_FUNCTION = "serve a Python function that calls it (FILE.py:function)"
_WEIGHTS = f"weights without the program that they belong to: export the model to ONNX, or {_FUNCTION}"

_SUFFIXES = {
    ".ipynb": "a notebook: put the function into a file, and serve FILE.py:function",
    ".safetensors": _WEIGHTS,
    ".ckpt": f"a checkpoint, which is {_WEIGHTS}",
    ".bin": _WEIGHTS,
    ".index": "part of a TensorFlow checkpoint, which is weights alone: save the model with tf.saved_model.save()",
    ".meta": "part of a TensorFlow checkpoint, which is weights alone: save the model with tf.saved_model.save()",
    ".tflite": f"a TensorFlow Lite model: convert it to ONNX with tf2onnx, serve what it was made from, or {_FUNCTION}",
    ".mlmodel": f"a Core ML model, which Apple's systems run: serve what it was made from, or {_FUNCTION}",
    ".mlpackage": f"a Core ML model, which Apple's systems run: serve what it was made from, or {_FUNCTION}",
    ".gguf": f"a language model for llama.cpp, whose own server runs it; or {_FUNCTION}",
    ".ggml": f"a language model for llama.cpp, whose own server runs it; or {_FUNCTION}",
    ".engine": "an engine of TensorRT, made for one kind of GPU: serve the ONNX file that it was made from",
    ".plan": "an engine of TensorRT, made for one kind of GPU: serve the ONNX file that it was made from",
    ".trt": "an engine of TensorRT, made for one kind of GPU: serve the ONNX file that it was made from",
    ".mar": "an archive for TorchServe: unzip it, and serve the .pt file in it, or its handler as FILE.py:function",
    ".xml": f"a model for OpenVINO, if anything: serve what it was made from, or {_FUNCTION}",
    ".pmml": f"a PMML model: convert what it was made from to ONNX, or {_FUNCTION}",
    ".cbm": 'a CatBoost model: save it as ONNX, model.save_model("model.onnx", format="onnx")',
    ".ubj": f"an XGBoost model: convert it to ONNX with onnxmltools, or {_FUNCTION}",
    ".bst": f"an XGBoost model: convert it to ONNX with onnxmltools, or {_FUNCTION}",
    ".xgb": f"an XGBoost model: convert it to ONNX with onnxmltools, or {_FUNCTION}",
    ".npz": "arrays, not a model",
    ".npy": "an array, not a model",
    ".csv": "data, not a model",
    ".parquet": "data, not a model",
    ".toml": "settings, if anything: --config reads them; a pipeline has [[stages]]",
    ".zip": "an archive: unpack it, and serve what is in it",
    ".tar": "an archive: unpack it, and serve what is in it",
    ".tgz": "an archive: unpack it, and serve what is in it",
    ".gz": "compressed: unpack it, and serve what is in it",
}
_PICKLES = {".joblib": "joblib", ".pkl": "pickle", ".pickle": "pickle", ".sav": "pickle", ".dill": "dill"}
_STORES = {
    "s3": "aws s3 cp {} ./",
    "gs": "gcloud storage cp {} ./",
    "az": "azcopy copy {} ./",
    "abfs": "azcopy copy {} ./",
    "hf": "hf download {} --local-dir ./",
}
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://?(?=.)")
_ADDRESS = re.compile(r"(?:\[[0-9A-Fa-f:]+\]|[A-Za-z0-9](?:[\w.-]*\w)?):\d{1,5}(?:/.*)?")
_HOST = re.compile(r"localhost|\d{1,3}(?:\.\d{1,3}){3}")
_OF_A_HUB = re.compile(r"[\w-]+(?:\.[\w-]+)*/[\w-]+(?:\.[\w-]+)*")
_BEGINNINGS = (
    (b"version https://git-lfs", "is a Git LFS pointer, not the model itself: git lfs pull"),
    (b"<!doctype html", "is a web page, not a model: download the file itself"),
    (b"<html", "is a web page, not a model: download the file itself"),
)


def no_model(source: str, kinds: Sequence[str]) -> str:
    """Why a source is no model, and what can be done; ``kinds`` are those that are known."""
    said = _of_words(source) or _of_path(Path(source))
    # In front of it stands the name already.
    said = visible(said.removeprefix(f"{Path(source).name}, "))
    return f"{visible(source)}: {said or 'not a kind of model that is known here; known kinds: ' + ', '.join(kinds)}"


def no_such_file(source: str | Path) -> str:
    """That a file is not there, and which one was probably meant; of what is no path, what it is."""
    if said := _of_words(str(source)):
        return said
    path = Path(source)
    folder = path.parent
    if os.path.exists(path):
        return "is not a plain file"
    if os.path.islink(path):
        return f"is a link to {path.readlink()}, which is not there"
    if not folder.is_dir():
        return f"no such file, and no folder {folder}"
    try:
        names = [each.name for each, _ in zip(folder.iterdir(), range(_COMPARED_MAX), strict=False)]
    except OSError:
        names = []
    near = difflib.get_close_matches(path.name, names, 1, _LIKENESS)
    return f"no such file; did you mean {path.with_name(near[0])}?" if near and path.name else "no such file"


def damage(path: Path) -> str:
    """How a file shows that it is no model of any kind, as downloads come out at times; empty if it does not."""
    try:
        with path.open("rb") as file:
            start = file.read(64).lstrip().lower()
    except OSError as error:
        return str(error.strerror)
    if not start:
        return "is empty: was it downloaded to its end?"
    return next((words for beginning, words in _BEGINNINGS if start.startswith(beginning)), "")


def neither(thing: object, name: str, made_by: str = "") -> str:
    """That something can neither be called nor is a model, and what of it can; ``made_by`` is the class that made it."""
    said = f"{made_by or a_kind(thing)} is neither a function nor a model (signature, infer, close)"
    if not callable(getattr(thing, "predict", None)):
        return said
    # A source is served by its words, what is here already by a call.
    how = f"{name}.predict" if ":" in name else "graphpipe.serving(model.predict)"
    return f"{said}; it has a predict: serve its method: {how}"


def public_names(path: Path) -> list[str]:
    """The functions and classes that a Python file has for others, functions first. Raises SyntaxError."""
    with path.open("rb") as file:
        body = ast.parse(file.read(_CODE_BYTES_MAX), str(path)).body
    functions = [each.name for each in body if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)]
    classes = [each.name for each in body if isinstance(each, ast.ClassDef)]
    # predict = joblib.load("model.joblib").predict
    made = [
        target.id
        for each in body
        if isinstance(each, ast.Assign) and isinstance(each.value, ast.Attribute | ast.Lambda)
        for target in each.targets
        if isinstance(target, ast.Name)
    ]
    return [name for name in dict.fromkeys((*functions, *made, *classes)) if not name.startswith("_")]


def what_pickle_holds(path: Path) -> str:
    """The class of the module that PyTorch pickled in a file; empty if it is weights, or cannot be told."""
    try:
        with zipfile.ZipFile(path) as archive:
            [name] = [name for name in archive.namelist() if name.endswith("data.pkl")]
            code = archive.read(name)
        found: list[str] = []
        texts: list[str] = []
        for operation, argument, _ in pickletools.genops(code):
            if operation.name == "GLOBAL":
                found.append(str(argument).replace(" ", "."))
            elif operation.name == "STACK_GLOBAL":
                found.append(".".join(texts[-2:]))
            elif isinstance(argument, str):
                texts.append(argument)
    except Exception:  # whatever is wrong with it, it is nothing that could be told more of
        return ""
    modules = [each for each in found if not each.startswith(("torch._", "collections.", "torch.")) or ".nn." in each]
    return modules[0] if modules and not modules[0].startswith("numpy") else ""


def what_folder_holds(folder: Path, is_model: Callable[[str], bool]) -> str:
    """What is in a folder that holds no model, and what can be done; empty if nothing can be told."""
    entries = _entries(folder)
    names = {entry.name for entry in entries}
    weights = [name for name in names if re.search(r"\.safetensors(?:\.index\.json)?$|^pytorch_model.*\.bin", name)]
    if not entries:
        return "it is empty"
    if "adapter_config.json" in names:
        return f"it has an adapter of Hugging Face's: merge it into its model (merge_and_unload), and {_FUNCTION}"
    if ("config.json" in names and weights) or "modules.json" in names:
        return (
            "it has a Hugging Face model, which is weights without a program: export it with "
            f"`optimum-cli export onnx --model {folder} OUT` and serve OUT/model.onnx, or {_FUNCTION}"
        )
    if "MLmodel" in names:
        return f'it has an MLflow model: serve a function: predict = mlflow.pyfunc.load_model("{folder}").predict'
    if any(name.endswith(".index") and f"{name[:-6]}.data-00000-of-00001" in names for name in names):
        return "it has a TensorFlow checkpoint, which is weights alone: save the model with tf.saved_model.save()"
    if "variables" in names:
        return "it has the variables of a SavedModel, but not its saved_model.pb: copy the whole folder"
    for entry in entries:
        if os.path.isdir(entry) and (closed := _closed(entry)):
            return f"{entry.name}: {closed}"
    inner = [entry for entry in entries if entry.is_dir() and _is_or_holds(entry, is_model)]
    if inner:
        what = (
            "models of a Triton repository" if any((e / "config.pbtxt").is_file() for e in inner) else "folders in it"
        )
        return f"name one of the {what}: {_listed(list(map(str, inner)))}"
    for each in (entry for version in (folder, *_versions(entries)) for entry in _entries(version)):
        if (
            each.name not in {"config.pbtxt", "README.md", "config.json"}
            and each.is_file()
            and not _tells_nothing(each)
            and (said := _of_path(each))
        ):
            return f"{each.relative_to(folder)} is not served: {said.removeprefix(f'{each.name}, ')}"
    return ""


def _of_words(source: str) -> str:
    """What the words of a source tell, whatever is on the disk."""
    if match := _SCHEME.match(source):
        scheme, rest = match[1].lower(), source[match.end() :]
        command = next((words for store, words in _STORES.items() if scheme.startswith(store)), "")
        if scheme == "file":
            return f"give the path alone: /{rest.lstrip('/')}"
        if command:
            what = rest if scheme == "hf" else source
            return (
                f"it is in a store, and those are not read here: download it ({command.format(what)}), and serve that"
            )
        if scheme in ("models", "runs"):
            return f'it is in MLflow: serve a function: predict = mlflow.pyfunc.load_model("{source}").predict'
        if scheme.startswith(("grpc", "tcp", "ws")):
            return f"servers are asked by http here: http://{rest}, or https"
        return (
            f"{scheme}: is not known here: files come by path, or by http:// or https://; servers are http://HOST:PORT"
        )
    if _ADDRESS.fullmatch(source):
        return f"a server's address begins with http:// or https://: http://{source}"
    if _HOST.fullmatch(source):
        return f"a server's address begins with http:// or https:// and has a port: http://{source}:9000"
    file, found, _ = source.partition(".py:")
    if found:
        return _of_python(Path(f"{file}.py"))
    return ""


def _of_path(path: Path) -> str:
    """What a file, or what lacks at its place, tells."""
    if os.path.isfile(path):
        return damage(path) or _of_file(path)
    if os.path.isdir(path):
        return ""
    if path.name and os.path.isfile(path.with_name(f"{path.name}.index")):
        return _SUFFIXES[".index"]
    code = Path(f"{path}.py") if "." not in path.name else path.parent / (path.name.replace(".", "/") + ".py")
    if os.path.isfile(code):
        return _of_python(code)
    if path.suffix and os.path.isfile(code := path.with_suffix(".py")) and path.suffix[1:] in _names_or_none(code):
        return f"no such file; did you mean {code}:{path.suffix[1:]}?"
    text = str(path)
    if _OF_A_HUB.fullmatch(text) and not path.parent.is_dir():
        return (
            f"{no_such_file(path)}; if it is a model of Hugging Face's hub, export it: "
            f"optimum-cli export onnx --model {text} OUT, and serve OUT/model.onnx"
        )
    return no_such_file(path) if "/" in text or "." in text else ""


def _of_file(path: Path) -> str:
    suffix, name = path.suffix.lower(), path.name
    if suffix == ".py":
        return _of_python(path)
    if suffix in _PICKLES:
        module = _PICKLES[suffix]
        if module == "joblib":
            imports, loaded = module, f'joblib.load("{path}")'
        else:
            imports, loaded = f"pathlib, {module}", f'{module}.loads(pathlib.Path("{path}").read_bytes())'
        return (
            "a pickle, which may run any code when it is loaded, so that only code of yours does it: write serve.py with "
            f"`import {imports}` and `predict = {loaded}.predict`, and serve serve.py:predict; or convert the model to ONNX "
            "(scikit-learn: skl2onnx)"
        )
    if name == "config.pbtxt":
        files = [each for version in _versions(_entries(path.parent)) for each in _entries(version)]
        which = f": {files[0]}" if files else ", which would be in 1/ beside it"
        return f"Triton's description of a model: serve the model itself{which}"
    if ".data-0" in name:
        return _SUFFIXES[".index"]
    with path.open("rb") as file:
        start = file.read(_START_BYTES)
    if suffix in (".json", ".txt"):
        if b'"learner"' in start:
            return _SUFFIXES[".ubj"]
        if start.startswith(b"tree\n"):
            return f"a LightGBM model: convert it to ONNX with onnxmltools, or {_FUNCTION}"
        return ""
    if start.startswith(b"GGUF"):
        return _SUFFIXES[".gguf"]
    if start[4:8] == b"TFL3":
        return _SUFFIXES[".tflite"]
    return _SUFFIXES.get(suffix, "")


def _of_python(path: Path) -> str:
    if not os.path.isfile(path):
        return no_such_file(path)
    try:
        names = public_names(path)
    except OSError as error:
        return f"{path.name}, {error.strerror}"
    except (SyntaxError, ValueError) as error:
        line = f", line {error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
        return f"{path.name}{line}: {type(error).__name__}: {getattr(error, 'msg', error)}"
    if not names:
        return f"Python without a function: write one of arrays, and serve {path}:NAME"
    return f"which function of it? {_listed([f'{path}:{name}' for name in names])}"


def _names_or_none(path: Path) -> list[str]:
    try:
        return public_names(path)
    except (SyntaxError, ValueError, OSError):
        return []


def _is_or_holds(folder: Path, is_model: Callable[[str], bool]) -> bool:
    inside = [folder, *_entries(folder), *(each for v in _versions(_entries(folder)) for each in _entries(v))]
    return any(each.name != "config.pbtxt" and is_model(str(each)) for each in inside)


def _versions(entries: Sequence[Path]) -> Iterator[Path]:
    return (entry for entry in entries if entry.name.isdigit() and entry.is_dir())


def _tells_nothing(path: Path) -> bool:
    """Whether neither the name nor the contents of a file can be those of a model: it is empty, or closed to this user."""
    return path.suffix.lower() not in {*_SUFFIXES, *_PICKLES} and not (os.access(path, os.R_OK) and path.stat().st_size)


def _closed(folder: Path) -> str:
    """Why a folder cannot be looked into; empty if it can."""
    try:
        with os.scandir(folder):
            os.stat(folder / os.curdir)
    except OSError as error:
        return str(error.strerror)
    return ""


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))[:_COMPARED_MAX]
    except OSError:
        return []


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN_MAX} more" if len(names) > _SHOWN_MAX else ""
    return ", ".join(names[:_SHOWN_MAX]) + more
