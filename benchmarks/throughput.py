"""How many rows a second come through from a caller to a model and back?

    python benchmarks/throughput.py [--full] [--save] [--model NAME...] [--only WAY...] [--rounds N] [--seconds S]
                                    [--tf-serving-url HOST:PORT] [--models FOLDER]

The second chart of the 2018 project, asked again: 1, 5 and 16 callers, each of whom asks anew when he is answered, in front
of the same models run by the same runtime: two calls at once, one thread each. The clients are those that each protocol's
users have, with arrays on both ends, in a process of their own on the same cores.

limit        the model in process: no server, no client, as many threads as the servers run calls at once, or as callers
http, unix   GraphPipe over HTTP and over a Unix socket; the callers are tasks of AsyncClient
json         aiohttp, orjson and a pool of threads, as people write it; aiohttp's client
prediction   TF-Serving's PredictionService over gRPC in Python, which is not TF-Serving itself; its own stub, in threads
tf-serving   TF-Serving itself where --tf-serving-url says: it serves vgg16 of --models FOLDER, where the models are kept
             (tensorflow_model_server --model_name=vgg16 --model_base_path=FOLDER/vgg16)

vgg16        VGG16's convolutions in TensorFlow, random weights: 224x224x3 to 7x7x512 float32, as in 2018; 1 row a request
squeezenet   ONNX, 224x224x3 to 1,000; 1 row a request
mlp          ONNX, 1,024 to 10 by way of 2,048 and 2,048; 8 rows a request
identity     ONNX, 1 KB there and back; 1 row a request

Every way's answer is held against that of the model in process before it is measured. `x` is GraphPipe over HTTP by this
way, the median of neighbouring rounds, and between what it lies with 95 %. `CPU ms a row` is what caller and server took
together, which does not depend on what else the machine does. `of the limit` is what is left of the model in
process, at 16 callers or the most that were measured. `A plain client` asks with prebuilt bytes and only counts what comes
back: what the two HTTP servers bear without their clients.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
from numpy.typing import NDArray  # noqa: E402

from benchmarks.end_to_end.program import Program  # noqa: E402
from benchmarks.end_to_end.runtime import THREADS  # noqa: E402
from benchmarks.harness.about import about  # noqa: E402
from benchmarks.harness.environment import Unavailable  # noqa: E402
from benchmarks.harness.environments import ENVIRONMENTS  # noqa: E402
from benchmarks.harness.load import run_load  # noqa: E402
from benchmarks.harness.messages import post, tensor  # noqa: E402
from benchmarks.harness.question import answer  # noqa: E402
from benchmarks.harness.result import Result, Table  # noqa: E402
from benchmarks.harness.rounds import Measured, Ratio, interleaved, middle, ratio  # noqa: E402
from benchmarks.harness.row_models import identity, mlp, squeezenet  # noqa: E402
from benchmarks.harness.tree import Tree  # noqa: E402

# What is asked of each model: the shape of a request, its first axis the rows.
SHAPES = {"vgg16": (1, 224, 224, 3), "squeezenet": (1, 3, 224, 224), "mlp": (8, 1024), "identity": (1, 256)}
TITLES = {
    "vgg16": "VGG16's convolutions in TensorFlow, 1 row a request",
    "squeezenet": "squeezenet in ONNX Runtime, 1 row a request",
    "mlp": "A multilayer perceptron in ONNX Runtime, 8 rows a request",
    "identity": "Identity in ONNX Runtime, 1 KB a request",
}
WAYS = {
    "json": "JSON + Python server (aiohttp, orjson)",
    "prediction": "PredictionService over gRPC, in Python",
    "tf-serving": "TF-Serving",
    "http": "GraphPipe over HTTP",
    "unix": "GraphPipe over a Unix socket",
    "limit": "the model in process: the limit",
}
CALLERS = (1, 5, 16)
PLAIN_CALLERS = 16
# Rows a second at 1 and at 5 callers, as the project of 2018 published them.
IN_2018 = {
    "JSON + Python server": ("json", 28, 33),
    "TF-Serving's protocol": ("prediction", 70, 75),
    "GraphPipe": ("http", 291, 405),
}

# What is to be said next to a model's rows.
SAID = {
    "vgg16": "A row is so much work for the model that ways lie close together here, whatever they cost: their CPU time "
    "tells them apart. Batching is off everywhere.",
    "identity": "The model does nothing: the limit has no bytes to carry.",
}

Found = dict[str, dict[int, Measured]]  # by model and number of callers


@dataclass
class Way:
    """The callers, and the server that they ask, where it is a process of ours."""

    client: Program
    server: int | None = None

    def run(self, name: str, count: int, seconds: float) -> dict[str, float]:
        """What ``count`` callers found, and the CPU milliseconds of a call, caller's and server's."""
        before = self._cpu_s()
        found: dict[str, float] = self.client.asked(model=name, callers=count, seconds=seconds)
        return found | {"cpu_ms": 1000 * (self._cpu_s() - before) / found["all_calls"]}

    def _cpu_s(self) -> float:
        # Of the whole process: the threads that called have ended.
        ticks = 0
        for pid in (self.client.pid, self.server):
            if pid is not None:
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")


def measure(options: argparse.Namespace) -> Result:
    """Start every way, hold its answers against the limit's, then ask all in turn."""
    found: Found = {}
    plain: dict[str, Measured] = {}
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        kept = Path(options.models).resolve() if options.models else folder / "models"
        models, notes = make(options.model, kept)
        inputs = write_inputs(models, folder / "inputs")
        ways, ports = start(stack, options, models, inputs, folder, notes)
        check(ways, models, folder)
        for name in models:
            rounds, seconds, all_callers = budget(options, name)
            found[name] = {}
            for callers in all_callers:
                asked = {
                    key: lambda w=way, n=name, k=callers, s=seconds: w.run(n, k, s)
                    for key, way in ways.items()
                    if key != "tf-serving" or name == "vgg16"
                }
                found[name][callers] = interleaved(asked, rounds, f"{name}, {callers} callers")
            if name != "vgg16" and len(ports) > 1:
                plain[name] = ask_plainly(name, inputs, ports, rounds, seconds)
    tables = {name: table(name, found[name], notes) for name in found}
    if "vgg16" in found:
        tables = {"then": then(found["vgg16"]), **tables}
    if plain:
        tables["plain"] = plain_table(plain)
    facts = about(("numpy", "onnxruntime", "tensorflow-cpu", "aiohttp", "uvloop")) | versions(ways)
    title = "Rows a second from caller to model and back, by way and number of callers"
    return Result("throughput", title, "python benchmarks/throughput.py", facts, tables)


