"""Models of all frameworks that keep what they give, give what they were given, or write into it.

Each has an input x, float32 [n, 4096], and gives one y or several; what it gives first is x + 1, or a part of x or of what
the model holds.
"""

from __future__ import annotations

import importlib.util
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphpipe.backends.framework import keep_triton_out
from tests import onnx_graphs

Array = NDArray[Any]
COLUMNS = 4096


def rows(value: float, count: int = 3) -> Array:
    return np.full((count, COLUMNS), value, np.float32)


_CODE = """
import threading

import numpy as np
import torch


class Keeps(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("buffer", torch.zeros(3, 4096))
        self.weight = torch.nn.Parameter(torch.ones(3, 4096))
        self.constant = torch.ones(3, 4096)
        self.numpy = np.zeros((3, 4096), np.float32)
        self.kept = []

    def forward(self, x):
        self.buffer.copy_(x + 1)
        self.numpy[:] = x.numpy() + 1
        self.last = x + 1
        self.kept[:] = [x + 1]
        return {
            "buffer": self.buffer, "part": self.buffer[1:], "detached": self.buffer.detach(), "weight": self.weight,
            "data": self.weight.data, "constant": self.constant, "numpy": self.numpy, "as_tensor":
            torch.from_numpy(self.numpy), "last": self.last, "kept": self.kept[0], "x": x, "flat": x.view(-1),
            "one_row": (x[0] + 1).expand(3, 4096), "windows": (x + 1).unfold(1, 64, 1)[:, :64], "fresh": x + 1,
        }


class InPlace(torch.nn.Module):
    def forward(self, x):
        return {"y": torch.nn.functional.relu(x, inplace=True).add_(1)}


class Scripted(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("buffer", torch.zeros(1, 4096))
        self.last = torch.zeros(1, 4096)
        self.register_buffer("constant", torch.ones(3, 4096))

    def forward(self, x: torch.Tensor):
        if self.buffer.shape[0] != x.shape[0]:
            self.buffer = x + 1
        self.buffer.copy_(x + 1)
        self.last = x + 1
        return self.buffer, self.last, x, x.view(-1), self.constant, self.buffer[1:], x + 1


class ScriptedBuffer(Scripted):
    def forward(self, x: torch.Tensor):
        if self.buffer.shape[0] != x.shape[0]:
            self.buffer = x + 1
        self.buffer.copy_(x + 1)
        return self.buffer


class Remembers(torch.nn.Module):
    '''It writes into what it was given the last time.'''

    def __init__(self):
        super().__init__()
        self.last = torch.zeros(3, 4096)

    def forward(self, x: torch.Tensor):
        self.last.add_(1)
        self.last = x
        return x + 1


class Exported(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("constant", torch.ones(3, 4096))

    def forward(self, x):
        return self.constant, self.constant[1:], x, x.view(-1), x + self.constant


kept = np.empty((64, 4096), np.float32)
mine = threading.local()


def keeping(x):
    return np.add(x, 1, out=kept[: len(x)])


def keeping_by_thread(x):
    if not hasattr(mine, "kept"):
        mine.kept = np.empty((64, 4096), np.float32)
    return np.add(x, 1, out=mine.kept[: len(x)])


def giving_its_input(x):
    return x
"""


