"""Make the classifier, its labels and two pictures, and put the pipeline beside them.

    python examples/top-five/make.py FOLDER

The network's convolutions are random; only its last layer is fitted, to pictures of patterns that are drawn here. That takes
seconds and needs onnx, ONNX Runtime and Pillow. A real network has the same shape: pixels in, probabilities out.
"""

from __future__ import annotations

import argparse
import io
import itertools
import shutil
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import onnxruntime
from decode import SIZE, Decode
from numpy.typing import NDArray
from PIL import Image

COLOURS = {"red": (200, 40, 40), "green": (40, 170, 60), "blue": (50, 70, 200), "yellow": (220, 200, 40)}
PAPER = 230
PATTERNS = ("plain", "bars", "stripes", "checks", "dots")
LABELS = [f"{colour} {pattern}" for colour, pattern in itertools.product(COLOURS, PATTERNS)]
EACH = 8
# How far the right logit is to be above the others.
SURENESS = 12

# Pixels come in as they are stored, so that no client has to know what the network wants of them.
NETWORK = """
<ir_version: 8, opset_import: ["" : 17]>
classifier (uint8[n, 224, 224, 3] pixels) => (float[n, 20] probabilities)
{
  floats = Cast <to = 1> (pixels)
  moved = Sub (floats, mean)
  normal = Div (moved, deviation)
  planes = Transpose <perm = [0, 3, 1, 2]> (normal)
  first = Conv <strides = [4, 4], pads = [3, 3, 3, 3]> (planes, first_weights)
  seen = Relu (first)
  second = Conv <strides = [2, 2], pads = [1, 1, 1, 1]> (seen, second_weights)
  found = Relu (second)
  pooled = ReduceMean <keepdims = 0, axes = [2, 3]> (found)
  flat = ReduceMean <keepdims = 0, axes = [2, 3]> (seen)
  features = Concat <axis = 1> (pooled, flat)
  weighed = MatMul (features, weights)
  logits = Add (weighed, bias)
  probabilities = Softmax <axis = 1> (logits)
}
"""


def picture(label: str, chance: np.random.Generator, size: tuple[int, int] = (SIZE, SIZE)) -> Image.Image:
    """One picture of a pattern, each time at another scale, place and light. ``size`` is width and height."""
    colour, pattern = label.split()
    width, height = size
    period = int(chance.integers(16, 33))
    rows = (np.arange(height) + chance.integers(100))[:, None]
    columns = np.arange(width) + chance.integers(100)
    down, along = rows // (period // 2) % 2, columns // (period // 2) % 2
    from_middle = (rows % period - period / 2) ** 2 + (columns % period - period / 2) ** 2
    marks = {
        "plain": np.array(1), "bars": along, "stripes": down, "checks": (down + along) % 2,
        "dots": from_middle < (period / 3) ** 2,
    }[pattern]  # fmt: skip
    marked = np.broadcast_to(marks.astype(bool), (height, width))[..., None]
    clean = np.where(marked, np.array(COLOURS[colour]), PAPER) * chance.uniform(0.8, 1.1)
    noisy = clean + chance.integers(-10, 11, (height, width, 1))
    return Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8))


def file_of(image: Image.Image, kind: str) -> bytes:
    """An image as the bytes of a file."""
    file = io.BytesIO()
    image.save(file, kind, quality=92)
    return file.getvalue()


def network() -> onnx.ModelProto:
    """The network before its last layer is fitted."""
    chance = np.random.default_rng(5)
    weights = {
        "mean": np.array([123.675, 116.28, 103.53]), "deviation": np.array([58.395, 57.12, 57.375]),
        "first_weights": chance.normal(0, 1 / 7, (24, 3, 7, 7)), "second_weights": chance.normal(0, 1 / 15, (48, 24, 3, 3)),
        "weights": np.zeros((72, len(LABELS))), "bias": np.zeros(len(LABELS)),
    }  # fmt: skip
    model = onnx.parser.parse_model(NETWORK)
    for name, values in weights.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(values.astype(np.float32), name))
    return model


def fitted(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same with a last layer that tells the patterns apart, by least squares."""
    chance = np.random.default_rng(6)
    decode, features, wanted = Decode(), [], []
    session = _features(model)
    for number, label in enumerate(LABELS * EACH):
        pixels = decode([file_of(picture(label, chance), "JPEG")])
        features.append(session.run(["features"], {"pixels": pixels})[0][0])
        wanted.append(np.eye(len(LABELS))[number % len(LABELS)])
    solution = _least_squares(np.array(features), SURENESS * np.array(wanted))
    for name, values in (("weights", solution[:-1]), ("bias", solution[-1])):
        [old] = (each for each in model.graph.initializer if each.name == name)
        old.CopyFrom(onnx.numpy_helper.from_array(values.astype(np.float32), name))
    onnx.checker.check_model(model, full_check=True)
    return model


def _features(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    asked = onnx.ModelProto()
    asked.CopyFrom(model)
    asked.graph.output.append(onnx.helper.make_tensor_value_info("features", onnx.TensorProto.FLOAT, ["n", 72]))
    return onnxruntime.InferenceSession(asked.SerializeToString(), providers=["CPUExecutionProvider"])


def _least_squares(features: NDArray[np.float32], wanted: NDArray[np.float64]) -> NDArray[np.floating]:
    with_one = np.hstack([features, np.ones((len(features), 1))]).astype(np.float64)
    steady = with_one.T @ with_one + 1e-3 * np.eye(with_one.shape[1])  # a little less of what pictures hardly show
    return np.linalg.solve(steady, with_one.T @ wanted)


def make(folder: Path) -> None:
    """All of it, into the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("pipeline.toml", "decode.py", "top_five.py"):
        shutil.copy(Path(__file__).with_name(name), folder)
    onnx.save(fitted(network()), folder / "classifier.onnx")
    (folder / "labels.txt").write_text("\n".join(LABELS) + "\n")
    chance = np.random.default_rng(7)
    for name, label in (("checks.jpg", "blue checks"), ("dots.png", "red dots")):
        kind = "JPEG" if name.endswith("jpg") else "PNG"
        (folder / name).write_bytes(file_of(picture(label, chance, (320, 240)), kind))


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the classifier, its labels and two pictures.")
    parser.add_argument("folder", type=Path, help="where they are written to")
    options = parser.parse_args()
    make(options.folder)
    print(", ".join(sorted(path.name for path in options.folder.iterdir() if path.is_file())))


if __name__ == "__main__":
    main()
