"""What does a backend cost on top of its framework, in each call?

    python benchmarks/backends.py [--rounds N] [--only NAME...]

One layer, y = x @ w with x float32 [16, 64] (4 KB) and [4096, 64] (1 MB), in each framework. `bare` is the framework's
own call from a numpy array to a numpy array, as its manual has it; `model` is the backend's Model.infer, which is what
a server's thread calls; `load` is LoadedModel.infer, what `graphpipe.load(...)` gives, with its check of names, types
and shapes. The three are run in turn in each round, and the figures are those of the best round of each: what else runs
on the machine only adds. `allowed` is 10 % or 30 us above bare, whichever is more. Frameworks have one thread.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

import numpy as np  # noqa: E402
from numpy.typing import NDArray  # noqa: E402

import graphpipe  # noqa: E402

Array = NDArray[Any]
Bare = Callable[[Array], Any]

WEIGHTS = np.random.default_rng(0).standard_normal((64, 10)).astype(np.float32)
# Long enough to be timed, short enough that the machine's mood is the same for all in a round.
BATCH_S = 0.002


def echo(folder: Path) -> tuple[Any, Bare]:
    return "echo", lambda x: {"x": x}


def onnx(folder: Path) -> tuple[Any, Bare]:
    import onnx
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "layer",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 64])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 10])],
        [numpy_helper.from_array(WEIGHTS, "w")],
    )
    path = folder / "layer.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])
    return path, lambda x: session.run(["y"], {"x": x})


def _module(tf: Any) -> Any:
    class Layer(tf.Module):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.weights = tf.Variable(WEIGHTS)

        @tf.function(input_signature=[tf.TensorSpec([None, 64], tf.float32, "x")])  # type: ignore[untyped-decorator]
        def __call__(self, x: Any) -> Any:
            return {"y": x @ self.weights}

    return Layer()


def savedmodel(folder: Path) -> tuple[Any, Bare]:
    import tensorflow as tf

    module = _module(tf)
    tf.saved_model.save(module, str(folder / "layer"), signatures={"serving_default": module.__call__})
    loaded = tf.saved_model.load(str(folder / "layer"))
    function = loaded.signatures["serving_default"]
    # A loaded model's functions do not keep its variables: the default argument does.
    return folder / "layer", lambda x, keep=loaded: function(x=tf.constant(x))["y"].numpy()


def graphdef(folder: Path) -> tuple[Any, Bare]:
    import tensorflow as tf

    v1 = tf.compat.v1
    graph = tf.Graph()
    with graph.as_default():
        x = v1.placeholder(tf.float32, [None, 64], name="x")
        tf.matmul(x, tf.constant(WEIGHTS), name="y")
    (folder / "layer.pb").write_bytes(graph.as_graph_def().SerializeToString())
    session = v1.Session(graph=graph)
    return folder / "layer.pb", lambda x: session.run("y:0", {"x:0": x})


def keras(folder: Path) -> tuple[Any, Bare]:
    import keras
    import tensorflow as tf

    x = keras.Input((64,), name="x")
    model = keras.Model(x, keras.layers.Dense(10, use_bias=False, name="y")(x))
    model.save(folder / "layer.keras")
    return folder / "layer.keras", lambda x: model(tf.constant(x), training=False).numpy()


def torchscript(folder: Path) -> tuple[Any, Bare]:
    return _torch(folder / "layer.pt")


def exported(folder: Path) -> tuple[Any, Bare]:
    return _torch(folder / "layer.pt2")


def _torch(path: Path) -> tuple[Any, Bare]:
    import torch

    from graphpipe.backends.torch import save

    save(torch.nn.Linear(64, 10, bias=False), path, [np.ones((2, 64), np.float32)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.jit.load(str(path)) if path.suffix == ".pt" else torch.export.load(str(path)).module()

    def bare(x: Array) -> Any:
        with torch.inference_mode():
            return program(torch.from_numpy(x)).numpy()

    return path, bare


def python(folder: Path) -> tuple[Any, Bare]:
    @graphpipe.model(inputs={"x": "float32[n, 64]"}, outputs={"y": "float32[n, 10]"})
    def layer(x: Array) -> Array:
        result: Array = x @ WEIGHTS
        return result

    return layer, layer


def remote(folder: Path) -> tuple[Any, Bare]:
    from tests.serving import serving

    path, _ = onnx(folder)
    upstream = serving("--model", path)
    server = upstream.__enter__()
    ENDS.append(lambda: upstream.__exit__(None, None, None))
    client = graphpipe.Client(server.url)
    return server.url, lambda x: client.execute_multi([x], ["x"], ["y"])


ENDS: list[Callable[[], Any]] = []
BACKENDS: dict[str, Callable[[Path], tuple[Any, Bare]]] = {
    "echo": echo,
    "ONNX": onnx,
    "SavedModel": savedmodel,
    "GraphDef": graphdef,
    "Keras": keras,
    "TorchScript": torchscript,
    "torch.export": exported,
    "Python": python,
    "remote": remote,
}


def timed(run: Callable[[], Any], times: int) -> float:
    began = time.perf_counter()
    for _ in range(times):
        run()
    return (time.perf_counter() - began) / times


# What has no threads that it could be told of.
ONE_THREAD = ("echo", "Python", "remote")


def measured(runs: list[Callable[[], Any]], rounds: int) -> list[float]:
    """Seconds of each in its best round; they take turns."""
    for run in runs:
        timed(run, 20)
    times = [max(1, int(BATCH_S / timed(run, 5))) for run in runs]
    samples: list[list[float]] = [[] for _ in runs]
    for _ in range(rounds):
        for run, count, sample in zip(runs, times, samples, strict=True):
            sample.append(timed(run, count))
    return [min(sample) for sample in samples]


def rows(name: str, folder: Path, rounds: int) -> Iterator[str]:
    """The lines of the table for one backend."""
    source, bare = BACKENDS[name](folder)
    threads: Any = {} if name in ONE_THREAD else {"intra_threads": 1}
    with graphpipe.load(source, **threads) as loaded:
        given = loaded.signature.input_names[0] if name != "echo" else "x"
        wanted = list(loaded.signature.output_names) if name != "echo" else ["x"]
        for size in (16, 4096):
            x = np.random.default_rng(1).standard_normal((size, 64)).astype(np.float32)
            inputs = {given: x}

            def model(inputs: dict[str, Array] = inputs) -> Any:
                return loaded.model.infer(inputs, wanted)

            def load(inputs: dict[str, Array] = inputs) -> Any:
                return loaded.infer(inputs, wanted)

            here, ours, edge = measured([lambda x=x: bare(x), model, load], rounds)
            allowed = max(here * 1.1, here + 30e-6)
            verdict = "yes" if ours <= allowed else "NO"
            cells = [f"{value * 1e6:,.0f}" for value in (here, ours, edge, allowed)]
            yield f"| {name} | {size * 256 // 1024:,} KB | {' | '.join(cells)} | {verdict} |"


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--only", nargs="*", choices=list(BACKENDS), default=list(BACKENDS))
    options = parser.parse_args()
    print("| backend | input | bare, us | model, us | load, us | allowed, us | model within |")
    print("|---|---|---|---|---|---|---|")
    try:
        with tempfile.TemporaryDirectory() as folder:
            for name in options.only:
                for row in rows(name, Path(folder), options.rounds):
                    print(row, flush=True)
    finally:
        for end in ENDS:
            end()
    load_average = f"{os.getloadavg()[0]:.1f} on {os.cpu_count()} CPUs"
    print(f"\n{platform.machine()}, Python {platform.python_version()}, numpy {np.__version__}, load {load_average}")


if __name__ == "__main__":
    main()
