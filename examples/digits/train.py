"""Train the digit model and write it, with one held-out digit, beside this file and for ``graphpipe-serve --demo``.

    python examples/digits/train.py [FOLDER]

The model looks how similar a digit is to each of 128 digits that it has seen (a radial kernel), and a logistic
regression judges by those similarities. It learns from four fifths of scikit-learn's 8 x 8 digits; the rest is held out
to measure it. The ONNX graph is written node by node, which shows what a served model is made of. The same seed gives
the same model.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from sklearn.datasets import load_digits
from sklearn.kernel_approximation import Nystroem
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split

SEED = 0
PIXEL_MAX = 16.0  # scikit-learn's digits count the dark points of 4 x 4 blocks
SEEN = 128
GAMMA = 0.1  # similarity is exp(-GAMMA * squared distance)
SHOWN = 0  # which of the held-out digits is bundled

Pixels = NDArray[np.float32]
Labels = NDArray[np.int64]


def main(folder: Path, demo: Path) -> None:
    """Train, measure, write: the model and a digit to ``folder``, the same as arrays to ``demo``."""
    train_pixels, pixels, train_labels, labels = split()
    kernel, judge = trained(train_pixels, train_labels)
    accuracy = float(np.mean(judge.predict(kernel.transform(pixels / PIXEL_MAX)) == labels))
    weights = weights_of(kernel, judge)
    onnx.save(as_onnx(weights), folder / "digits.onnx")
    np.save(folder / "digit.npy", pixels[SHOWN : SHOWN + 1])
    arrays: dict[str, Any] = {**weights, "digit": pixels[SHOWN : SHOWN + 1]}
    np.savez_compressed(demo / "digits.npz", **arrays)
    sample = {"label": int(labels[SHOWN]), "pixels": pixels[SHOWN].astype(int).tolist()}
    (folder / "digit.json").write_text(json.dumps(sample) + "\n")
    print(f"accuracy on {len(labels)} held-out digits: {accuracy:.4f}")


def split() -> tuple[Pixels, Pixels, Labels, Labels]:
    """Pixels to learn from and held out, labels to learn from and held out; the same every time."""
    digits = load_digits()
    pixels = digits.data.astype(np.float32)
    parts = train_test_split(pixels, digits.target, test_size=0.2, random_state=SEED, stratify=digits.target)
    return parts[0], parts[1], parts[2], parts[3]


def trained(pixels: Pixels, labels: Labels) -> tuple[Nystroem, LogisticRegression]:
    """The similarities and the judge of them, fitted to pixels that they scale to 0..1."""
    kernel = Nystroem(gamma=GAMMA, n_components=SEEN, random_state=SEED)
    judge = LogisticRegression(C=100, max_iter=2000)
    return kernel, judge.fit(kernel.fit_transform(pixels / PIXEL_MAX), labels)


def weights_of(kernel: Nystroem, judge: LogisticRegression) -> dict[str, Pixels]:
    """The numbers that the model is made of, by name."""
    seen = kernel.components_
    weights = {
        "pixel_max": np.array(PIXEL_MAX),
        "seen": seen,
        "seen_squared": (seen**2).sum(axis=1),
        "minus_gamma": np.array(-GAMMA),
        # The kernel's normalisation and the judge's weights are two matrices in a row: one will do.
        "weights": kernel.normalization_.T @ judge.coef_.T,
        "bias": judge.intercept_,
    }
    return {name: value.astype(np.float32) for name, value in weights.items()}


def as_onnx(weights: dict[str, Pixels]) -> onnx.ModelProto:
    """The model as an ONNX graph over raw pixels: n digits in, n labels and their probabilities out."""
    graph = helper.make_graph(
        [
            helper.make_node("Div", ["pixels", "pixel_max"], ["scaled"]),
            # |pixels - seen|^2 = |pixels|^2 - 2 pixels . seen + |seen|^2
            helper.make_node("ReduceSumSquare", ["scaled"], ["scaled_squared"], axes=[1], keepdims=1),
            helper.make_node("Gemm", ["scaled", "seen", "seen_squared"], ["partial"], alpha=-2.0, transB=1),
            helper.make_node("Add", ["partial", "scaled_squared"], ["distances"]),
            helper.make_node("Mul", ["distances", "minus_gamma"], ["exponents"]),
            helper.make_node("Exp", ["exponents"], ["similarities"]),
            helper.make_node("Gemm", ["similarities", "weights", "bias"], ["scores"]),
            helper.make_node("Softmax", ["scores"], ["probabilities"], axis=1),
            helper.make_node("ArgMax", ["scores"], ["label"], axis=1, keepdims=0),
        ],
        "digits",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["n", 64])],
        [
            helper.make_tensor_value_info("label", TensorProto.INT64, ["n"]),
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", 10]),
        ],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
        doc_string="Handwritten digits, 8 x 8 pixels with values from 0 to 16, row by row.",
    )
    # The oldest versions that hold these operators, so that old runtimes can serve it too.
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model


if __name__ == "__main__":
    here = Path(__file__).parent
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]), Path(sys.argv[1]))
    else:
        main(here, here.parent.parent / "graphpipe" / "demo")
