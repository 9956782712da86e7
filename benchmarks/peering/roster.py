"""Who is measured beside us: how each is started, and in which form, at which path and by which client it is asked."""

from __future__ import annotations

import importlib.util
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.harness.about import ROOT
from benchmarks.harness.environment import Environment, Unavailable
from benchmarks.harness.environments import ENVIRONMENTS
from benchmarks.harness.forms import BASE64, BYTES, GRAPHPIPE, JSON, OIP_BINARY, OIP_JSON, Form
from benchmarks.harness.household import Household
from benchmarks.peering.models import CALLS_AT_ONCE, SHAPES

__all__ = ["OURS", "PEERS", "Peer", "Started"]

HERE = Path(__file__).resolve().parent


@dataclass
class Started:
    """What a command is made with: the interpreter of its environment, a folder of its own, and the models'."""

    python: Path
    folder: Path
    models: Path
    port: int
    paths: list[Path] = field(default_factory=list)  # more of PYTHONPATH

    def tool(self, name: str) -> str:
        """A program of the environment."""
        return str(self.python.parent / name)

    def script(self, name: str) -> list[str]:
        return [str(self.python), str(HERE / name)]


@dataclass(frozen=True)
class Peer:
    """A server. ``path`` has the model's name at ``{}``; ``caller`` is the kind of callers.py, ``client`` what that uses."""

    name: str
    package: str
    form: Form
    path: str
    command: Callable[[Started], Sequence[str]]
    caller: str
    client: str
    environment: str = ""
    is_everywhere: bool = False  # it listens on every interface
    runs: str = "2 threads"
    patience_s: float = 60  # until it answers
    note: str = ""  # what has to be known of its row

    def made(self) -> Environment:
        """Its environment; that of ours has what we need, to be weighed, and runs nothing."""
        return ENVIRONMENTS[self.environment or self.package]

    def interpreter(self) -> Path:
        """Raises Unavailable."""
        return Path(sys.executable) if self is OURS else self.made().make()

    def start(self, models: Path, folder: Path) -> tuple[Household, int]:
        """Its processes, and the port that it will listen on. Raises Unavailable if it cannot even be started."""
        started = Started(self.interpreter(), folder, models, _free_port(), [ROOT if self is OURS else HERE])
        command = self.command(started)
        inherited = {
            key: value for key, value in os.environ.items() if not key.startswith(("GP_", "GRAPHPIPE_", "PYTHON"))
        }
        environment = {
            **inherited,
            "MODELS": str(models),
            "PYTHONPATH": os.pathsep.join(map(str, started.paths)),
            "PATH": f"{started.python.parent}{os.pathsep}{os.environ['PATH']}",
            "HOME": str(folder),  # what they keep of their users goes with the folder
            "TMPDIR": str(folder),
            # Nobody is told that they were measured, or asked for news.
            "BENTOML_DO_NOT_TRACK": "True",
            "RAY_USAGE_STATS_ENABLED": "0",
            "DO_NOT_TRACK": "1",
        }
        return Household(command, folder, environment), started.port


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def _graphpipe(started: Started) -> list[str]:
    code = "from graphpipe.server.start import serve_main; serve_main()"
    models = [flag for name in SHAPES for flag in ("--model", f"{name}={started.models / name}.onnx")]
    return [
        str(started.python), "-c", code, *models, "--threads", str(CALLS_AT_ONCE), "--listen", f"127.0.0.1:{started.port}"
    ]  # fmt: skip


def _aiohttp(started: Started) -> list[str]:
    return [*started.script("aiohttp_server.py"), str(started.port)]


def _mosec(started: Started) -> list[str]:
    flags = ["--address", "127.0.0.1", "--timeout", "600000", "--log-level", "warning"]
    return [*started.script("mosec_server.py"), "--port", str(started.port), *flags, "--max-request-size", str(1 << 30)]


def _fastapi(started: Started) -> list[str]:
    return [started.tool("uvicorn"), "fastapi_server:app", "--port", str(started.port), "--no-access-log"]


