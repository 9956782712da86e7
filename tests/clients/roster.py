"""The programs of programs/, each with the environment that it runs in; run, and what they said."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.harness.environments import ENVIRONMENTS

PROGRAMS = Path(__file__).with_name("programs")
Line = dict[str, Any]


@dataclass(frozen=True)
class Program:
    """``speaks`` is how: "http" or "grpc", whose errors differ, or "tf": TF-Serving's messages over gRPC."""

    name: str
    environment: str
    file: str
    arguments: tuple[str, ...] = ()
    speaks: str = "http"

    def run(self, address: str, after_each: Callable[[Line], None] | None = None) -> list[Line]:
        """What it said of a server at HOST:PORT. ``after_each`` is called before the next question, if there is one.

        Raises Unavailable where its environment cannot be made here.
        """
        python = ENVIRONMENTS[self.environment].make()
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "GRAPHPIPE_"))}
        if after_each is not None:
            environment["GRAPHPIPE_STEP"] = "1"
        lines = []
        with subprocess.Popen(
            [str(python), str(PROGRAMS / self.file), address, *self.arguments],
            env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        ) as process:  # fmt: skip
            assert process.stdin is not None
            assert process.stdout is not None
            for text in process.stdout:
                lines.append(json.loads(text))
                if after_each is not None:
                    after_each(lines[-1])
                    process.stdin.write("\n")
                    process.stdin.flush()
        assert process.returncode == 0, f"{self.name} ended with status {process.returncode} after {lines[-1:]}"
        return lines


ROSTER = (
    Program("tritonclient.http", "tritonclient", "triton_http.py"),
    Program("tritonclient.http.aio", "tritonclient", "triton_http.py", ("aio",)),
    Program("tritonclient.grpc", "tritonclient", "triton_grpc.py", speaks="grpc"),
    Program("tritonclient.grpc.aio", "tritonclient", "triton_grpc.py", ("aio",), speaks="grpc"),
    Program("kserve-rest", "kserve", "kserve_sdk.py", ("rest",)),
    Program("kserve-grpc", "kserve", "kserve_sdk.py", ("grpc",), speaks="grpc"),
    Program("tensorflow-serving-api", "tensorflow-serving", "predict_api.py", speaks="tf"),
)
