"""A server as a model: a proxy that changes nothing, says who is gone, and finds him again."""

from __future__ import annotations

import threading
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

import graphpipe
from graphpipe.backends import LoadOptions, open_model
from graphpipe.errors import DeadlineExceeded, InvalidRequest, LoadError, ModelFailed, ServiceError, UpstreamFailed
from graphpipe.server.stages.rows import RowEvidence
from graphpipe.server.stages.stage import Request
from graphpipe.wire import encode_request
from tests import raw_http
from tests.front.servers import Function, in_process
from tests.serving import serving

X = np.arange(8, dtype=np.float32).reshape(2, 4)

CODE = """
import threading
import time
import numpy as np
import graphpipe
from graphpipe.errors import Overloaded

@graphpipe.model(inputs={"x": "float32[n, 4]"}, outputs={"y": "float32[n, 4]", "total": "float32[n]"})
def first(x, config):
    if config == "fail":
        raise RuntimeError("the secret cause")
    if config == "full":
        raise Overloaded("come back later")
    return x * (int(config) if config else 2), x.sum(axis=1)

@graphpipe.model(inputs={"x": "float32[n, 4]", "keep": "bool[n]"}, outputs={"kept": "bool[n]", "as_it_is": "any"})
def masked(x, keep):
    return keep, x

@graphpipe.model(inputs={"a": "float32[n]"}, outputs={"b": "float32[n]"})
def second(a):
    return a + 1

def left(x, timeout_s):
    return np.float64(timeout_s)

meeting = threading.Barrier(12)

def together(x):
    meeting.wait(60)
    return x

def slow(x):
    time.sleep(2)
    return x

@graphpipe.model(inputs={"x": "float32[n, 4]"}, outputs={"y": "float32[n, 4]", "rows": "int64[n]"})
def rows(x):
    time.sleep(0.01)
    return x * 2, np.full(len(x), len(x))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("upstream")
    (path / "upstream.py").write_text(CODE)
    return path


@pytest.fixture
def upstream(folder, serve):
    """Starts an upstream with some of the functions above: ``upstream("first")``."""
    return lambda *names, listen="127.0.0.1:0": serve(
        "--threads", "12",
        *(argument for name in names for argument in ("--model", f"upstream:{name}")),
        listen=listen, cwd=folder, tracebacks=True,
    )  # fmt: skip


@pytest.fixture(scope="module")
def direct_and_through(folder):
    """The URLs of an upstream, and of a proxy before it; nobody stops them."""
    arguments = [argument for name in ("first", "left", "slow") for argument in ("--model", f"upstream:{name}")]
    with (
        serving("--threads", "12", *arguments, cwd=folder, tracebacks=True) as first,
        serving(*(f"--model={first.url}/models/{name}" for name in ("first", "left", "slow"))) as proxy,
    ):
        yield first.url, proxy.url


def test_names_types_shapes_config_and_description_are_the_upstreams(direct_and_through):
    direct, proxy = direct_and_through
    meta = graphpipe.remote.metadata(proxy)
    upstreams = graphpipe.remote.metadata(direct)
    assert (meta.inputs, meta.outputs) == (upstreams.inputs, upstreams.outputs)
    assert [io.name for io in meta.inputs] == ["x"]
    assert [io.name for io in meta.outputs] == ["y", "total"]
    assert meta.inputs[0].shape == (-1, 4)
    with graphpipe.Client(proxy) as client:
        assert np.array_equal(client.infer({"x": X}, config="5")["y"], X * 5)
        assert list(client.infer({"x": X}, ["total"])) == ["total"]
        assert [a.shape for a in client.execute_multi([X], None, ["total", "y", "total"])] == [(2,), (2, 4), (2,)]
        assert [a.shape for a in client.execute_multi([X])] == [(2, 4), (2,)]


@pytest.mark.parametrize(
    ("call", "kind", "code", "status", "words"),
    [
        (lambda c: c.execute(X, config="fail"), ModelFailed, 4, 500, "failed on this input"),
        (lambda c: c.execute(X, config="full"), ServiceError, 6, 503, "come back later"),
        (lambda c: c.execute(X.astype(float)), InvalidRequest, 2, 400, "float64, but the model takes float32"),
        (lambda c: c.execute(X, "z"), InvalidRequest, 2, 400, "no input 'z'"),
        (lambda c: c.execute(X, None, "z"), InvalidRequest, 2, 400, "no output 'z'"),
    ],
)
def test_an_error_of_the_upstream_comes_through_as_it_is(direct_and_through, call, kind, code, status, words):
    said = []
    for url in direct_and_through:
        with graphpipe.Client(url) as client, pytest.raises(kind, match=words) as caught:
            call(client)
        assert (caught.value.code, caught.value.http_status) == (code, status)
        said.append(caught.value.message)
    assert said[0] == said[1]
    assert "secret" not in said[1]


def test_symbols_bool_and_any_rank_come_through_a_proxy(folder):
    with (
        serving("--model", "upstream:masked", cwd=folder) as first,
        serving("--model", first.url) as proxy,
    ):
        for url in (first.url, proxy.url):
            with graphpipe.load(url) as model:
                assert str(model.signature) == (
                    "(x float32 [n, 4], keep bool [n]) -> (kept bool [n], as_it_is unknown any shape)"
                )
                answer = model.infer({"x": X, "keep": np.array([True, False])})
                assert answer["kept"].dtype == bool
                assert answer["kept"].tolist() == [True, False]
                assert np.array_equal(answer["as_it_is"], X)


def test_what_the_upstream_declares_of_its_rows_need_not_be_found_out(direct_and_through):
    """Whose output has as many rows as the input has is declared by the same n."""
    with graphpipe.load(direct_and_through[0]) as model:
        evidence = RowEvidence(model.signature)
        assert evidence.holds(Request({"x": X}, ("y", "total"), ""))
    with graphpipe.load(f"{direct_and_through[0]}/models/left") as model:
        assert not RowEvidence(model.signature).holds(Request({"x": X}, ("output",), ""))


def test_an_upstream_that_is_gone_is_502_with_its_name_and_found_again(upstream, serve):
    first = upstream("first")
    proxy = serve("--model", first.url)
    with graphpipe.Client(proxy.url) as client:
        assert client.execute_multi([X])[1].tolist() == [6.0, 22.0]
        first.stop()
        for _ in range(2):
            with pytest.raises(UpstreamFailed, match=first.url) as caught:
                client.execute(X)
            assert (caught.value.code, caught.value.http_status) == (12, 502)
        upstream("first", listen=f"127.0.0.1:{first.port}")
        assert client.execute_multi([X])[1].tolist() == [6.0, 22.0]


def test_another_model_in_the_upstreams_place_is_noticed(upstream, serve):
    first = upstream("first")
    proxy = serve("--model", first.url)
    model = graphpipe.load(first.url)
    with graphpipe.Client(proxy.url) as client:
        client.infer({"x": X})
        first.stop()
        upstream("second", listen=f"127.0.0.1:{first.port}")
        a = np.ones(3, np.float32)
        with pytest.raises(InvalidRequest, match="the model's input is 'a'"):
            client.execute(a)  # by the name that the first input had; from here on the new ones are known
        assert client.execute(a, timeout=20).tolist() == [2.0] * 3
        assert client.infer({"a": a})["b"].tolist() == [2.0] * 3
        assert [io.name for io in client.metadata().inputs] == ["a"]
    assert model.infer({"a": a})["b"].tolist() == [2.0] * 3
    assert model.signature.output_names == ("b",)
    model.close()


def test_the_callers_deadline_is_the_upstreams(direct_and_through):
    with graphpipe.Client(f"{direct_and_through[1]}/models/left") as client:
        assert 0 < float(client.execute(X, timeout=7.0)) <= 7.0
        assert 7.0 < float(client.execute(X)) <= 60.0


def test_an_upstream_that_is_too_slow_for_the_caller_is_504(direct_and_through):
    direct, through = (f"{url}/models/slow" for url in direct_and_through)
    with graphpipe.load(direct) as model, pytest.raises(graphpipe.TimedOut):
        model.infer({"x": X}, timeout=0.2)
    request = urllib.request.Request(through, b"".join(encode_request([X])), {"GraphPipe-Timeout-Ms": "200"})
    with pytest.raises(urllib.error.HTTPError) as answer:
        urllib.request.urlopen(request, timeout=30)
    assert answer.value.code == 504
    answer.value.close()


def test_many_callers_wait_for_the_upstream_at_once(upstream, serve):
    proxy = serve("--model", upstream("together").url)
    done = []

    def call() -> None:
        done.append(graphpipe.remote.execute(proxy.url, X, timeout=100).shape)

    threads = [threading.Thread(target=call) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert done == [(2, 4)] * 12


def test_a_model_of_several_is_reached_by_its_path(upstream, serve):
    server = upstream("first", "second")
    with graphpipe.load(f"{server.url}/models/second") as model:
        assert model.signature.input_names == ("a",)
    proxy = serve("--model", f"{server.url}/models/second", "--model", f"{server.url}/models/first")
    assert graphpipe.remote.get_input_names(f"{proxy.url}/models/first") == ["x"]


def test_echo_behind_a_proxy_still_takes_anything(serve):
    proxy = serve("--model", serve("--model", "echo").url)
    with graphpipe.Client(proxy.url) as client:
        got = client.execute_multi([X, np.array([b"text", "\u00fc"], object)])
    assert np.array_equal(got[0], X)
    assert got[1].tolist() == [b"text", "\u00fc".encode()]


def test_a_unix_socket_is_an_upstream_too(tmp_path, serve):
    server = serve("--model", "echo", listen=f"unix:{tmp_path / 'a.sock'}")
    assert server.url.startswith("unix:")
    with graphpipe.load(server.url) as model:
        assert np.array_equal(model.infer({"x": X}, ["x"])["x"], X)


def test_cast_converts_to_what_the_upstream_takes(direct_and_through):
    with graphpipe.load(direct_and_through[0]) as model:
        assert np.array_equal(model.infer({"x": X.astype(float)}, cast=True)["y"], X * 2)


def test_with_batching_it_is_the_batcher_of_the_original(upstream, serve):
    proxy = serve("--model", upstream("rows").url, "--batch-rows-max", "8", "--batch-wait-ms", "200")
    answers: dict[int, list[np.ndarray]] = {}

    def call(i: int) -> None:
        answers[i] = graphpipe.Client(proxy.url).execute_multi([np.full((1, 4), i, np.float32)])

    threads = [threading.Thread(target=call, args=(i,)) for i in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(np.array_equal(answers[i][0], np.full((1, 4), 2 * i)) for i in range(16))
    assert max(int(answer[1][0]) for answer in answers.values()) > 1, "no two requests shared a call"


def test_an_upstream_that_is_not_there_is_refused_when_loading():
    with pytest.raises(LoadError, match=r"no connection to http://127.0.0.1:1"):
        graphpipe.load("http://127.0.0.1:1")


@pytest.mark.parametrize("url", ["http://", "remote:ftp://host", "unix:"])
def test_a_url_that_names_no_server_is_refused(url):
    with pytest.raises(LoadError, match="expected"):
        graphpipe.load(url)


@pytest.mark.parametrize("batched", [False, True])
def test_a_deadline_of_a_moment_through_a_proxy_is_504_and_nobodys_failure(
    batched: bool, caplog: pytest.LogCaptureFixture
) -> None:
    over = threading.Event()

    def slow(inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        over.wait(30)
        return {"y": inputs["x"]}

    body = b"".join(encode_request([np.zeros((1, 4), np.float32)]))
    settings = {"batch_rows_max": 4 if batched else 0}
    with in_process({"m": Function(slow)}) as upstream:
        model = open_model(upstream.url, LoadOptions())
        with in_process({"m": model}, threads=4, model_settings=settings) as proxy:
            for timeout_ms in [0, 1, 2, 3] * 5:
                answer = raw_http.call(proxy.url, "POST", "/", body, GraphPipe_Timeout_Ms=str(timeout_ms))
                assert answer.status == 504, answer.text
            over.set()
    assert "failed" not in caplog.text
    for left_s in (0.0, -0.001):
        with pytest.raises(DeadlineExceeded):
            model.infer({"x": np.zeros((1, 4), np.float32)}, ["y"], timeout_s=left_s)
