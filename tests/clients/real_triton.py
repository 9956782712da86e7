"""A real Triton Inference Server that serves models.py: out of the wheel of PyTriton, with its Python backend.

with triton(folder) as server:
    server.http, server.grpc        # HOST:PORT of each
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.harness.environments import ENVIRONMENTS
from tests.clients.models import MODELS, Served, Tensors

START_S_MAX = 90
MODEL = '''"""A function of models.py as Triton's Python backend calls it."""
import sys

sys.path[:0] = [{site!r}, {here!r}]  # Triton's interpreter does not read PYTHONPATH
import triton_python_backend_utils as backend
from models import MODELS

served = MODELS[{name!r}]


class TritonPythonModel:
    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        arrays = [backend.get_input_tensor_by_name(request, name).as_numpy() for name in served.inputs]
        try:
            outputs = served.function(*arrays)
        except Exception as error:
            return backend.InferenceResponse(error=backend.TritonError(str(error)))
        wanted = request.requested_output_names()
        return backend.InferenceResponse(
            [backend.Tensor(name, array) for name, array in zip(served.outputs, outputs) if name in wanted]
        )
'''


@dataclass(frozen=True)
class Triton:
    http: str
    grpc: str


@contextlib.contextmanager
def triton(folder: Path) -> Iterator[Triton]:
    """It runs until the block ends. Raises Unavailable where its environment cannot be made here."""
    python = ENVIRONMENTS["pytriton"].make()
    site = next((python.parent.parent / "lib").glob("python3*/site-packages"))
    program = site / "pytriton" / "tritonserver"
    write_repository(folder / "models", site)
    write_backend(folder / "backends" / "python", program)
    ports = [free_port(), free_port()]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [
                program / "bin" / "tritonserver",
                f"--model-repository={folder / 'models'}",
                f"--backend-directory={folder / 'backends'}",
                "--http-address=127.0.0.1", f"--http-port={ports[0]}",
                "--grpc-address=127.0.0.1", f"--grpc-port={ports[1]}",
                "--allow-metrics=false",
                "--disable-auto-complete-config",
            ],
            env={**os.environ, "LD_LIBRARY_PATH": f"{site}/nvidia_pytriton.libs"},
            stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip
    try:
        wait_until_ready(f"http://127.0.0.1:{ports[0]}/v2/health/ready", process, folder / "log")
        yield Triton(f"127.0.0.1:{ports[0]}", f"127.0.0.1:{ports[1]}")
    finally:
        process.terminate()  # killed, it would leave its regions of shared memory behind
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def write_repository(folder: Path, site: Path) -> None:
    here = str(Path(__file__).parent)
    for name, served in MODELS.items():
        (folder / name / "1").mkdir(parents=True)
        (folder / name / "config.pbtxt").write_text(config(name, served))
        (folder / name / "1" / "model.py").write_text(MODEL.format(site=str(site), here=here, name=name))


def config(name: str, served: Served) -> str:
    """Its first axis is written out, not a batch: so Triton takes any size, and none at all, as we do."""

    def tensors(field: str, tensors: Tensors) -> str:
        return "".join(
            f'{field} {{ name: "{each}" data_type: TYPE_{"STRING" if datatype == "BYTES" else datatype} '
            f"dims: [{', '.join(map(str, shape))}] }}\n"
            for each, (datatype, shape) in tensors.items()
        )

    instances = "instance_group { count: 1 kind: KIND_CPU }\n"
    return (
        f'name: "{name}"\nbackend: "python"\nmax_batch_size: 0\n{instances}'
        f"{tensors('input', served.inputs)}{tensors('output', served.outputs)}"
    )


def write_backend(folder: Path, program: Path) -> None:
    """The backend's library beside the helper that is built for this Python."""
    shutil.copytree(program / "backends" / "python", folder)
    shutil.copy(program / "python_backend_stubs" / "3.11" / "triton_python_backend_stub", folder)
    (folder / "triton_python_backend_stub").chmod(0o755)


def wait_until_ready(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_S_MAX
    while True:
        assert process.poll() is None, f"Triton ended with status {process.returncode}: {log.read_text()[-2000:]}"
        assert time.monotonic() < deadline, f"Triton is not ready within {START_S_MAX} s: {log.read_text()[-2000:]}"
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5) as answer:
            if answer.status == 200:
                return
        time.sleep(0.2)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])
