"""Makes a package of the addition problem with each framework that is installed: make.py FOLDER [FRAMEWORK ...]"""

from __future__ import annotations

import importlib
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import graphpipe

HERE = Path(__file__).parent


def python() -> dict[str, Any]:
    return {"model": HERE / "adder.py:add", "code": [HERE / "adder.py"]}


def onnx() -> dict[str, Any]:
    import onnx

    tensor, make = onnx.TensorProto.FLOAT, onnx.helper
    graph = make.make_graph(
        [make.make_node("Add", ["a", "b"], ["sum"])],
        "adder",
        [make.make_tensor_value_info(name, tensor, ["n"]) for name in ("a", "b")],
        [make.make_tensor_value_info("sum", tensor, ["n"])],
    )
    model = make.make_model(graph, opset_imports=[make.make_opsetid("", 20)], ir_version=10)
    return {"model": model, "name_map": {"x": "a", "y": "b", "out": "sum"}}


def torch() -> dict[str, Any]:
    """The class and its code."""
    return {"model": HERE / "net.py:Adder", "code": [HERE / "net.py"], "framework_version": "torch>=2"}


def torchscript() -> dict[str, Any]:
    return {"model": _net(), "save_as": ".pt"}


def torch_export() -> dict[str, Any]:
    return {"model": _net(), "save_as": ".pt2"}


def keras() -> dict[str, Any]:
    keras = importlib.import_module("keras")
    x, y = keras.Input((), name="x"), keras.Input((), name="y")
    return {"model": keras.Model([x, y], {"out": keras.layers.Add()([x, y])})}


def savedmodel() -> dict[str, Any]:
    import tensorflow as tf

    class Adder(tf.Module):  # type: ignore[misc]
        @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name=name) for name in ("x", "y")])  # type: ignore[untyped-decorator]
        def __call__(self, x: Any, y: Any) -> dict[str, Any]:
            return {"out": x + y}

    return {"model": Adder()}


def graphdef() -> dict[str, Any]:
    """As TensorFlow 1 froze its graphs, with names that are nobody else's."""
    import tensorflow as tf

    with tf.Graph().as_default() as graph:
        with tf.name_scope("some_namespace"):
            x, y = (tf.compat.v1.placeholder(tf.float32, [None], name) for name in ("in_x", "in_y"))
            tf.add(x, y, "out")
        path = Path(tempfile.mkdtemp()) / "adder.pb"
        path.write_bytes(graph.as_graph_def().SerializeToString())
    return {
        "model": path,
        "name_map": {"x": "some_namespace/in_x:0", "y": "some_namespace/in_y:0", "out": "some_namespace/out:0"},
    }


def _net() -> Any:
    sys.path.insert(0, str(HERE))
    return importlib.import_module("net").Adder()


FRAMEWORKS: dict[str, Callable[[], dict[str, Any]]] = {
    each.__name__: each for each in (python, onnx, torch, torchscript, torch_export, keras, savedmodel, graphdef)
}


def main(folder: str, *names: str) -> None:
    for name in names or FRAMEWORKS:
        try:
            model = FRAMEWORKS[name]()
        except ModuleNotFoundError as error:
            print(f"{name}: skipped, {error.name} is not installed")
            continue
        package = graphpipe.package.create(
            Path(folder) / f"{name}.zip", problem=HERE / "addition.toml", overwrite=True, **model
        )
        print(f"{name}: {package.name}")


if __name__ == "__main__":
    main(*sys.argv[1:])