def budget(options: argparse.Namespace, name: str) -> tuple[int, float, Sequence[int]]:
    """Rounds, the seconds of each, and how many callers: a call of VGG16 takes a quarter of a second of one core."""
    large = name == "vgg16"
    rounds = options.rounds or ((6 if large else 15) if options.full else 3)
    seconds = options.seconds or ((8.0 if large else 1.0) if options.full else (2.5 if large else 0.6))
    return rounds, seconds, CALLERS if options.full or not large else CALLERS[:2]


# --- models, and the ways to them -------------------------------------------------------------------------------------


def make(names: Sequence[str], folder: Path) -> tuple[dict[str, Path], list[str]]:
    """The models by name, and what is said of one that is left out."""
    folder.mkdir(parents=True, exist_ok=True)
    made = {"squeezenet": squeezenet, "mlp": mlp, "identity": lambda where: identity(where, SHAPES["identity"][1])}
    models, notes = {}, []
    for name in names:
        if name in made:
            models[name] = made[name](folder)
            continue
        script = ROOT / "benchmarks" / "end_to_end" / "vgg16.py"
        command = [sys.executable, str(script), str(folder / name)]
        if not Tree().has("tensorflow"):
            notes.append(f"{name} is left out: TensorFlow is not installed here")
        else:
            if not (folder / name / "1").exists():
                subprocess.run(command, check=True, capture_output=True)
            models[name] = folder / name
    return models, notes


def write_inputs(names: Sequence[str] | Mapping[str, Path], folder: Path) -> Path:
    folder.mkdir()
    for name in names:
        np.save(folder / f"{name}.npy", np.random.default_rng(0).random(SHAPES[name], np.float32))
    return folder


