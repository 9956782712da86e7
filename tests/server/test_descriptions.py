"""What a server says about itself: metadata as JSON, the list of models, the control paths."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import graphpipe
from graphpipe.wire import decode_metadata_response
from tests import onnx_graphs
from tests.raw_http import Wire, call
from tests.serving import Server, serving

SAMPLE = Path(__file__).resolve().parents[3] / "shared" / "golden" / "go_get_echo.resp.bin"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("models")
    with serving("-m", onnx_graphs.pair_sum(folder / "pair.onnx"), "-m", "other=echo") as server:
        yield server


def test_get_describes_the_model_in_the_originals_words_and_layout(server: Server) -> None:
    answer = call(server.url, "GET")
    version = graphpipe.remote.metadata(server.url).version
    assert (answer.status, answer.headers["content-type"].partition(";")[0]) == (200, "application/json")
    assert (
        answer.text
        == f"""\
{{
    "Name": "pair",
    "Version": "{version}",
    "Server": "graphpipe/{graphpipe.__version__}",
    "Description": "",
    "Inputs": [
        {{
            "Name": "a",
            "Description": "float32[n, 3]",
            "Shape": [
                -1,
                3
            ],
            "Type": 10
        }},
        {{
            "Name": "b",
            "Description": "float32[n, 3]",
            "Shape": [
                -1,
                3
            ],
            "Type": 10
        }}
    ],
    "Outputs": [
        {{
            "Name": "sum",
            "Description": "float32[n, 3]",
            "Shape": [
                -1,
                3
            ],
            "Type": 10
        }},
        {{
            "Name": "twice",
            "Description": "float32[n, 3]",
            "Shape": [
                -1,
                3
            ],
            "Type": 10
        }}
    ]
}}"""
    )


@pytest.mark.skipif(not SAMPLE.exists(), reason="the captured samples are not here")
def test_get_has_the_keys_of_the_original_server_in_its_order(server: Server) -> None:
    theirs, ours = json.loads(SAMPLE.read_text()), json.loads(call(server.url, "GET").text)
    assert list(ours) == list(theirs)
    assert list(ours["Inputs"][0]) == list(theirs["Inputs"][0])
    assert json.dumps(theirs, indent=4) == SAMPLE.read_text()


@pytest.mark.parametrize(("path", "name"), [("/", "pair"), ("/models/pair", "pair"), ("/models/other", "other")])
def test_every_model_has_its_path_and_the_first_one_has_the_root_too(server: Server, path: str, name: str) -> None:
    assert json.loads(call(server.url, "GET", path).text)["Name"] == name
    message = graphpipe.remote.metadata(server.url + path)
    assert message.name == name


def test_models_lists_them_in_order(server: Server) -> None:
    answer = call(server.url, "GET", "/models")
    assert [model["Name"] for model in json.loads(answer.text)] == ["pair", "other"]
    assert json.loads(answer.text)[0] == json.loads(call(server.url, "GET").text)


def test_metadata_as_a_message_says_the_same_as_json(server: Server) -> None:
    from graphpipe.wire.messages import encode_metadata_request

    answer = call(server.url, "POST", "/", encode_metadata_request())
    assert answer.headers["content-type"] == "application/octet-stream"
    message, words = decode_metadata_response(answer.body), json.loads(call(server.url, "GET").text)
    assert [io.name for io in message.inputs] == [io["Name"] for io in words["Inputs"]]
    assert [list(io.shape) for io in message.outputs] == [io["Shape"] for io in words["Outputs"]]
    assert (message.name, message.version, message.server) == (words["Name"], words["Version"], words["Server"])


@pytest.mark.parametrize("path", ["/control/is_ready", "/control/is_alive", "/readyz", "/livez"])
def test_a_server_that_listens_is_ready_and_alive(server: Server, path: str) -> None:
    answer = call(server.url, "GET", path)
    assert (answer.status, answer.text) == (200, "ok\n")


def test_client_count_counts_open_connections(server: Server) -> None:
    with Wire(server.url) as asking, Wire(server.url) as other:
        other.call("GET")
        before = int(asking.call("GET", "/control/client_count").text)
        with Wire(server.url) as third:
            third.call("GET")
            assert asking.call("GET", "/control/client_count").text == f"{before + 1}\n"
        until = time.monotonic() + 10
        while int(asking.call("GET", "/control/client_count").text) != before:
            assert time.monotonic() < until, "the closed connection is still counted"


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_shutdown_is_off_unless_enabled(server: Server, method: str) -> None:
    answer = call(server.url, method, "/control/shutdown")
    assert answer.status == 404
    assert "--enable-shutdown" in answer.text
    assert call(server.url, "GET", "/control/is_ready").status == 200


def test_shutdown_once_enabled_ends_the_server_with_status_0_and_by_post_alone(serve) -> None:
    server = serve("-m", "echo", "--enable-shutdown")
    for method in ("GET", "HEAD", "PUT"):
        answer = call(server.url, method, "/control/shutdown")
        assert (answer.status, answer.headers["allow"]) == (405, "OPTIONS, POST")
    assert call(server.url, "POST", "/control/shutdown").text == "ok\n"
    assert server.process.wait(timeout=30) == 0


@pytest.mark.parametrize("path", ["/", "/models", "/control/is_ready", "/livez", "/metrics"])
def test_head_says_what_get_would_without_a_body(server: Server, path: str) -> None:
    with Wire(server.url) as wire:
        answer = wire.call("HEAD", path)
        assert answer.status == 200
        whole = wire.call("GET", path)  # nothing was left in between
        assert whole.status == 200
        if path != "/metrics":  # which changes by itself
            assert answer.headers["content-length"] == str(len(whole.body))
