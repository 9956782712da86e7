"""What do encoding and decoding cost, beside copying the bytes once and beside the official FlatBuffers library?

    python benchmarks/codec.py [--rounds N] [--save]

Three requests: 1 KB of float32, 1,000 strings, and 77 MB (128 float32 images of 224x224x3). The columns are run in turn
in each round, so that a noisy machine is noisy for all; what counts are medians. `known` is a layout that was seen
before (graphpipe/wire/memory.py), `known, theirs` the same in a message of the official library, `strict` a layout that
was not. The official library writes with its Builder into a buffer of the right size and reads with the generated
classes, which check nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import flatbuffers  # noqa: E402
import numpy as np  # noqa: E402
from numpy.typing import NDArray  # noqa: E402

from graphpipe.wire import InferRequest, Type, decode_request, encode_infer_response, encode_request  # noqa: E402
from graphpipe.wire.dtypes import DTYPES  # noqa: E402
from graphpipe.wire.memory import LayoutMemory  # noqa: E402
from tests.generated import graphpipe_generated as fbs  # noqa: E402

Array = NDArray[Any]
Run = Callable[[], object]

COLUMNS = (
    "memcpy",
    "encode",
    "encode answer",
    "decode known",
    "decode known, theirs",
    "decode strict",
    "official encode",
    "official decode",
)
# Long enough to be timed, short enough that the machine's mood is the same for all in a round.
BATCH_S = 0.002


class NoMemory(LayoutMemory[Any]):
    """Knows nothing and keeps nothing, as if each message were the first of its layout."""

    def find(self, message: memoryview) -> None:
        return None

    def keep(self, *reading: object) -> bool:
        return False


def questions() -> dict[str, Array]:
    words = [f"some text of row {i}".encode() for i in range(1000)]
    strings = np.empty(len(words), object)
    strings[:] = words
    rng = np.random.default_rng(0)
    return {
        "1 KB": rng.random((1, 256), np.float32),
        "1,000 strings": strings,
        "77 MB": rng.random((128, 224, 224, 3), np.float32),
    }


def runs(array: Array) -> dict[str, Run]:
    """Everything to be timed for one tensor, by column."""
    message = memoryview(bytearray(b"".join(encode_request([array], ["x"], ["y"]))))
    theirs = official_encode(array, len(message))
    check(array, message, theirs)
    theirs_view = memoryview(theirs)
    warm = bytearray(len(message))
    known: LayoutMemory[Any] = LayoutMemory()
    strict = NoMemory()

    def copy() -> None:
        warm[:] = message

    return {
        "memcpy": copy,
        "encode": lambda: encode_request([array], ["x"], ["y"]),
        "encode answer": lambda: encode_infer_response([array]),
        "decode known": lambda: decode_request(message, known),
        "decode known, theirs": lambda: decode_request(theirs_view, known),
        "decode strict": lambda: decode_request(message, strict),
        "official encode": lambda: official_encode(array, len(message)),
        "official decode": lambda: official_decode(theirs),
    }


def check(array: Array, message: memoryview, theirs: bytearray) -> None:
    """Both libraries must say the same before their speed matters."""
    for buffer in (message, memoryview(theirs)):
        ours = decode_request(buffer)
        assert isinstance(ours, InferRequest)
        assert np.array_equal(ours.inputs[0], array)
        assert np.array_equal(official_decode(bytes(buffer)), array)


def official_encode(array: Array, size: int, names: tuple[str, ...] = ("x", "y")) -> bytearray:
    """A request with one tensor; ``names`` are those of the input and the output, or none."""
    builder = flatbuffers.Builder(size + 1024)
    inputs, outputs = (
        _offsets(builder, [builder.CreateString(name) for name in each]) for each in (names[:1], names[1:])
    )
    config = builder.CreateString("")
    is_string = array.dtype.kind == "O"
    if is_string:
        content = _offsets(builder, [builder.CreateString(item) for item in array.tolist()])
    else:
        content = builder.CreateNumpyVector(array.reshape(-1).view(np.uint8))
    fbs.TensorStartShapeVector(builder, array.ndim)
    for dim in reversed(array.shape):
        builder.PrependInt64(dim)
    shape = builder.EndVector()
    fbs.TensorStart(builder)
    fbs.TensorAddType(builder, int(Type.STRING if is_string else Type.FLOAT32))
    fbs.TensorAddShape(builder, shape)
    (fbs.TensorAddStringVal if is_string else fbs.TensorAddData)(builder, content)
    tensors = _offsets(builder, [fbs.TensorEnd(builder)])
    fbs.InferRequestStart(builder)
    fbs.InferRequestAddConfig(builder, config)
    fbs.InferRequestAddInputNames(builder, inputs)
    fbs.InferRequestAddInputTensors(builder, tensors)
    fbs.InferRequestAddOutputNames(builder, outputs)
    request = fbs.InferRequestEnd(builder)
    fbs.RequestStart(builder)
    fbs.RequestAddReqType(builder, fbs.Req.InferRequest)
    fbs.RequestAddReq(builder, request)
    builder.Finish(fbs.RequestEnd(builder))
    message: bytearray = builder.Output()
    return message


def _offsets(builder: Any, places: list[int]) -> int:
    builder.StartVector(4, len(places), 4)
    for place in reversed(places):
        builder.PrependUOffsetTRelative(place)
    return int(builder.EndVector())


def official_decode(message: bytes | bytearray) -> Array:
    member: Any = fbs.Request.GetRootAs(message).Req()
    request = fbs.InferRequest()
    request.Init(member.Bytes, member.Pos)
    request.Config()
    for name, count in ((request.InputNames, request.InputNamesLength()), (request.OutputNames, 1)):
        for i in range(count):
            name(i)
    tensor = request.InputTensors(0)
    shape = [tensor.Shape(i) for i in range(tensor.ShapeLength())]
    if tensor.Type() == Type.STRING:
        strings = np.empty(tensor.StringValLength(), object)
        strings[:] = [tensor.StringVal(i) for i in range(len(strings))]
        return strings.reshape(shape)
    array: Array = tensor.DataAsNumpy().view(DTYPES[tensor.Type()]).reshape(shape)
    return array


def timed(run: Run, times: int) -> float:
    began = time.perf_counter()
    for _ in range(times):
        run()
    return (time.perf_counter() - began) / times


def measure(array: Array, rounds: int) -> dict[str, float]:
    """Median seconds by column, and what a known layout of theirs costs beside one of ours, as the median of pairs."""
    plan = []
    for column, run in runs(array).items():
        timed(run, 3)
        plan.append((column, run, max(1, int(BATCH_S / timed(run, 3)))))
    samples: dict[str, list[float]] = {column: [] for column in COLUMNS}
    for _ in range(rounds):
        for column, run, times in plan:
            samples[column].append(timed(run, times))
    pairs = zip(samples["decode known, theirs"], samples["decode known"], strict=True)
    return {column: median(samples[column]) for column in COLUMNS} | {"theirs to ours": median(a / b for a, b in pairs)}


def shown(seconds: float) -> str:
    return f"{seconds * 1e6:,.1f} us" if seconds < 1e-3 else f"{seconds * 1e3:,.1f} ms"


def about() -> dict[str, str]:
    """Where and of what these figures are."""
    model = "unknown processor"
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else ():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return {
        "machine": f"{platform.machine()}, {model}",
        "python": platform.python_version(),
        "numpy": np.__version__,
        "flatbuffers": flatbuffers.__version__,
        "load_average": f"{os.getloadavg()[0]:.1f} on {os.cpu_count()} CPUs",
        "commit": commit.stdout.strip() or "unknown",
        "what": "median seconds",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Encoding and decoding, beside memcpy and the official library.")
    parser.add_argument("--rounds", type=int, default=25, help="default: 25")
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/codec.json")
    options = parser.parse_args()
    results = {name: measure(array, options.rounds) for name, array in questions().items()}
    print("| request | " + " | ".join(COLUMNS) + " |\n" + "|---" * (1 + len(COLUMNS)) + "|")
    for name, columns in results.items():
        print(f"| {name} | " + " | ".join(shown(columns[column]) for column in COLUMNS) + " |")
    for name in ("1 KB", "77 MB"):  # layouts of strings are not remembered
        columns = results[name]
        print(f"{name}: a known layout of theirs costs {columns['theirs to ours']:.2f}x one of ours")
    if options.save:
        target = ROOT / "benchmarks" / "results" / "codec.json"
        target.parent.mkdir(exist_ok=True)
        target.write_text(json.dumps({"about": about(), **results}, indent=2) + "\n")
        print(f"saved in {target.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
