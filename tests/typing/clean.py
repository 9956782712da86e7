"""A user's program with all of the public API, used well: a type checker has nothing to say about it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import graphpipe
from graphpipe import remote

Array = NDArray[np.float32]
URL = "http://127.0.0.1:9000"


@graphpipe.model(inputs={"x": "float32[n, 4]"}, outputs={"mean": "float32[n]"}, description="The mean of each row.")
def mean(x: Array) -> Array:
    return np.asarray(x.mean(axis=1))


@graphpipe.model
def double(x: Array) -> Array:
    return 2 * x


class Scale:
    """A model with its own signature and nothing of a framework."""

    signature = graphpipe.Signature(
        inputs=(graphpipe.TensorSpec("x", np.dtype(np.float32), ("n", 4)),),
        outputs=(graphpipe.TensorSpec("y", np.dtype(np.float32), ("n", 4)),),
    )

    def infer(self, inputs: Any, outputs: Any, *, config: str = "", timeout_s: float | None = None) -> dict[str, Any]:
        return {"y": 2 * inputs["x"]}

    def close(self) -> None:
        pass


def serve() -> None:
    graphpipe.serve(mean, "127.0.0.1:9000", name="mean", on_ready=print, threads=4, body_bytes_max="64MiB")
    graphpipe.serve(double, batch_rows_max=8, batch_wait_ms=2.5, log_format="json")
    graphpipe.serve("m.onnx", workers=2, memory_limit_bytes=1 << 30, providers=["CPUExecutionProvider"])
    graphpipe.serve(Path("m.onnx"), tls_cert=Path("cert.pem"))
    graphpipe.serve(graphpipe.load("m.onnx"))


def problems(array: Array) -> list[str]:
    problem = graphpipe.Problem.of(
        [{"name": "x", "dtype": "float32", "shape": ("n", None)}],
        {"y": "float32[n, ?]"},
        name="doubling",
        tests=[graphpipe.Case({"x": array}, {"y": [[2.0]]}, atol=0.1), {"inputs": {"x": [[1.0]]}}],
    )
    problem.write(Path("p.toml"))
    assert graphpipe.Problem.from_dict(problem.to_dict()) == graphpipe.Problem.read("p.toml")
    model = graphpipe.load(double, problem=problem)
    problem.check(model)
    graphpipe.serve(double, problem=Path("p.toml"))
    graphpipe.serve(problem.posed(Scale(), {"x": "some_namespace/in_x:0"}, name="scale"))
    with graphpipe.Client(URL) as client:
        problem.check(client)
    graphpipe.placeholder(problem, seed=1).infer({"x": array})
    return [str(difference) for difference in problem.run_tests(graphpipe.placeholder("p.toml"))]


def in_a_notebook(array: Array) -> float:
    with graphpipe.serving(mean, threads=2) as server:
        answer = remote.execute(server.url, array)
        server.stop()
    return float(answer.sum())


def a_plain_execute_used_as_one_array(array: Array) -> list[float]:
    answer = remote.execute(URL, array)
    with graphpipe.Client(URL, timeout=10, connect_timeout=1, headers={"X-Team": "a"}, api_key="key") as client:
        mine = client.execute(array, "x", "mean", cast=True, timeout=1)
        several = client.execute_multi([array, array], ["x", "y"], ["mean", "variance"], config="")
        lists = client.execute([[1, 2], [3, 4]])
        filled = client.empty("x", (3, 4), np.float32)
        filled[...] = client.empty("x", [3, 4], dtype="float32")
    return [float(answer.mean()), float(mine[0]), float(several[0].sum()), float(lists.sum())]


def several_named_outputs_are_a_list(client: graphpipe.Client, array: Array) -> float:
    first, second = client.execute(array, output_name=["a", "b"])
    return float(first.sum() + second.sum())


def by_name(array: Array) -> tuple[int, ...]:
    with graphpipe.Client(URL) as client:
        answers = client.infer({"x": array}, outputs=["mean"], timeout=2.5)
        metadata = client.metadata()
        print(metadata.name, metadata.inputs[0].name, metadata.outputs[0].shape)
    return answers["mean"].shape


async def many(arrays: list[Array]) -> list[NDArray[Any]]:
    async with graphpipe.AsyncClient(URL, connections_max=20) as client:
        answers = await asyncio.gather(*(client.infer({"x": array}) for array in arrays))
        whole = await client.execute(arrays[0])
        await client.execute(await client.empty("x", 4))
    return [whole, *(answer["mean"] for answer in answers)]


def here(array: Array) -> float:
    options = graphpipe.LoadOptions(intra_threads=2)
    with graphpipe.load("m.onnx", name="m", backend="onnx", intra_threads=options.intra_threads) as model:
        print(model.signature, model.name)
        answer = model.infer({"x": array}, ["mean"])
    return float(answer["mean"].sum())


def what_it_is_made_of(array: Array) -> list[str]:
    with graphpipe.Pipeline([mean, double], name="both") as pipeline:
        found = graphpipe.explain(pipeline, {"x": array}, runs=3)
        graphpipe.fuse(pipeline, path="both.onnx", outputs={"answer": "mean"})
    Path("both.svg").write_text(found.svg())
    print(found.text(), found.as_json()["ms"], found.seconds or 0.0)
    return [f"{part.name} {part.seconds}" for part in found.parts]


def when_it_goes_wrong(array: Array) -> str:
    try:
        return str(remote.execute(URL, array))
    except graphpipe.Overloaded as error:
        return f"again in {error.retry_after_s or 1} s"
    except graphpipe.ServiceError as error:
        return f"{error.code} {error.http_status} {error.message}"
    except graphpipe.NoAnswer as error:
        return f"{error} {error.safe_to_retry}"
    except graphpipe.GraphPipeError as error:
        return str(error)
