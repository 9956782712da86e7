"""Keys say who may infer, who may ask what there is, and of which models."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from graphpipe.backends.echo import Echo
from graphpipe.keyfile import digest_of, key_of, new_key, text_of
from tests.front.servers import InProcess, Way, in_process
from tests.open_inference.oracle import Tensor, post, request
from tests.raw_http import Answer, Wire

SECRET = {name: new_key() for name in ("full", "infer", "metadata", "metrics", "only-b")}
BODY, LENGTH = request([Tensor("x", "FP32", (2,), (1.0, 2.0))], {"x"})


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcess]:
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
    return f"Authorization: Bearer {SECRET.get(name, 'wrong')}"


def get(server: InProcess, path: str, name: str = "", method: str = "GET") -> Answer:
    with Wire(server.url, 10) as wire:
        fields: dict[str, Any] = {"authorization": bearer(name).split(": ")[1]} if name else {}
        return wire.call(method, path, b"" if method == "POST" else None, **fields)


@pytest.mark.parametrize("way", ["hot", "odd", "HTTP/1.0", "chunked", "gzip"])
@pytest.mark.parametrize(
    ("name", "model", "status"),
    [
        ("full", "a", 200),
        ("infer", "b", 200),
        ("metadata", "a", 403),
        ("metrics", "a", 403),
        ("only-b", "b", 200),
        ("only-b", "a", 403),
        ("only-b", "nobody", 403),
        ("full", "nobody", 404),
        ("stranger", "a", 401),
        ("", "a", 401),
    ],
)
def test_inference_takes_a_key_for_it_and_for_the_model(
    server: InProcess, way: str, name: str, model: str, status: int
) -> None:
    answer = post(
        {"hot": Way(server), "odd": Way(server), "HTTP/1.0": Way(server)},
        way,
        f"/v2/models/{model}/infer",
        BODY,
        LENGTH,
        *([bearer(name)] if name else []),
    )
    assert answer.status == status
    assert status == 200 or set(json.loads(answer.body)) == {"error"}


def test_a_head_that_cannot_be_does_not_tell_whether_a_model_is_there(server: InProcess) -> None:
    said = []
    for model in ("a", "nobody"):
        with Wire(server.url, 10) as wire:
            fields = {"authorization": bearer("only-b").split(": ")[1], "inference_header_content_length": "x"}
            answer = wire.call("POST", f"/v2/models/{model}/infer", b"{}", **fields)
        said.append((answer.status, answer.body))
    assert said[0] == said[1]


@pytest.mark.parametrize(
    ("path", "statuses"),
    [
        ("/v2", {"full": 200, "metadata": 200, "infer": 403, "only-b": 200, "": 401, "stranger": 401}),
        ("/v2/models/a", {"full": 200, "metadata": 200, "infer": 403, "only-b": 403, "": 401}),
        ("/v2/models/b/ready", {"full": 200, "metadata": 200, "infer": 403, "only-b": 200, "": 401}),
        ("/v2/models/nobody", {"full": 404, "only-b": 403, "metrics": 403, "": 401}),
        ("/v2/models/a/stats", {"metadata": 200, "infer": 403, "only-b": 403, "": 401}),
        ("/v2/health/live", {"": 200, "infer": 200, "stranger": 200}),
        ("/v2/health/ready", {"": 200, "infer": 200, "stranger": 200}),
    ],
)
def test_documents_take_a_key_for_metadata_and_health_takes_none(
    server: InProcess, path: str, statuses: dict[str, int]
) -> None:
    assert {name: get(server, path, name).status for name in statuses} == statuses


def test_lists_have_the_models_that_a_key_is_for(server: InProcess) -> None:
    for name, models in (("full", ["a", "b"]), ("metadata", ["a", "b"]), ("only-b", ["b"])):
        index = json.loads(get(server, "/v2/repository/index", name, "POST").body)
        stats = json.loads(get(server, "/v2/models/stats", name).body)["model_stats"]
        assert [each["name"] for each in index] == [each["name"] for each in stats] == models
    assert get(server, "/v2/repository/index", "infer", "POST").status == 403


@pytest.mark.parametrize("name", ["only-b", "metrics"])
@pytest.mark.parametrize(
    "path",
    [
        "/v2/models/{}",
        *(f"/v2/models/{{}}/{rest}" for rest in ("infer", "ready", "stats", "config", "generate", "versions/1/infer")),
        *(
            f"/v1/models/{{}}{rest}"
            for rest in ("", "/metadata", ":predict", "/versions/1:predict", "/labels/x", ":no")
        ),
    ],
)
def test_nothing_that_is_wrong_with_a_question_tells_whether_a_model_is_there_that_a_key_may_not_use(
    server: InProcess, name: str, path: str
) -> None:
    for method, fields in (
        ("GET", {}),
        ("POST", {}),
        ("PUT", {}),
        ("POST", {"inference_header_content_length": "x"}),
        ("POST", {"graphpipe_timeout_ms": "x"}),
        ("POST", {"content_encoding": "x"}),
    ):
        said = []
        for model in ("a", "n"):  # one that there is, and one that there is not
            with Wire(server.url, 10) as wire:
                body = None if method == "GET" else b"{}"
                answer = wire.call(method, path.format(model), body, authorization=bearer(name)[15:], **fields)
            said.append((answer.status, answer.text.replace(f"/{model}", "/M").replace(f"'{model}'", "'M'")))
        assert said[0] == said[1]
        assert said[0][0] in (403, 404, 405, 400, 501)
