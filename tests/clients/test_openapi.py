"""The protocol's own OpenAPI text, and the thousands of requests that schemathesis makes of it, good and bad.

The text is read from the package of MLServer, which ships it; nothing of it is kept here.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from benchmarks.harness.environment import Unavailable
from benchmarks.harness.environments import ENVIRONMENTS
from tests.clients.models import MODELS
from tests.clients.served import ARGUMENTS
from tests.serving import serving

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
CHECKS = (
    "not_a_server_error",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
)
# A shape whose data would be too large is refused with 413, which is not among what schemathesis takes for a refusal.
CONFIG = """
[checks.negative_data_rejection]
expected-statuses = ["400", "404", "405", "413", "415", "501"]
"""
# Calls that are Triton's alone, of which the server says 501.
NOT_SERVED = "infer_stream|/generate|/load|/unload"
EXAMPLES = "60"


def text_of(name: str) -> dict[str, Any]:
    environment = ENVIRONMENTS["mlserver"]
    try:
        python = environment.make()
    except Unavailable as why:
        pytest.skip(str(why))
    site = next((python.parent.parent / "lib").glob("python3*/site-packages"))
    text: dict[str, Any] = json.loads((site / "mlserver" / "rest" / "openapi" / f"{name}.json").read_text())
    return text


def of_our_models(text: dict[str, Any]) -> dict[str, Any]:
    """The same about what is served: else hardly a request would get past the name of its model."""
    schemas = text["components"]["schemas"]
    for path in text["paths"].values():
        for parameter in path.get("parameters", []):
            values = {"model_name": ["simple", "same_fp32", "same_bytes"], "model_version": ["1"]}
            parameter["schema"]["enum"] = values[parameter["name"]]
    names = sorted({name for served in MODELS.values() for name in served.inputs if "INPUT" in name or name == "X"})
    schemas["RequestInput"]["properties"]["name"]["enum"] = names
    schemas["RequestOutput"]["properties"]["name"]["enum"] = ["OUTPUT0", "OUTPUT1", "Y"]
    return text


def with_nulls(text: dict[str, Any]) -> dict[str, Any]:
    """The same, where null may stand for what may be left out: so it does here, in every document."""
    for schema in text["components"]["schemas"].values():
        for name, of_one in schema.get("properties", {}).items():
            if name not in schema.get("required", []) and "$ref" not in of_one:
                of_one["nullable"] = True
    return text


@pytest.mark.parametrize("name", ["dataplane", "dataplane-of-our-models", "model_repository"])
def test_nothing_is_found_that_contradicts_the_protocols_text(name: str, tmp_path: Path) -> None:
    text = with_nulls(text_of(name.partition("-")[0]))
    if "TensorData" in text["components"]["schemas"]:
        # Its second form, "bytes", is no type of JSON's.
        text["components"]["schemas"]["TensorData"] = {"type": "array"}
    if name.endswith("of-our-models"):
        text = of_our_models(text)
    path = tmp_path / "openapi.json"
    path.write_text(json.dumps(text))
    (tmp_path / "schemathesis.toml").write_text(CONFIG)
    try:
        program = ENVIRONMENTS["schemathesis"].make().with_name("schemathesis")
    except Unavailable as why:
        pytest.skip(str(why))
    with serving(*ARGUMENTS, tracebacks=True) as server:
        done = subprocess.run(
            [
                program, "run", path, "--url", server.url.rstrip("/"), "--checks", ",".join(CHECKS),
                "--exclude-path-regex", NOT_SERVED, "--max-examples", EXAMPLES, "--phases", "examples,coverage,fuzzing",
                "--continue-on-failure", "--no-color", "--seed", "18",
            ],
            cwd=tmp_path, capture_output=True, text=True, check=False,
        )  # fmt: skip
    assert done.returncode == 0, done.stdout[-20000:]