def start(
    stack: contextlib.ExitStack,
    options: argparse.Namespace,
    models: Mapping[str, Path],
    inputs: Path,
    folder: Path,
    notes: list[str],
) -> tuple[dict[str, Way], dict[str, int]]:
    """The callers of each way, with a server that has all models before them, and the ports of those that speak HTTP.

    What will not run here is left out, and ``notes`` say why.
    """
    served = [f"{name}={path}" for name, path in models.items()]
    wanted = {*options.only, "limit"} | ({"tf-serving"} if options.tf_serving_url else set())
    ways: dict[str, Way] = {}
    ports: dict[str, int] = {}
    # All start at once: TensorFlow takes long to come.
    begun: dict[str, Program] = {}
    for way in ("json", "prediction"):
        if way in wanted:
            with _noted(notes, way):
                environment = ENVIRONMENTS["tensorflow-serving"].make()
                begun[way] = stack.enter_context(Program(environment, f"{way}_server.py", served))
    for way in WAYS:
        if way not in wanted:
            continue
        with _noted(notes, way):
            pid = None
            if way == "limit":
                client = Program(sys.executable, "in_process.py", [inputs, *served])
            elif way in ("http", "unix"):
                flags = [word for each in served for word in ("--model", each)]
                flags += ["--threads", str(THREADS), "--intra-threads", "1", "--access-lines-per-s", "0"]
                listen = f"unix:{folder / 'socket'}" if way == "unix" else "127.0.0.1:0"
                server = stack.enter_context(Tree().serving(*flags, listen=listen))
                pid = server.process.pid
                url = listen if way == "unix" else server.url
                if way == "http":
                    ports[way] = server.port
                client = Program(sys.executable, "graphpipe_client.py", [url, inputs], str(ROOT))
            else:
                address = options.tf_serving_url
                kind = "json" if way == "json" else "prediction"
                if way != "tf-serving":
                    if way not in begun:
                        continue
                    port, pid = begun[way].said()["port"], begun[way].pid
                    address = f"127.0.0.1:{port}"
                    if way == "json":
                        ports[way] = port
                environment = ENVIRONMENTS["tensorflow-serving"].make()
                client = Program(environment, f"{kind}_client.py", [address, inputs])
            stack.enter_context(client).said()
            ways[way] = Way(client, pid)
    return ways, ports


@contextlib.contextmanager
def _noted(notes: list[str], way: str) -> Iterator[None]:
    try:
        yield
    except Unavailable as problem:
        notes.append(f"{WAYS[way]} is left out: {problem}")


def check(ways: Mapping[str, Way], models: Mapping[str, Path], folder: Path) -> None:
    """Every way's answer is the model's. Raises AssertionError."""
    for name in models:
        answers = {}
        for way, each in ways.items():
            if way == "tf-serving" and name != "vgg16":
                continue
            each.client.asked(model=name, write=str(folder / f"{way}.npy"))
            answers[way] = np.load(folder / f"{way}.npy")
        for way, given in answers.items():
            assert given.dtype == np.float32, f"{way} answers {given.dtype}"
            np.testing.assert_allclose(given, answers["limit"], rtol=1e-3, atol=1e-4, err_msg=f"{name} by {way}")


def ask_plainly(name: str, inputs: Path, ports: Mapping[str, int], rounds: int, seconds: float) -> Measured:
    """The HTTP servers, asked by a client that costs next to nothing."""
    array = np.load(inputs / f"{name}.npy")
    said = {"http": post(f"/models/{name}", tensor(array))}
    if "json" in ports:
        said["json"] = post(f"/v1/models/{name}:predict", json_body(array), "1.1", "Content-Type: application/json")
    return interleaved(
        {
            way: lambda p=port, m=said[way]: run_load(p, PLAIN_CALLERS, seconds, message=m)
            for way, port in ports.items()
        },
        rounds,
        f"{name}, a plain client",
    )


def json_body(array: NDArray[np.float32]) -> bytes:
    """What JSON's usual client sends: the fewest digits that are this float32, not those of its float64."""
    return json.dumps({"instances": array.astype(str).astype(np.float64).tolist()}).encode()


# --- tables -----------------------------------------------------------------------------------------------------------


def rows_per_s(name: str, found: Sequence[Mapping[str, float]]) -> float:
    return SHAPES[name][0] * middle(found, "per_second")


