"""Files of models and archives that mean harm, to a process that loads them one after another."""

from __future__ import annotations

import contextlib
import functools
import gzip
import http.server
import io
import json
import pickle
import tarfile
import threading
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.attacking.attack import MIB, Saw, Scene, attack
from benchmarks.attacking.victims import loader


class Touch:
    """Unpickled, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))


def _loaded(scene: Scene, sources: Sequence[str | Path]) -> Saw:
    """What came of each, and whether any code of theirs has run."""
    seen: Counter[str] = Counter(scene.tell(str(source)).partition(":")[0] for source in sources)
    return {**seen, "files that their code has made": sum(1 for _ in scene.folder.rglob("marker*"))}


# --- archives ---


def _good(path: Path) -> Path:
    import onnx
    from onnx import TensorProto, helper

    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, 4]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", [x], [y])
    model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])
    onnx.save(model, path)
    return path


def _tarred(*members: tuple[str, bytes] | tarfile.TarInfo) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                archive.addfile(member)
            else:
                info = tarfile.TarInfo(member[0])
                info.size = len(member[1])
                archive.addfile(info, io.BytesIO(member[1]))
    return packed.getvalue()


def _special(name: str, kind: bytes, target: str = "", size: int = 0) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, target, size
    return info


def _zipped(*files: tuple[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files:
            archive.writestr(name, content)
    return packed.getvalue()


def _archives() -> dict[str, bytes]:
    head = functools.partial(tarfile.TarInfo.tobuf, format=tarfile.USTAR_FORMAT)
    zeros = bytes(16 * MIB)
    return {
        "link.tar": _tarred(_special("l", tarfile.SYMTYPE, "/etc"), ("l/marker", b"1")),
        "hard.tar": _tarred(("a", b"1"), _special("b", tarfile.LNKTYPE, "a")),
        "device.tar": _tarred(_special("sda", tarfile.BLKTYPE), ("a", b"1")),
        "up.tar": _tarred(("../../marker-tar", b"1")),
        "absolute.tar": _tarred(("/tmp/marker-tar", b"1")),
        "up.zip": _zipped(("../../marker-zip", b"1")),
        "long.zip": _zipped(("a/" * 1000 + "a", b"1")),
        "many.zip": _zipped(*((f"{number}", b"") for number in range(100_001))),
        "header.tgz": gzip.compress(head(_special("x", tarfile.XHDTYPE, size=1 << 30)) + zeros, 1),
        "name.tgz": gzip.compress(head(_special("x", tarfile.GNUTYPE_LONGNAME, size=1 << 30)) + zeros, 1),
        "behind.tgz": gzip.compress(_tarred(("a", b"1")), 1) + gzip.compress(zeros, 1) * 64,
        "bomb.tgz": gzip.compress(head(_special("m", tarfile.REGTYPE, size=1 << 30)), 1) + gzip.compress(zeros, 1) * 64,
        "bomb.zip": _zipped(("m", zeros * 8)),
    }


@contextlib.contextmanager
def _site(folder: Path) -> Iterator[str]:
    """A folder's files at a URL."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args: Any) -> None:
            pass

    handler: Callable[..., Any] = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()


def _from_a_site(scene: Scene, archives: dict[str, bytes]) -> Saw:
    place = scene.folder / "site"
    place.mkdir(exist_ok=True)
    for name, content in archives.items():
        (place / name).write_bytes(content)
    with _site(place) as url:
        return _loaded(scene, [f"{url}/{name}" for name in archives])


def _a_good_archive(scene: Scene) -> None:
    content = _good(scene.folder / "good.onnx").read_bytes()
    assert _from_a_site(scene, {"good.zip": _zipped(("m/good.onnx", content))})["loaded"] == 1


@attack(
    "archives",
    "13 archives at a URL, one after another: links, a device, names that lead out, 100,001 files, headers of 1 GiB, bombs "
    "of up to 1 GiB; a good archive was loaded before",
    needs="onnxruntime", victim=loader, first=_a_good_archive,
)  # fmt: skip
def archives(scene: Scene) -> Saw:
    return _from_a_site(scene, _archives())


# --- models ---


def _a_good_onnx(scene: Scene) -> None:
    assert scene.tell(str(_good(scene.folder / "good.onnx"))) == "loaded"


