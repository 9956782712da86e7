"""Write the ONNX model, the problem as a file, and pictures with what is in them.

    python examples/detection/make.py FOLDER

The graph does what blobs.py does, node by node: no framework has to be here to make it.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from specs import PROBLEM  # type: ignore[import-not-found]
from windows import AROUND, BRIGHT, COLOURS, STEP, WINDOW  # type: ignore[import-not-found]

PICTURES = 8
SIGMA = 34.0


def main(folder: Path) -> None:
    """All of it, into a folder."""
    onnx.save(model(), folder / "blobs.onnx")
    PROBLEM.write(folder / "problem.toml")
    (folder / "pictures").mkdir(exist_ok=True)
    chance = np.random.default_rng(7)
    for number in range(PICTURES):
        np.savez_compressed(folder / "pictures" / f"{number:02}.npz", **picture(chance))


def picture(chance: np.random.Generator) -> dict[str, Any]:
    """A picture with up to four blobs in it, far from one another, and their corners and labels."""
    rows, columns = np.mgrid[:480, :640]
    cells = chance.permutation(12)[: chance.integers(0, 5)]
    middles = 80 + 160 * np.stack([cells // 4, cells % 4], axis=1)
    # Near the middle of a window each, and in the order in which windows are looked at.
    centres = (middles + chance.integers(-30, 31, middles.shape)) // STEP * STEP + chance.integers(2, 7, middles.shape)
    centres = centres[np.lexsort((centres[:, 1], centres[:, 0] // STEP))]
    colours = chance.integers(0, 3, len(cells))
    light = np.zeros((480, 640, 3))
    for (y, x), colour in zip(centres, colours, strict=True):
        light[..., colour] += 250 * np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / (2 * SIGMA**2))
    noise = chance.integers(0, 6, light.shape)
    corners = [(x - WINDOW / 2, y - WINDOW / 2, x + WINDOW / 2, y + WINDOW / 2) for y, x in centres]
    return {
        "picture": np.clip(light + noise, 0, 255).astype(np.uint8),
        "corners": np.array(corners, np.float32).reshape(-1, 4),
        "label": np.array([COLOURS[colour] for colour in colours], "S5"),
    }


def model() -> onnx.ModelProto:
    """The detector as an ONNX graph."""
    constants: dict[str, Any] = {
        "byte": np.float32(255),
        "bright": np.float32(BRIGHT),
        "step": np.int64(STEP),
        "window": np.int64(WINDOW),
        "first_axis": np.array([0]),
        "column_and_row": np.array([3, 2]),
        "names": np.array(COLOURS, object),
    }
    nodes = [
        helper.make_node("Cast", ["picture"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["floats"], ["planes"], perm=[2, 0, 1]),
        helper.make_node("Unsqueeze", ["planes", "first_axis"], ["pixels"]),
        helper.make_node("AveragePool", ["pixels"], ["means"], kernel_shape=[WINDOW] * 2, strides=[STEP] * 2),
        helper.make_node("Div", ["means", "byte"], ["brightness"]),
        helper.make_node("ReduceMax", ["brightness"], ["scores"], axes=[1], keepdims=1),
        helper.make_node("ArgMax", ["brightness"], ["colours"], axis=1, keepdims=1),
        helper.make_node("MaxPool", ["scores"], ["peaks"], kernel_shape=[AROUND] * 2, pads=[AROUND // 2] * 4),
        helper.make_node("Equal", ["scores", "peaks"], ["is_peak"]),
        helper.make_node("Greater", ["scores", "bright"], ["is_bright"]),
        helper.make_node("And", ["is_peak", "is_bright"], ["is_blob"]),
        helper.make_node("NonZero", ["is_blob"], ["axes"]),
        helper.make_node("Transpose", ["axes"], ["places"], perm=[1, 0]),
        helper.make_node("GatherND", ["scores", "places"], ["score"]),
        helper.make_node("GatherND", ["colours", "places"], ["colour"]),
        helper.make_node("Gather", ["names", "colour"], ["label"]),
        # A place has four axes, of which the last two are row and column.
        helper.make_node("Gather", ["places", "column_and_row"], ["left_top"], axis=1),
        helper.make_node("Mul", ["left_top", "step"], ["begin"]),
        helper.make_node("Add", ["begin", "window"], ["end"]),
        helper.make_node("Concat", ["begin", "end"], ["corner_pixels"], axis=1),
        helper.make_node("Cast", ["corner_pixels"], ["corners"], to=TensorProto.FLOAT),
    ]
    graph = helper.make_graph(
        nodes,
        "blobs",
        [helper.make_tensor_value_info("picture", TensorProto.UINT8, [480, 640, 3])],
        [
            helper.make_tensor_value_info("corners", TensorProto.FLOAT, ["found", 4]),
            helper.make_tensor_value_info("label", TensorProto.STRING, ["found"]),
            helper.make_tensor_value_info("score", TensorProto.FLOAT, ["found"]),
        ],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
        doc_string="Bright blobs in a picture: where they are, and of which colour.",
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(made, full_check=True)
    return made


if __name__ == "__main__":
    main(Path(sys.argv[1]))
