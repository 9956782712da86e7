"""``--value-inputs``: at a path or a URL, in this process or another, and never against what the file says itself."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

import graphpipe
from graphpipe.errors import LoadError
from tests import onnx_graphs

GOOD = {"b": [1, [1, 3]], "a": [1, [1, 3]]}


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    return onnx_graphs.pair_sum(tmp_path_factory.mktemp("models") / "pair.onnx")


@pytest.fixture
def site(monkeypatch, tmp_path):
    """A web server with some files; gives the URL in front of their names."""
    files = {"good.json": json.dumps(GOOD), "bad.json": '{"c": [1, [1, 3]]}', "large.json": "[" + " " * (1 << 20) + "]"}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = files.get(self.path[1:].partition("?")[0], "").encode()
            self.send_response(200 if content else 404)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *args: object) -> None:
            pass

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_they_may_be_at_a_url_as_in_the_originals_documentation(site, pair):
    with graphpipe.load(pair, value_inputs=f"{site}/good.json?key=1") as model:
        assert str(model.signature).startswith("(a float32 [1, 3], b float32 [1, 3])")
    # A worker is a process of its own, and has them too.
    with graphpipe.serving(pair, process=True, value_inputs=f"{site}/good.json") as server:
        assert graphpipe.remote.get_input_names(server.url) == ["b", "a"]
        twice = graphpipe.remote.execute_multi(server.url, [np.ones((1, 3), np.float32)] * 2)[1]
        assert twice.tolist() == [[2, 2, 2]]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("none.json", "--value-inputs: http://.*/none.json: the server answered 404"),
        ("large.json", r"at most 1.0 MB are taken \(what names inputs is small\)"),
        ("bad.json?key=secret", "/bad.json: .*pair.onnx has no input 'c'; it has 'a', 'b'"),
    ],
)
def test_what_cannot_be_had_at_a_url_is_said_in_a_line(site, pair, name, words):
    with pytest.raises(LoadError, match=words) as refused:
        graphpipe.load(pair, value_inputs=f"{site}/{name}")
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"aa": [1, [1, 3]]}, r"has no input 'aa'; did you mean 'a'\?"),
        ({"a": [10, [1, 3]]}, r"it says a int64 \[1, 3\], but .*pair.onnx has a float32 \["),
        ({"a": [1, [1, 4]]}, r"it says a float32 \[1, 4\], but .*pair.onnx has a float32 \["),
        ({"a": [1, [3]]}, r"it says a float32 \[3\], but .*pair.onnx has a float32 \["),
    ],
)
def test_what_contradicts_the_file_is_refused_in_words(tmp_path, pair, said, words):
    path = tmp_path / "value_inputs.json"
    path.write_text(json.dumps(said))
    with pytest.raises(LoadError, match=words):
        graphpipe.load(pair, value_inputs=path)


def test_models_that_know_their_inputs_refuse_them(tmp_path):
    for model in ("echo", lambda x: x):
        with pytest.raises(LoadError, match=r"--value-inputs does nothing .* it is for onnx models"):
            graphpipe.load(model, value_inputs="value_inputs.json")


@pytest.mark.parametrize(
    ("said", "words"),
    [("{}", "said.json: it names no input; expected "), ('{"a": [1, [1e999]]}', "said.json: expected {.input.: ")],
)
def test_a_file_that_says_nothing_or_no_size_is_to_blame_itself(tmp_path, pair, said, words):
    (tmp_path / "said.json").write_text(said)
    with pytest.raises(LoadError, match=words):
        graphpipe.load(pair, value_inputs=str(tmp_path / "said.json"))
