"""The models that the images are asked with, each with an input and the answer of the same numbers computed here.

The SavedModel has a channels-first convolution, as a GPU likes them; its answer is that of its channels-last twin.
Frameworks are imported in processes of their own: `python -m scripts.images.models digits FOLDER`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["MODELS", "Model", "made"]

ROOT = Path(__file__).resolve().parent.parent.parent
IMAGE_SIZE = 32


@dataclass(frozen=True)
class Model:
    """A model in ``folder``: its file, what goes in, what has to come out."""

    name: str
    folder: Path

    @property
    def file(self) -> str:
        """The file's name in its folder."""
        return MODELS[self.name][0]

    @property
    def given(self) -> Path:
        return self.folder / f"{self.name}-given.npz"

    @property
    def wanted(self) -> Mapping[str, NDArray[Any]]:
        return dict(np.load(self.folder / f"{self.name}-wanted.npz"))

    def is_answered_by(self, answer: Mapping[str, NDArray[Any]]) -> bool:
        """Whether these are the right numbers: other kernels add in another order, so the last digits may differ."""
        wanted = self.wanted
        return wanted.keys() == answer.keys() and all(
            value.shape == answer[name].shape and np.allclose(value, answer[name], rtol=1e-3, atol=1e-4)
            for name, value in wanted.items()
        )


def digits(folder: Path) -> None:
    import onnxruntime

    shutil.copy(ROOT / "examples/digits/digits.onnx", folder)
    pixels = np.load(ROOT / "examples/digits/digit.npy")
    session = onnxruntime.InferenceSession(folder / "digits.onnx")
    names = [output.name for output in session.get_outputs()]
    _keep(folder, "digits", {"pixels": pixels}, dict(zip(names, session.run(names, {"pixels": pixels}), strict=True)))


def channels_first(folder: Path) -> None:
    import tensorflow as tf

    random = np.random.default_rng(15)
    kernel = random.normal(size=(3, 3, 3, 16)).astype(np.float32)
    bias, scale, mean = random.normal(size=(3, 16)).astype(np.float32)
    variance = random.uniform(0.5, 1, 16).astype(np.float32)

    class Network(tf.Module):  # type: ignore[misc]
        def __init__(self, layout: str) -> None:
            super().__init__()
            self.layout, self.kernel = layout, tf.Variable(kernel)

        @tf.function(input_signature=[tf.TensorSpec([None, 3, IMAGE_SIZE, IMAGE_SIZE], tf.float32, "image")])  # type: ignore[untyped-decorator]
        def __call__(self, image: Any) -> Any:
            last = self.layout == "NHWC"
            x = tf.transpose(image, [0, 2, 3, 1]) if last else image
            x = tf.nn.conv2d(x, self.kernel, 1, "SAME", data_format=self.layout)
            x = tf.nn.bias_add(x, bias, data_format=self.layout)
            x, *_ = tf.compat.v1.nn.fused_batch_norm(
                x, scale, bias, mean, variance, is_training=False, data_format=self.layout
            )
            x = tf.nn.max_pool2d(tf.nn.relu(x), 2, 2, "VALID", data_format=self.layout)
            return {"features": tf.transpose(x, [0, 3, 1, 2]) if last else x}

    first, last = Network("NCHW"), Network("NHWC")
    tf.saved_model.save(first, str(folder / "channels-first"), signatures=first.__call__)
    image = random.normal(size=(2, 3, IMAGE_SIZE, IMAGE_SIZE)).astype(np.float32)
    _keep(folder, "channels-first", {"image": image}, {"features": last(image)["features"].numpy()})


def small_torch(folder: Path) -> None:
    import torch

    from graphpipe.backends.torch import save

    torch.manual_seed(15)
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU(), torch.nn.Flatten()).eval()
    image = torch.randn(2, 3, 16, 16)
    save(module, folder / "small.pt2", {"input": image}, output_names=["features"])
    _keep(folder, "small", {"input": image.numpy()}, {"features": module(image).detach().numpy()})


def int8(folder: Path) -> None:
    """As quantisation tools write them: numbers and weights are int8 between QuantizeLinear and DequantizeLinear."""
    from onnx import TensorProto, helper, numpy_helper

    random = np.random.default_rng(15)
    scale, zero = np.array(1 / 64, np.float32), np.array(0, np.int8)
    weights = random.integers(-100, 100, (64, 16)).astype(np.int8)
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["dq"]),
        helper.make_node("DequantizeLinear", ["weights", "scale", "zero"], ["dw"]),
        helper.make_node("MatMul", ["dq", "dw"], ["y"]),
    ]
    constants: dict[str, NDArray[Any]] = {"scale": scale, "zero": zero, "weights": weights}
    given = {"x": random.normal(size=(4, 64)).astype(np.float32)}
    _onnx(folder, "int8", helper, TensorProto, numpy_helper, nodes, constants, given, 16)


def products(folder: Path) -> None:
    """Enough to compute that threads can be told apart by the time that they have had."""
    from onnx import TensorProto, helper, numpy_helper

    random = np.random.default_rng(15)
    width, depth = 1024, 8
    constants = {f"w{i}": random.normal(size=(width, width)).astype(np.float32) / 32 for i in range(depth)}
    names = ["x", *(f"x{i}" for i in range(1, depth)), "y"]
    nodes = [helper.make_node("MatMul", [names[i], f"w{i}"], [names[i + 1]]) for i in range(depth)]
    given = {"x": random.normal(size=(256, width)).astype(np.float32)}
    _onnx(folder, "products", helper, TensorProto, numpy_helper, nodes, constants, given, width)


def _onnx(
    folder: Path,
    name: str,
    helper: Any,
    types: Any,
    numpy_helper: Any,
    nodes: list[Any],
    constants: Mapping[str, NDArray[Any]],
    given: Mapping[str, NDArray[Any]],
    width: int,
) -> None:
    import onnxruntime

    (x,) = given.values()
    graph = helper.make_graph(
        nodes,
        name,
        [helper.make_tensor_value_info("x", types.FLOAT, [None, x.shape[1]])],
        [helper.make_tensor_value_info("y", types.FLOAT, [None, width])],
        [numpy_helper.from_array(array, key) for key, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    path = folder / f"{name}.onnx"
    path.write_bytes(model.SerializeToString())
    (y,) = onnxruntime.InferenceSession(path).run(None, dict(given))
    _keep(folder, name, given, {"y": y})


# By name: the file, and what writes it.
MODELS: Final[Mapping[str, tuple[str, Callable[[Path], None]]]] = {
    "digits": ("digits.onnx", digits),
    "channels-first": ("channels-first", channels_first),
    "small": ("small.pt2", small_torch),
    "int8": ("int8.onnx", int8),
    "products": ("products.onnx", products),
}


def made(name: str, folder: Path) -> Model:
    """The model, written to the folder now."""
    folder.mkdir(parents=True, exist_ok=True)
    # Whoever the server runs as has to be able to read it.
    command = [sys.executable, "-m", "scripts.images.models", name, str(folder)]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "TF_ENABLE_ONEDNN_OPTS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{name} cannot be made: {done.stderr.strip().splitlines()[-1]}")
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    return Model(name, folder)


def _keep(folder: Path, name: str, given: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    np.savez(folder / f"{name}-given.npz", **given)
    np.savez(folder / f"{name}-wanted.npz", **wanted)


if __name__ == "__main__":
    MODELS[sys.argv[1]][1](Path(sys.argv[2]))