def write(folder: Path) -> dict[str, str]:
    """Write them into a folder; the source of each by its name."""
    import keras
    import tensorflow as tf
    import torch

    keep_triton_out()
    code = folder / "keepers_of_memory.py"
    code.write_text(_CODE)
    spec = importlib.util.spec_from_file_location("keepers_of_memory", code)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of frameworks about their own formats
        for name in ("Scripted", "ScriptedBuffer", "Remembers"):
            torch.jit.script(getattr(module, name)()).save(folder / f"{name}.pt")
        torch.export.save(torch.export.export(module.Exported(), (torch.zeros(3, COLUMNS),)), folder / "Exported.pt2")

        x = keras.Input((COLUMNS,), name="x")
        y = keras.layers.ReLU(name="y")(x)
        keras.Model(x, [y, x, keras.layers.Reshape((2, -1))(x), keras.layers.Reshape((2, -1))(y)]).save(
            folder / "through.keras"
        )

        class Variables(tf.Module):  # type: ignore[misc,name-defined]
            def __init__(self) -> None:
                self.variable = tf.Variable(rows(1))
                self.state = tf.Variable(rows(1))

            @tf.function(input_signature=[tf.TensorSpec([None, COLUMNS], tf.float32, "x")])  # type: ignore[untyped-decorator]
            def __call__(self, x: Any) -> Any:
                read = self.variable.read_value()
                return {
                    "variable": read, "product": read * 1.0, "constant": tf.constant(rows(1)), "x": tf.identity(x),
                    "part": x[:1], "flat": tf.reshape(x, [-1]), "neutral": x * 1.0, "y": x + 1, "y_flat":
                    tf.reshape(x + 1, [-1]), "chosen": tf.cond(x[0, 0] > 0, lambda: read, lambda: x),
                }  # fmt: skip

            @tf.function(input_signature=[tf.TensorSpec([None, COLUMNS], tf.float32, "x")])  # type: ignore[untyped-decorator]
            def assign(self, x: Any) -> Any:
                self.state.assign(x)
                self.state.assign_add(tf.ones([3, COLUMNS]))
                return {"y": x + 1}

        variables = Variables()
        signatures = {"serving_default": variables.__call__, "assign": variables.assign}
        tf.saved_model.save(variables, str(folder / "variables"), signatures)
        graph = tf.Graph()
        with graph.as_default():
            entry = tf.compat.v1.placeholder(tf.float32, [None, COLUMNS], name="x")
            tf.identity(tf.constant(rows(1), name="c"), name="constant")
            tf.identity(entry, name="same")
            tf.add(entry, 1.0, name="y")
        (folder / "graph.pb").write_bytes(graph.as_graph_def().SerializeToString())
    helper = onnx_graphs.helper
    nodes = [("same", "x"), ("same_again", "x"), ("held", "w"), ("y_again", "y")]
    shape = ["n", COLUMNS]
    onnx_graphs.save(
        folder / "through.onnx",
        [
            helper.make_node("Add", ["x", "w"], ["y"]),
            *(helper.make_node("Identity", [given], [name]) for name, given in nodes),
        ],
        [("x", onnx_graphs.FLOAT, shape)],
        [(name, onnx_graphs.FLOAT, shape) for name in ("y", *(name for name, _ in nodes))],
        [onnx_graphs.numpy_helper.from_array(rows(1), "w")],
    )
    onnx_graphs.save(
        folder / "by_row.onnx",
        [helper.make_node("Add", ["x", "one"], ["y"]), helper.make_node("Identity", ["x"], ["same"])],
        [("x", onnx_graphs.FLOAT, shape)],
        [("y", onnx_graphs.FLOAT, shape), ("same", onnx_graphs.FLOAT, shape)],
        [onnx_graphs.numpy_helper.from_array(np.ones(COLUMNS, np.float32), "one")],
    )
    return {
        "module": f"{code}:Keeps", "in place": f"{code}:InPlace", "script": f"{folder}/Scripted.pt", "remembers":
        f"{folder}/Remembers.pt", "exported": f"{folder}/Exported.pt2", "keras": f"{folder}/through.keras", "variables":
        f"{folder}/variables", "graph": f"{folder}/graph.pb", "onnx": f"{folder}/through.onnx", "echo": "echo",
        # These are for a server.
        "keeping": f"{code}:keeping", "keeping by thread": f"{code}:keeping_by_thread", "giving its input":
        f"{code}:giving_its_input", "scripted buffer": f"{folder}/ScriptedBuffer.pt", "by row": f"{folder}/by_row.onnx",
    }  # fmt: skip