def table(name: str, found: Mapping[int, Measured], notes: Sequence[str] = ()) -> Table:
    """The ways to one model. A row has ``rows_N``, ``x_N`` as it is shown, and the three numbers of that in ``ratio_N``."""
    columns = {"server": "server"}
    columns |= {f"rows_{n}": f"rows/s, {callers(n)}" for n in found}
    columns |= {f"x_{n}": f"GraphPipe to it, {callers(n)}" for n in found}
    most = max(found)
    columns["cpu"] = f"CPU ms a row, {callers(most)}"
    columns["share"] = f"% of the limit, {callers(most)}"
    made = Table(f"{TITLES[name]}.", columns, notes=[*([SAID[name]] if name in SAID else []), *notes])
    for way in (way for way in WAYS if way in found[most]):
        row: dict[str, Any] = {"server": WAYS[way], "way": way}
        for n, measured in found.items():
            row[f"rows_{n}"] = rows_per_s(name, measured[way])
            if way not in ("http", "limit") and "http" in measured:
                row[f"ratio_{n}"], row[f"x_{n}"] = _shown(ratio(measured, "http", way, "per_second"))
        if way != "tf-serving":  # its process may be on another machine
            row["cpu"] = middle(found[most][way], "cpu_ms") / SHAPES[name][0]
        if "limit" in found[most]:
            row["share"] = 100 * ratio(found[most], way, "limit", "per_second").value
        made.rows.append(row)
    return made


def callers(number: int) -> str:
    return f"{number} caller" if number == 1 else f"{number} callers"


def _shown(between: Ratio) -> tuple[list[float], str]:
    return [between.value, between.low, between.high], f"{between.value:.2f}x ({between.low:.2f} to {between.high:.2f})"


def then(found: Mapping[int, Measured]) -> Table:
    """What was published in 2018, and now: other machines and another way of counting, so only each year's order counts."""
    columns = {
        "server": "server",
        **{f"then_{n}": f"2018, {callers(n)}" for n in (1, 5)},
        **{f"now_{n}": f"now, {callers(n)}" for n in (1, 5)},
    }
    made = Table("Rows a second, in 2018 and now.", columns)
    for server, (way, *published) in IN_2018.items():
        row: dict[str, Any] = {
            "server": server,
            **{f"then_{n}": rows for n, rows in zip((1, 5), published, strict=True)},
        }
        for n in (1, 5):
            if n in found and way in found[n]:
                row[f"now_{n}"] = rows_per_s("vgg16", found[n][way])
        made.rows.append(row)
    made.notes.append(
        "2018 is what the original project published, of its own machine; now is VGG16's convolutions on this one's CPU. "
        "Compare servers within a year, not years."
    )
    return made


def plain_table(found: Mapping[str, Measured]) -> Table:
    columns = {
        "model": "model",
        "json": "JSON + Python server, rows/s",
        "http": "GraphPipe, rows/s",
        "x": "GraphPipe to it",
    }
    made = Table(f"A plain client, {PLAIN_CALLERS} callers.", columns)
    for name, measured in found.items():
        row: dict[str, Any] = {"model": name, **{way: rows_per_s(name, each) for way, each in measured.items()}}
        row["ratio"], row["x"] = _shown(ratio(measured, "http", "json", "per_second"))
        made.rows.append(row)
    return made


def versions(ways: Mapping[str, object]) -> dict[str, str]:
    """Of what only the others' environment holds."""
    if not {"json", "prediction", "tf-serving"} & set(ways):
        return {}
    return ENVIRONMENTS["tensorflow-serving"].versions("tensorflow-serving-api", "grpcio", "protobuf", "orjson")


def flags(parser: argparse.ArgumentParser) -> None:
    ways = [way for way in WAYS if way not in ("limit", "tf-serving")]
    parser.add_argument("--model", nargs="*", choices=list(SHAPES), default=list(SHAPES))
    parser.add_argument("--only", nargs="*", choices=ways, default=ways, help="ways beside the limit")
    parser.add_argument("--rounds", type=int, help="of every model and number of callers")
    parser.add_argument("--seconds", type=float, help="of each way in a round")
    parser.add_argument("--tf-serving-url", metavar="HOST:PORT", default="", help="a TF-Serving's gRPC port")
    parser.add_argument("--models", metavar="FOLDER", default="", help="keep the models")


if __name__ == "__main__":
    answer(measure, __doc__, flags)
