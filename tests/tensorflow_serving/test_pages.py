"""What there is: the documents that clients ask for before and beside inference, and who may see them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from graphpipe.backends.echo import Echo
from graphpipe.keyfile import digest_of, key_of, new_key, text_of
from graphpipe.signature import Signature, TensorSpec
from tests.front.servers import InProcess, Way, in_process
from tests.open_inference.oracle import post
from tests.raw_http import Answer, Wire, call
from tests.serving import run_to_end, serving


class Described(Echo):
    signature = Signature(
        (TensorSpec("image", np.dtype("f4"), ("n", 3, None)), TensorSpec("text:0", np.dtype(object), None)),
        (TensorSpec("score", np.dtype("f2"), ("n",)), TensorSpec("any")),
    )


@pytest.fixture(scope="module")
def server() -> Iterator[InProcess]:
    with in_process({"echo": Echo(), "described": Described()}) as running:
        yield running


def get(server: InProcess, path: str) -> Any:
    answer = call(server.url, "GET", path)
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    return json.loads(answer.body)


def test_models_are_listed(server: InProcess) -> None:
    assert get(server, "/v1/models") == get(server, "/v1/models/") == {"models": ["echo", "described"]}


def test_a_model_says_its_versions_and_that_it_is_ready(server: InProcess) -> None:
    said = get(server, "/v1/models/echo")
    assert said == get(server, "/v1/models/echo/versions/1")
    assert said == {
        "name": "echo",
        "ready": True,
        "model_version_status": [
            {"version": "1", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
        ],
    }


def test_a_model_says_what_it_takes_and_gives(server: InProcess) -> None:
    def tensor(dtype: str, name: str, *sizes: str) -> Any:
        dims = [{"size": size, "name": ""} for size in sizes]
        return {"dtype": dtype, "tensor_shape": {"dim": dims, "unknown_rank": not sizes}, "name": name}

    said = get(server, "/v1/models/described/metadata")
    assert said == get(server, "/v1/models/described/versions/1/metadata")
    assert said["model_spec"] == {"name": "described", "signature_name": "", "version": "1"}
    assert said["metadata"]["signature_def"] == {
        "signature_def": {
            "serving_default": {
                "inputs": {
                    "image": tensor("DT_FLOAT", "image:0", "-1", "3", "-1"),
                    "text:0": tensor("DT_STRING", "text:0"),
                },
                "outputs": {"score": tensor("DT_HALF", "score:0", "-1"), "any": tensor("DT_INVALID", "any:0")},
                "method_name": "tensorflow/serving/predict",
            }
        }
    }


@pytest.mark.parametrize(
    ("method", "path", "status", "words"),
    [
        ("GET", "/v1", 404, "/v1/models"),
        ("GET", "/v1/nothing", 404, "/v1/models"),
        ("GET", "/v1/chat/completions", 404, "/v1/models"),
        ("POST", "/v1/chat/completions", 404, "/v1/models"),
        ("GET", "/v1/models/nobody", 404, "no model 'nobody'"),
        ("GET", "/v1/models/nobody:predict", 405, "use POST"),
        ("GET", "/v1/models/nobody/metadata", 404, "no model 'nobody'"),
        ("POST", "/v1/models/nobody:predict", 404, "no model 'nobody'"),
        ("GET", "/v1/models/echo/versions/7", 404, "no version '7'"),
        ("POST", "/v1/models/echo/versions/7:predict", 404, "no version '7'"),
        ("GET", "/v1/models/echo/versions", 404, "/v1/models"),
        ("GET", "/v1/models/echo/labels/stable", 404, "label 'stable'"),
        ("POST", "/v1/models/echo/labels/stable:predict", 404, "label 'stable'"),
        ("GET", "/v1/models/echo/nothing", 404, "/v1/models"),
        ("POST", "/v1/models/echo/metadata:predict", 404, "/v1/models"),
        ("POST", "/v1/models/:predict", 404, "/v1/models"),
        ("POST", "/v1/models:predict", 404, "/v1/models"),
        ("POST", "/v1/models/echo:explain", 404, ":classify and :regress"),
        ("GET", "/v1/models/echo:explain", 404, "no model 'echo:explain'"),
        ("GET", "/v1/models/echo:predict", 405, "use POST"),
        ("POST", "/v1/models/echo", 405, "use GET"),
        ("POST", "/v1/models", 405, "use GET"),
        ("POST", "/v1/models/echo:classify", 400, "call :predict"),
        ("POST", "/v1/models/echo:regress", 400, "call :predict"),
    ],
)
def test_what_is_not_there_is_refused_in_the_protocol_s_form(
    server: InProcess, method: str, path: str, status: int, words: str
) -> None:
    answer = call(server.url, method, path, b"{}" if method == "POST" else None)
    assert answer.headers["content-type"] == "application/json"
    said = json.loads(answer.body)
    assert (set(said), answer.status) == ({"error"}, status)
    assert words in said["error"]


def test_escapes_in_a_path_are_read(server: InProcess) -> None:
    answer = call(server.url, "POST", "/v1/models/echo%3Apredict", b'{"instances": [1]}')
    assert json.loads(answer.body) == {"predictions": [1]}


SECRET = {name: new_key() for name in ("full", "infer", "metadata", "only-b")}


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcess]:
    scopes = {"full": ["infer", "metadata"], "only-b": ["infer", "metadata"]}
    lines = [
        text_of(
            key_of(
                name,
                digest_of(secret.encode()),
                scopes.get(name, [name]),
                **({"models": ["b"]} if name == "only-b" else {}),
            )
        )
        for name, secret in SECRET.items()
    ]
    path: Path = tmp_path_factory.mktemp("keys") / "keys"
    path.write_text("\n".join(lines) + "\n")
    with in_process({"a": Echo(), "b": Echo()}, api_key_file=str(path)) as running:
        yield running


def bearer(name: str) -> str:
    return f"Bearer {SECRET.get(name, 'wrong')}"


@pytest.mark.parametrize("way", ["hot", "odd", "HTTP/1.0", "chunked", "gzip"])
@pytest.mark.parametrize(
    ("name", "model", "status"),
    [
        ("full", "a", 200),
        ("infer", "b", 200),
        ("metadata", "a", 403),
        ("only-b", "b", 200),
        ("only-b", "a", 403),
        ("only-b", "nobody", 403),
        ("full", "nobody", 404),
        ("stranger", "a", 401),
        ("", "a", 401),
    ],
)
def test_inference_takes_a_key_for_it_and_for_the_model(
    locked: InProcess, way: str, name: str, model: str, status: int
) -> None:
    ways = {"hot": Way(locked), "odd": Way(locked), "HTTP/1.0": Way(locked)}
    fields = [f"Authorization: {bearer(name)}"] if name else []
    answer = post(ways, way, f"/v1/models/{model}:predict", b'{"instances": [1]}', None, *fields)
    assert answer.status == status
    assert status == 200 or set(json.loads(answer.body)) == {"error"}


def ask(server: InProcess, path: str, name: str) -> Answer:
    with Wire(server.url, 10) as wire:
        return wire.call("GET", path, None, **({"authorization": bearer(name)} if name else {}))


@pytest.mark.parametrize("path", ["/v1/models/b", "/v1/models/b/versions/1", "/v1/models/b/metadata"])
def test_documents_take_a_key_for_metadata(locked: InProcess, path: str) -> None:
    statuses = {"full": 200, "metadata": 200, "only-b": 200, "infer": 403, "stranger": 401, "": 401}
    assert {name: ask(locked, path, name).status for name in statuses} == statuses
    assert ask(locked, path.replace("/b", "/a"), "only-b").status == 403


@pytest.mark.parametrize("path", ["", "/labels/x", "/versions/7", "/metadata", "/nothing", ":predict"])
def test_a_model_that_is_not_a_key_s_and_one_that_is_not_there_look_alike(locked: InProcess, path: str) -> None:
    for name in ("only-b", ""):
        answers = [ask(locked, f"/v1/models/{model}{path}", name) for model in ("a", "x")]
        assert len({(each.status, each.body.replace(b"models/x", b"models/a")) for each in answers}) == 1
        assert answers[0].status in (401, 403, 404, 405)


def test_the_list_has_the_models_that_a_key_is_for(locked: InProcess) -> None:
    for name, models in (("full", ["a", "b"]), ("only-b", ["b"])):
        assert json.loads(ask(locked, "/v1/models", name).body) == {"models": models}
    assert ask(locked, "/v1/models", "infer").status == 403


WITHOUT = (
    "import sys; sys.modules['orjson'] = None; from graphpipe.server.cli import main; main(prog_name='graphpipe-serve')"
)


def test_where_the_library_is_missing_the_paths_say_so_and_the_rest_works() -> None:
    with serving(
        "--model", "echo", "--listen", "127.0.0.1:0", "--drain-grace-s", "0", code=WITHOUT, afresh=True
    ) as server:
        answer = call(server.url, "POST", "/v1/models/echo:predict", b"{}")
        assert answer.status == 501
        assert "pip install 'graphpipe-rpc[json]'" in answer.text
        assert call(server.url, "GET", "/readyz").status == 200


def test_who_asks_for_the_protocol_by_name_learns_at_the_start_that_its_library_is_missing() -> None:
    ended = run_to_end("--model", "echo", "--protocols", "tensorflow-serving", code=WITHOUT)
    assert ended.returncode != 0
    assert "pip install 'graphpipe-rpc[json]'" in ended.stderr


def test_where_the_protocol_is_not_spoken_its_paths_are_nobody_s() -> None:
    with in_process(protocols=("graphpipe", "open-inference")) as server:
        assert call(server.url, "POST", "/v1/models/echo:predict", b"{}").status == 404
