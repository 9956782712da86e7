"""Batching and caching as an operator asks for them, and as callers see them."""

from __future__ import annotations

import re
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

import graphpipe
from graphpipe.errors import LoadError
from graphpipe.server.stages.batching.ragged import ragged_axes
from graphpipe.server.stages.cache.folder import do_clear, show_stats
from graphpipe.signature import Signature, TensorSpec
from tests.onnx_graphs import FLOAT, INT64, pair_sum, passing, save, scaled
from tests.serving import Server, environment, run_to_end

Serve = Callable[..., Server]


def metrics(server: Server) -> dict[str, float]:
    """The counters of a server's only model."""
    with urllib.request.urlopen(f"{server.url.rstrip('/')}/metrics") as answer:
        page = answer.read().decode()
    return {name: float(value) for name, value in re.findall(r'^graphpipe_(\w+)\{model="\w+"\} (\S+)$', page, re.M)}


def ask_at_once(url: str, rows: list[np.ndarray]) -> list[np.ndarray]:
    with graphpipe.Client(url) as client, ThreadPoolExecutor(len(rows)) as pool:
        return list(pool.map(client.execute, rows))


def test_rows_of_several_callers_become_one_call(serve: Serve, tmp_path: Path):
    server = serve("--model", scaled(tmp_path / "m.onnx", 3), "--batch-rows-max", "8", "--batch-wait-ms", "10000")
    rows = [np.full((1, 4), i, np.float32) for i in range(8)]
    for row, answer in zip(rows, ask_at_once(server.url, rows), strict=True):
        assert np.array_equal(answer, row * 3)
    found = metrics(server)
    assert found["batch_rows_count"] < found["batch_requests_total"]
    assert found["batch_rows_sum"] >= 8


def test_known_rows_survive_a_restart_and_another_model_does_not_get_them(serve: Serve, tmp_path: Path):
    x = np.arange(8, dtype=np.float32).reshape(2, 4)
    flags = ("--cache", "--cache-dir", tmp_path / "cache")
    for factor, hits in ((2, 0), (2, 2), (5, 0), (2, 2)):
        server = serve("--model", scaled(tmp_path / "m.onnx", factor), *flags)
        assert np.array_equal(graphpipe.remote.execute(server.url, x), x * factor)
        assert metrics(server)["cache_hits_total"] == hits
        assert server.stop() == 0


def test_the_original_way_to_ask_for_a_cache_still_holds(serve: Serve, tmp_path: Path):
    env = {"GP_MODEL": str(scaled(tmp_path / "m.onnx", 2)), "GP_CACHE": "1", "GRAPHPIPE_CACHE_DIR": str(tmp_path / "c")}
    server = serve(env=env)
    for _ in range(2):
        graphpipe.remote.execute(server.url, np.ones((1, 4), np.float32))
    assert metrics(server)["cache_hits_total"] == 1


def test_workers_share_one_cache(serve: Serve, tmp_path: Path):
    flags = ("--workers", "2", "--cache", "--cache-dir", tmp_path / "cache")
    server = serve("--model", scaled(tmp_path / "m.onnx", 2), *flags)
    rng = np.random.default_rng(0)
    rows = rng.random((40, 1, 4), np.float32)
    for _ in range(3):  # each time on new connections, which either worker may get
        for row in rows:
            assert np.array_equal(graphpipe.remote.execute(server.url, row), row * 2)
    assert server.stop() == 0
    again = serve("--model", scaled(tmp_path / "m.onnx", 2), *flags)
    for row in rows:
        assert np.array_equal(graphpipe.remote.execute(again.url, row), row * 2)
    while (found := metrics(again))["cache_hits_total"] + found["cache_misses_total"] < 40:
        pass  # a worker tells the others what it has counted twice a second
    assert (found["cache_hits_total"], found["cache_misses_total"]) == (40, 0)


def test_every_kind_of_row_passes_through_a_cache_and_a_batcher(serve: Serve, tmp_path: Path):
    flags = ("--cache", "--cache-dir", tmp_path / "cache", "--batch-rows-max", "4", "--batch-wait-ms", "1")
    kinds = {
        "text": (TensorProto.STRING, np.array([[b"a", b"bc"], [b"", "é".encode()]], object)),
        "half": (TensorProto.FLOAT16, np.array([[1, 2], [np.inf, -0.0]], np.float16)),
        "truth": (TensorProto.BOOL, np.array([[1, 0], [0, 1]], np.uint8)),
        "large": (TensorProto.INT64, np.array([[2**63 - 1, -(2**63)], [0, 1]], np.int64)),
    }
    models = [
        flag for name, (kind, _) in kinds.items() for flag in ("-m", passing(tmp_path / f"{name}.onnx", kind, ["n", 2]))
    ]
    server = serve(*models, *flags)
    for name, (_, rows) in kinds.items():
        for _ in range(2):
            answer = graphpipe.remote.execute(f"{server.url.rstrip('/')}/models/{name}", rows)
            assert answer.dtype == rows.dtype
            assert answer.tolist() == rows.tolist()


