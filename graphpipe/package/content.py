"""The model of a package: files of it are copied, an object that a framework can write is written in that framework's
own format, a function stays where the package's code has it.
"""

from __future__ import annotations

import importlib
import re
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphpipe.arguments import a_kind
from graphpipe.backends import onnx_file
from graphpipe.backends.folder import model_in
from graphpipe.backends.foreign import no_model, no_such_file
from graphpipe.backends.known import backends
from graphpipe.backends.options import LoadOptions
from graphpipe.backends.sidecar import beside
from graphpipe.errors import PackageError
from graphpipe.package.code import Code
from graphpipe.package.names import MANIFEST
from graphpipe.problem import Problem
from graphpipe.sources.web import check_sha256, fetch, is_model_url
from graphpipe.words import first_line

__all__ = ["MODEL", "Content", "put"]

Array = NDArray[Any]

MODEL = "model"
# What a model of these backends needs; a function's needs are its author's to name.
_FRAMEWORKS = {"onnx": "onnxruntime", "tensorflow": "tensorflow", "torch": "torch", "python": "numpy"}
_ELSEWHERE = {
    "echo": "it is in graphpipe itself",
    "placeholder": "it makes its answers up",
    "remote": "it is a server's",
    "package": "it is a package already",
}
_ONE_SYMBOL = "where sizes have to be equal, give them one symbol in the problem, as in float32[n], in place of None"
_SYMBOL = re.compile(r"[^\W\d]\w*")


@dataclass(frozen=True, slots=True)
class Content:
    """A model that is in a package: the backend that loads it, what that is told, and the framework it needs."""

    platform: str
    source: str
    framework: str


def put(
    model: Any,
    folder: Path,
    code: Code,
    problem: Problem,
    name_map: Mapping[str, str],
    platform: str,
    options: LoadOptions,
    save_as: str,
) -> Content:
    """Put a model into a package in the making, which ``folder`` is of. Raises PackageError or LoadError."""
    if isinstance(model, str | Path):
        return _put_source(str(model), folder, code, platform, options)
    (folder / MODEL).mkdir()
    try:
        written = _written(model, folder / MODEL, problem, name_map, save_as)
    except PackageError:
        raise
    except Exception as error:
        hint = "".join(f"; {note}" for note in getattr(error, "__notes__", ()) if note == _ONE_SYMBOL)
        raise PackageError(f"{a_kind(model)} cannot be written into a package: {first_line(error)}{hint}") from error
    if written is not None:
        kind, name = written
        if platform not in ("", kind):
            raise PackageError(f"platform: {a_kind(model)} is written for {kind}; {platform!r} came")
        return Content(kind, f"{MODEL}/{name}", _FRAMEWORKS[kind])
    (folder / MODEL).rmdir()
    if not callable(model):
        raise PackageError(
            f"{a_kind(model)} is no model that can be packed; these can: a file or folder of a model, a PyTorch module, a "
            "Keras model, an ONNX ModelProto, a function or a class"
        )
    framework = _framework_of_class(model)
    if platform not in ("", "python", framework):
        raise PackageError(f"platform: {a_kind(model)} is Python's, and its platform python; {platform!r} came")
    return Content("python", code.source_of(model), framework)


# --- files ------------------------------------------------------------------------------------------------------------


def _put_source(source: str, folder: Path, code: Code, platform: str, options: LoadOptions) -> Content:
    if is_model_url(source):
        source = str(
            fetch(
                source, options.model_sha256, options.download_bytes_max,
                timeout_s=options.download_timeout_s, anywhere=options.download_private,
            )
        )  # fmt: skip
    elif options.model_sha256:
        check_sha256(source, options.model_sha256)
    known = list(backends())
    asked = [each for each in known if platform in ("", each.name)]
    if not asked:
        raise PackageError(f"there is no platform {platform!r}; there are {', '.join(each.name for each in known)}")
    path = Path(source)
    if path.is_dir() and not any(each.matches(source) for each in asked):
        path = model_in(path, lambda inner: any(each.matches(inner) for each in asked))
        source = str(path)
    chosen = asked[0] if platform else next((each for each in asked if each.matches(source)), None)
    if chosen is None:
        raise PackageError(no_model(source, [each.name for each in known]))
    if chosen.name in _ELSEWHERE:
        raise PackageError(f"{source} is no model that a package could hold: {_ELSEWHERE[chosen.name]}")
    if chosen.named is not None:
        return Content(chosen.name, code.source(source), _FRAMEWORKS.get(chosen.name, ""))
    if not path.exists():
        raise PackageError(f"{source}: {no_such_file(source)}")
    if chosen.name == "tensorflow":
        path = _saved_model(path)
    (folder / MODEL).mkdir()
    if path.is_dir():
        name = path.resolve().name if not path.resolve().name.isdigit() else "saved_model"
        _copy_folder(path, folder / MODEL / name)
    else:
        name = path.name
        _copy(path, folder / MODEL / name)
        for other in _beside(chosen.name, path):
            _copy(path.parent / other, folder / MODEL / other)
    if name == MANIFEST:
        raise PackageError(f"{source}: {MANIFEST} is what a package's manifest is called; name the model otherwise")
    return Content(chosen.name, f"{MODEL}/{name}", _FRAMEWORKS.get(chosen.name, ""))