def _torchserve(started: Started) -> list[str]:
    # It does not start without torch, which runs nothing here: the one of this environment will do, a second is gigabytes.
    if (torch := importlib.util.find_spec("torch")) is None or torch.origin is None:
        raise Unavailable("it needs torch beside us: `pip install torch`")
    started.paths.append(Path(torch.origin).parents[1])
    store = started.folder / "store"
    store.mkdir()
    for name in SHAPES:
        _run(
            started.tool("torch-model-archiver"), "--model-name", name, "--version", "1", "--export-path", str(store),
            "--handler", str(HERE / "torchserve_handler.py"), "--extra-files", str(HERE / "models.py"),
        )  # fmt: skip
    config = started.folder / "config.properties"
    config.write_text(
        f"inference_address=http://127.0.0.1:{started.port}\n"
        f"management_address=http://127.0.0.1:{_free_port()}\n"
        f"metrics_address=http://127.0.0.1:{_free_port()}\n"
        f"grpc_inference_port={_free_port()}\n"
        f"grpc_management_port={_free_port()}\n"
        f"default_workers_per_model={CALLS_AT_ONCE}\n"
        "max_request_size=200000000\n"
        "max_response_size=200000000\n"
        "disable_system_metrics=true\n"
    )
    models = [f"{name}={name}.mar" for name in SHAPES]
    return [
        started.tool("torchserve"), "--start", "--foreground", "--ncs", "--model-store", str(store), "--models", *models,
        "--ts-config", str(config), "--disable-token-auth",
    ]  # fmt: skip


def _litserve(started: Started) -> list[str]:
    return [*started.script("litserve_server.py"), str(started.port)]


def _pytriton(started: Started) -> list[str]:
    return [*started.script("pytriton_server.py"), str(started.port), str(_free_port())]


def _bentoml(started: Started) -> list[str]:
    return [
        started.tool("bentoml"), "serve", "bentoml_server:Rows", "--port", str(started.port), "--host", "127.0.0.1",
        "--working-dir", str(HERE),
    ]  # fmt: skip


def _ray(started: Started) -> list[str]:
    return [*started.script("ray_server.py"), str(started.port), str(started.folder)]


def _mlserver(started: Started) -> list[str]:
    served = started.folder / "served"
    settings = {
        "host": "127.0.0.1",
        "http_port": started.port,
        "grpc_port": _free_port(),
        "metrics_port": _free_port(),
        "parallel_workers": 0,
        "debug": False,
        "grpc_max_message_length": 1 << 30,
    }
    served.mkdir()
    (served / "settings.json").write_text(json.dumps(settings))
    for name in SHAPES:
        (served / name).mkdir()
        model = {"name": name, "implementation": "mlserver_runtime.Rows"}
        (served / name / "model-settings.json").write_text(json.dumps(model))
    return [started.tool("mlserver"), "start", str(served)]


def _kserve(started: Started) -> list[str]:
    return [*started.script("kserve_server.py"), str(started.port)]


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Unavailable(f"`{Path(command[0]).name}` failed: {done.stderr.strip()[-300:]}")


OURS = Peer("GraphPipe", "graphpipe", GRAPHPIPE, "/models/{}", _graphpipe, "graphpipe", "graphpipe.Client")
PEERS: dict[str, Peer] = {
    peer.name: peer
    for peer in (
        Peer("aiohttp", "aiohttp", BYTES, "/{}", _aiohttp, "aiohttp", "aiohttp"),
        Peer("mosec", "mosec", BYTES, "/{}", _mosec, "httpx_bytes", "httpx", runs="2 processes"),
        Peer("fastapi", "fastapi", BYTES, "/{}", _fastapi, "httpx_bytes", "httpx"),
        Peer("fastapi-json", "fastapi", JSON, "/json/{}", _fastapi, "httpx_json", "httpx, orjson"),
        Peer(
            "torchserve", "torchserve", BYTES, "/predictions/{}", _torchserve, "torchserve", "requests",
            runs="2 processes", note="torchserve's megabytes are without torch, which it does not start without.",
        ),
        Peer("litserve", "litserve", BASE64, "/{}", _litserve, "litserve", "requests", runs="2 processes"),
        Peer(
            "pytriton", "nvidia-pytriton", OIP_BINARY, "/v2/models/{}/infer", _pytriton, "pytriton",
            "pytriton.client.ModelClient", environment="pytriton",
        ),
        Peer("bentoml", "bentoml", JSON, "/{}", _bentoml, "bentoml", "bentoml.SyncHTTPClient", runs="2 processes"),
        Peer(
            "ray", "ray", BYTES, "/{}", _ray, "requests_bytes", "requests", runs="2 processes", is_everywhere=True,
            patience_s=100,
        ),
        Peer(
            "mlserver", "mlserver", OIP_JSON, "/v2/models/{}/infer", _mlserver, "mlserver", "requests, mlserver.codecs",
            note="mlserver runs without its pool of processes, whose workers do not start under the uvloop it installs.",
        ),
        Peer(
            "kserve", "kserve", OIP_BINARY, "/v2/models/{}/infer", _kserve, "kserve", "kserve.InferenceRESTClient",
            is_everywhere=True, note="kserve is its Python server alone, without the cluster around it.",
        ),
    )
}  # fmt: skip