def test_a_proxy_with_a_cache_answers_for_the_upstream_as_it_is_now(serve: Serve, tmp_path: Path):
    x = np.arange(8, dtype=np.float32).reshape(2, 4)
    upstream = serve("--model", scaled(tmp_path / "m.onnx", 2))
    flags = ("--batch-rows-max", "32", "--batch-wait-ms", "5", "--cache", "--cache-dir", tmp_path / "cache")
    proxy = serve("--model", f"model={upstream.url}", *flags)
    proxy_of_proxy = serve("--model", f"model={proxy.url}", *flags[:-1], tmp_path / "another")
    for factor in (2, 3, 2):
        if factor != 2 or metrics(proxy)["cache_hits_total"]:
            assert upstream.stop() == 0
            upstream = serve(
                "--model", scaled(tmp_path / "m.onnx", factor), listen=upstream.url.removeprefix("http://")
            )
        for _ in range(4):
            for url in (proxy.url, proxy_of_proxy.url):
                assert np.array_equal(graphpipe.remote.execute(url, x), x * factor)
                assert np.array_equal(graphpipe.remote.execute(url, x[:1]), x[:1] * factor)
    assert metrics(proxy)["cache_hits_total"] > 4
    assert metrics(proxy_of_proxy)["cache_hits_total"] > 4


def test_a_model_without_a_digest_is_cached_only_under_a_declared_version(serve: Serve, tmp_path: Path):
    (tmp_path / "mine.py").write_text("def double(x):\n    return x * 2\n")
    flags = ("--cache", "--cache-dir", str(tmp_path / "cache"))
    env = {"PYTHONPATH": f"{Path(__file__).parents[2]}:{tmp_path}"}
    refused = run_to_end("--listen", "127.0.0.1:0", "--model", "mine:double", *flags, env=env)
    assert refused.returncode == 1
    assert "--cache-version" in refused.stderr
    server = serve("--model", "mine:double", *flags, "--cache-version", "1", env=env)
    x = np.ones((1, 2), np.float32)
    for _ in range(2):
        assert np.array_equal(graphpipe.remote.execute(server.url, x), x * 2)
    assert metrics(server)["cache_hits_total"] == 1


def fixed(path: Path, rows: int) -> Path:
    """y = 2 x, made for one number of rows."""
    two = helper.make_tensor("two", FLOAT, [1], [2.0])
    return save(
        path,
        [helper.make_node("Mul", ["x", "two"], ["y"])],
        [("x", FLOAT, [rows, 3])],
        [("y", FLOAT, [rows, 3])],
        [two],
    )


def test_a_model_for_a_fixed_number_of_rows_takes_any_where_its_size_is_named(serve: Serve, tmp_path: Path):
    server = serve("--model", fixed(tmp_path / "m.onnx", 4), "--batch-sizes", "4")
    for count in (1, 4, 11):
        x = np.arange(3 * count, dtype=np.float32).reshape(count, 3)
        assert np.array_equal(graphpipe.remote.execute(server.url, x), x * 2)
    assert graphpipe.remote.metadata(server.url).inputs[0].shape == (-1, 3)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: fixed(path, 1), "takes exactly 1 row"),
        (
            lambda path: save(
                path,
                [helper.make_node("ReduceMax", ["x"], ["y"], keepdims=0)],
                [("x", FLOAT, ["n", 2])],
                [("y", FLOAT, [])],
            ),
            "output 'y' is a scalar",
        ),
        (
            lambda path: save(
                path,
                [helper.make_node("MatMul", ["x", "x"], ["y"])],
                [("x", FLOAT, ["n", "n"])],
                [("y", FLOAT, ["n", "n"])],
            ),
            "the length of another axis",
        ),
    ],
    ids=["fixed rows", "scalar output", "square"],
)
def test_batching_is_refused_where_the_model_itself_says_that_it_cannot_be(tmp_path: Path, make, reason):
    refused = run_to_end("--listen", "127.0.0.1:0", "--model", make(tmp_path / "m.onnx"), "--batch-rows-max", "8")
    assert refused.returncode == 1
    assert reason in refused.stderr
    assert "Traceback" not in refused.stderr


def ragged(path: Path) -> Path:
    """y: x without its sign, as long as x; total: the sum of each row."""
    return save(
        path,
        [helper.make_node("Abs", ["x"], ["y"]), helper.make_node("ReduceSum", ["x", "axes"], ["total"], keepdims=0)],
        [("x", INT64, ["n", "length"])],
        [("y", INT64, ["n", "length"]), ("total", INT64, ["n"])],
        [helper.make_tensor("axes", INT64, [1], [1])],
    )