def _saved_model(path: Path) -> Path:
    """A SavedModel's folder: of numbered versions the highest, of its graph's file the folder that it is in."""
    if path.is_file():
        return path.parent if path.name.startswith("saved_model.pb") else path
    found: Path | None = importlib.import_module("graphpipe.backends.tensorflow").saved_model(path)
    return found or path


def _beside(platform: str, path: Path) -> list[str]:
    """The names of other files that a model's file cannot do without."""
    if platform == "onnx":
        onnx_file.check(path, trusted=True)
        return onnx_file.files_beside(path)
    described = beside(path)
    return [described.name] if platform == "torch" and described.is_file() else []


def _copy(file: Path, target: Path) -> None:
    if not file.is_file():
        raise PackageError(f"{file} is not a plain file")
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(file, target)


def _copy_folder(folder: Path, target: Path) -> None:
    for each in sorted(folder.rglob("*")):
        name = each.relative_to(folder)
        if not each.is_dir() and not any(part.startswith(".") for part in name.parts):
            _copy(each, target / name)


# --- objects ----------------------------------------------------------------------------------------------------------


def _written(
    model: Any, folder: Path, problem: Problem, name_map: Mapping[str, str], save_as: str
) -> tuple[str, str] | None:
    """The backend and the name of what was written; None for an object that no framework writes."""
    torch, keras, tf = (sys.modules.get(name) for name in ("torch", "keras", "tensorflow"))
    if torch is not None and isinstance(model, torch.jit.ScriptModule):
        return "torch", _script(torch, model, folder, save_as)
    if torch is not None and isinstance(model, torch.nn.Module):
        return "torch", _module(torch, model, folder, problem, name_map, save_as or ".pt2")
    if torch is not None and type(model).__name__ == "ExportedProgram" and hasattr(model, "graph_module"):
        torch.export.save(model, str(folder / "model.pt2"))
        return "torch", "model.pt2"
    if keras is not None and isinstance(model, keras.Model):
        model.save(str(folder / "model.keras"))
        return "tensorflow", "model.keras"
    if tf is not None and isinstance(model, tf.Module):
        tf.saved_model.save(model, str(folder / "saved_model"))
        return "tensorflow", "saved_model"
    if type(model).__name__ == "GraphDef" and hasattr(model, "SerializeToString"):
        (folder / "model.pb").write_bytes(model.SerializeToString(deterministic=True))
        return "tensorflow", "model.pb"
    if type(model).__name__ == "ModelProto" and hasattr(model, "SerializeToString"):
        (folder / "model.onnx").write_bytes(model.SerializeToString(deterministic=True))
        return "onnx", "model.onnx"
    return None


def _script(torch: Any, model: Any, folder: Path, save_as: str) -> str:
    if save_as not in ("", ".pt"):
        raise PackageError("a ScriptModule is written as .pt")
    torch.jit.save(model, str(folder / "model.pt"))
    return "model.pt"


def _module(torch: Any, module: Any, folder: Path, problem: Problem, name_map: Mapping[str, str], save_as: str) -> str:
    if save_as not in (".pt", ".pt2"):
        raise PackageError(f"a PyTorch module is written as .pt2 or .pt; {save_as!r} came")
    save = importlib.import_module("graphpipe.backends.torch").save
    example, dynamic = {}, {}
    sizes: dict[str, int] = {}
    given: Mapping[str, Any] = problem.tests[0].inputs if problem.tests else {}
    for spec in problem.inputs:
        name = name_map.get(spec.name, spec.name)
        array = given.get(spec.name)
        if array is None:
            if spec.dtype is None or spec.shape is None:
                raise PackageError(
                    f"a PyTorch module is traced, and of input {spec.name!r} the problem does not say all of type and "
                    "shape: give test_data"
                )
            # No two alike, so that none is taken for another.
            shape = [d if isinstance(d, int) else sizes.setdefault(str(d), len(sizes) + 2) for d in spec.shape]
            array = np.ones(shape, spec.dtype)
        example[name] = torch.as_tensor(np.array(array))
        dynamic[name] = {
            axis: dim if isinstance(dim, str) and _SYMBOL.fullmatch(dim) else f"dim_{len(example)}_{axis}"
            for axis, dim in enumerate(spec.shape or ())
            if not isinstance(dim, int)
        }
    outputs = [name_map.get(spec.name, spec.name) for spec in problem.outputs]
    try:
        save(module, folder / f"model{save_as}", example, output_names=outputs, dynamic=dynamic)
    except Exception as error:
        if any(None in (spec.shape or ()) for spec in problem.inputs):
            error.add_note(_ONE_SYMBOL)
        raise
    return f"model{save_as}"


def _framework_of_class(model: Any) -> str:
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(model, type) and issubclass(model, torch.nn.Module):
        return "torch"
    return _FRAMEWORKS["python"]