@attack(
    "ONNX files that read others",
    "8 models whose tensors lie in other files: above their folder, at a path from the root, behind links, in a pipe, in "
    "/dev/zero, by names that are none; a good model was loaded before",
    needs="onnxruntime", victim=loader, first=_a_good_onnx,
)  # fmt: skip
def readers(scene: Scene) -> Saw:
    import onnx
    from onnx import TensorProto, helper

    folder = scene.folder / "model"
    folder.mkdir()
    (scene.folder / "secret").write_bytes(bytes(16))
    (folder / "link").symlink_to(scene.folder / "secret")
    (folder / "up").symlink_to(scene.folder)
    (folder / "zero").symlink_to("/dev/zero")
    places = ("../secret", str(scene.folder / "secret"), "a/../../secret", "link", "up/secret", "zero", "w" * 5000, ".")
    sources = []
    for number, place in enumerate(places):
        tensor = TensorProto(dims=[4], data_type=TensorProto.FLOAT, name="w", data_location=TensorProto.EXTERNAL)
        tensor.external_data.add(key="location", value=place)
        x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [4]) for name in "xy")
        graph = helper.make_graph([helper.make_node("Add", ["x", "w"], ["y"])], "g", [x], [y], [tensor])
        model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])
        sources.append(folder / f"m{number}.onnx")
        sources[-1].write_bytes(model.SerializeToString())
    assert onnx.load(sources[0], load_external_data=False).graph.initializer
    return _loaded(scene, sources)


def _exported(path: Path) -> Path:
    import torch

    class Halves(torch.nn.Module):
        def forward(self, x: Any) -> Any:
            return torch.cat([x, x])[: x.shape[0] + 1]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        shapes = ({0: torch.export.Dim("n", max=64)},)
        torch.export.save(torch.export.export(Halves(), (torch.ones(4, 4),), dynamic_shapes=shapes), path)
    return path


def _a_good_program(scene: Scene) -> None:
    assert scene.tell(str(_exported(scene.folder / "good.pt2"))) == "loaded"


def _changed(source: Path, target: Path, change: Callable[[str], str]) -> Path:
    with zipfile.ZipFile(source) as archive, zipfile.ZipFile(target, "w") as copy:
        for name in archive.namelist():
            content = archive.read(name)
            copy.writestr(name, change(content.decode()) if name.endswith("models/model.json") else content)
    return target


@attack(
    "PyTorch files that run code",
    "7 files: pickles as .pt, .pth, .pkl and .joblib, and programs with Python in a formula and in a guard, and with a "
    "function that is no operator; a good program was loaded before",
    needs="torch", victim=loader, first=_a_good_program,
)  # fmt: skip
def programs(scene: Scene) -> Saw:
    import torch

    folder, good = scene.folder, scene.folder / "good.pt2"
    code = f"__import__('pathlib').Path({str(folder / 'marker-code')!r}).touch() or 1"

    def formula(text: str) -> str:
        first = text.index('"expr_str": ') + len('"expr_str": ')
        _, end = json.JSONDecoder().raw_decode(text, first)
        return text[:first] + json.dumps(code) + text[end:]

    def guard(text: str) -> str:
        return json.dumps({**json.loads(text), "guards_code": [code]})

    def target(text: str) -> str:
        program = json.loads(text)
        program["graph_module"]["graph"]["nodes"][1]["target"] = "torch.os.system"
        return json.dumps({**program, "verifiers": []})

    sources = [_changed(good, folder / f"{change.__name__}.pt2", change) for change in (formula, guard, target)]
    for name in ("m.pt", "m.pth"):
        torch.save({"a": Touch(folder / f"marker-{name}")}, folder / name)
        sources.append(folder / name)
    for name in ("m.pkl", "m.joblib"):
        (folder / name).write_bytes(pickle.dumps(Touch(folder / f"marker-{name}")))
        sources.append(folder / name)
    return _loaded(scene, sources)


def _keras(path: Path, code: str) -> Path:
    """A Keras file, which is written as bytes: one Lambda layer, or none where there is no code for it."""
    import keras

    layers: list[Any] = [keras.Input((2,))]
    if code:
        layers.append(keras.layers.Lambda(eval(code), output_shape=(2,)))
    else:
        layers.append(keras.layers.Dense(2))
    keras.Sequential(layers).save(path)
    return path


def _a_good_keras(scene: Scene) -> None:
    assert scene.tell(str(_keras(scene.folder / "good.keras", ""))) == "loaded"


@attack(
    "TensorFlow files that run code or write files",
    "3 files: Keras' two kinds with a Lambda layer, and a SavedModel that writes a file; a good model was loaded before",
    needs="tensorflow", victim=loader, first=_a_good_keras,
)  # fmt: skip
def layers(scene: Scene) -> Saw:
    import tensorflow as tf

    folder = scene.folder
    sources = []
    for name in ("m.keras", "m.h5"):
        marker = folder / f"marker-{name}"
        code = f"lambda x: (__import__('pathlib').Path({str(marker)!r}).touch(), x * 2)[1]"
        sources.append(_keras(folder / name, code))
        marker.unlink(missing_ok=True)  # to build it has run it

    class Writes(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None], tf.float32)])
        def __call__(self, x: Any) -> Any:
            tf.io.write_file(str(folder / "marker-saved"), "words")
            return x + 1

    tf.saved_model.save(Writes(), str(folder / "saved"))
    return _loaded(scene, [*sources, folder / "saved"])