def test_ragged_rows_are_made_equally_long_and_cut_back(serve: Serve, tmp_path: Path):
    flags = ("--batch-rows-max", "6", "--batch-wait-ms", "10000", "--batch-pad", "x:1:0")
    server = serve("--model", ragged(tmp_path / "m.onnx"), *flags)
    rows = [np.full((1, length), -length, np.int64) for length in (1, 5, 2, 3, 1, 4)]
    with graphpipe.Client(server.url) as client, ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda x: client.infer({"x": x}, ["y", "total"]), rows))
    for x, answer in zip(rows, answers, strict=True):
        assert answer["y"].tolist() == (-x).tolist()
        assert answer["total"].tolist() == x.sum(axis=1).tolist()
    assert metrics(server)["batch_rows_count"] < 6


@pytest.mark.parametrize(
    ("pad", "reason"),
    [
        ("x:1", "write INPUT:AXIS:VALUE"),
        ("x:0:0", "0 is that of the rows"),
        ("x:2:0", "there is no axis 2"),
        ("x:1:zero", "not a value"),
        ("x:1:0.5", "not a value"),
        ("z:1:0", "no input or output 'z'"),
        ("y:1:x", "'x' is not an input padded"),
        ("total:none", "pads no input"),
    ],
)
def test_padding_that_cannot_be_is_refused_with_a_reason(tmp_path: Path, pad, reason):
    model = ragged(tmp_path / "m.onnx")
    refused = run_to_end("--listen", "127.0.0.1:0", "--model", model, "--batch-rows-max", "8", "--batch-pad", pad)
    assert refused.returncode == 1
    assert reason in refused.stderr


def specs(*of: tuple[str, str, tuple[int | str | None, ...] | None]) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec(name, np.dtype(dtype), shape) for name, dtype, shape in of)


def test_an_output_of_unknown_length_has_to_be_declared():
    inputs = specs(("x", "i8", ("n", "long")), ("name:0", "O", ("n", None)))
    for outputs in (specs(("y", "i8", ("n", None))), specs(("y", "i8", None)), specs(("y", "i8", ("n", "other")))):
        with pytest.raises(LoadError, match="declare it: --batch-pad y:AXIS:x, or y:none"):
            ragged_axes(["x:1:0"], Signature(inputs, outputs))
        assert ragged_axes(["x:1:-1", "y:none"], Signature(inputs, outputs)).follows == {}
        assert ragged_axes(["x:1:0", "y:1:x"], Signature(inputs, outputs)).follows == {"y": ((1, "x", 1),)}
    padding = ragged_axes(["x:1:7", "name:0:1:-"], Signature(inputs, specs(("y", "i8", ("long", 3, "long", "n")))))
    assert padding.fills == {"x": {1: 7}, "name:0": {1: b"-"}}
    assert padding.follows == {"y": ((2, "x", 1),)}


def test_what_caches_hold_can_be_looked_at_and_cleared_while_they_are_used(serve: Serve, tmp_path: Path):
    cache = tmp_path / "cache"
    flags = ("--cache", "--cache-dir", cache)
    assert "no such row cache" in show_stats(cache)
    server = serve("-m", scaled(tmp_path / "m.onnx", 2), "-m", pair_sum(tmp_path / "pair.onnx"), *flags)
    x = np.ones((1, 4), np.float32)
    for _ in range(2):
        graphpipe.remote.execute(server.url, x)
    while re.search(r"^m +1 ", show_stats(cache), re.M) is None:
        pass  # it is written behind the answer
    assert do_clear(cache, ("m",)) == "cleared: m"
    assert re.search(r"^m +0 ", show_stats(cache), re.M)
    assert np.array_equal(graphpipe.remote.execute(server.url, x), x * 2)
    assert server.stop() == 0
    assert do_clear(cache) == "cleared: m, pair"
    assert [*cache.iterdir()] == []


def test_the_commands_of_graphpipe_cache_work_as_their_help_shows_them(serve: Serve, tmp_path: Path):
    def command(line: str) -> subprocess.CompletedProcess[str]:
        words = line.replace("/var/cache", str(tmp_path)).split()
        code = f"import sys; sys.argv = {words!r}; from graphpipe.server.start import main; main()"
        env = environment(HOME=str(tmp_path))
        return subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)

    examples = re.search(r"examples:\n(.*?)\n\n", command("graphpipe cache --help").stdout, re.S)
    server = serve("--model", scaled(tmp_path / "digits.onnx", 2), "--cache", env={"HOME": str(tmp_path)})
    graphpipe.remote.execute(server.url, np.ones((1, 4), np.float32))
    assert server.stop() == 0
    said = [command(line.strip()).stdout for line in examples[1].splitlines()]
    assert re.search(r"^digits +1 ", said[0], re.M)
    assert said[1] == "cleared: digits\n"
    assert "no such row cache" in said[2]


def test_a_cache_that_cannot_be_opened_is_a_warning(serve: Serve, tmp_path: Path):
    (tmp_path / "cache").write_text("a file where a folder should be")
    server = serve("--model", scaled(tmp_path / "m.onnx", 2), "--cache", "--cache-dir", tmp_path / "cache")
    x = np.ones((1, 4), np.float32)
    assert np.array_equal(graphpipe.remote.execute(server.url, x), x * 2)
    assert "without its row cache" in server.log
