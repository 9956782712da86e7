"""Arguments of another kind than meant are refused in a sentence, before anything is sent."""

from __future__ import annotations

import asyncio
from collections import UserDict
from datetime import timedelta
from decimal import Decimal
from types import MappingProxyType

import numpy as np
import pytest

import graphpipe
from graphpipe import remote
from graphpipe.errors import InvalidRequest
from tests import onnx_graphs
from tests.canned import canned
from tests.serving import serving

A = np.array([[1, 2, 3]], np.float32)
B = 10 * A
BOTH = {"a": A, "b": B}


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    with serving("-m", onnx_graphs.pair_sum(tmp_path_factory.mktemp("models") / "pair.onnx")) as server:
        yield server.url


@pytest.fixture(scope="module")
def silent():
    """A server that nothing ought to reach."""
    with canned() as server:
        yield server
        assert server.requests == 0


def blocking(url, call, *args, **kwargs):
    with graphpipe.Client(url) as client:
        return getattr(client, call)(*args, **kwargs)


def awaited(url, call, *args, **kwargs):
    async def run():
        async with graphpipe.AsyncClient(url) as client:
            return await getattr(client, call)(*args, **kwargs)

    return asyncio.run(run())


def at_once(url, call, *args, **kwargs):
    return getattr(remote, call)(url, *args, **kwargs)


EVERYWHERE = [
    ("execute", ([A, B], ["a", "b"]), r"input_name is one name; a list came: several inputs go with execute_multi\("),
    ("execute", (A, b"a"), "input_name is one name; b'a' came"),
    ("execute", (A, "a", 3), "output_name is a name, or a list of names; 3 came"),
    ("execute", (A, "a", {"sum": 1}), "output_name is a name, or a list of names; a dict came"),
    ("execute", (A, "a", ["sum", 1]), "output_name is a list of names, which are text; 1 came at place 1"),
    ("execute", (A, 3), "input_name is one name; 3 came"),
    ("execute", ({"a": A},), r"execute takes one array; inputs by name go with infer\({...}\)"),
    ("execute", (MappingProxyType(BOTH),), r"execute takes one array; inputs by name go with infer"),
    ("execute_multi", (BOTH,), "inputs is a list of tensors, one for each input; a dict came.*infer"),
    ("execute_multi", (np.stack([A, B]),), r"a single one came \(ndarray\): put it into a list"),
    ("execute_multi", ("text",), r"a single one came \(str\): put it into a list"),
    ("execute_multi", (None,), "inputs is a list of tensors, one for each input; None came"),
    ("execute_multi", (3.5,), "inputs is a list of tensors, one for each input; 3.5 came"),
    ("execute_multi", ({1, 2},), "a set came"),
    ("execute_multi", ([A, B], "ab"), r"input_names is a list of names; a single string came: \['ab'\]"),
    ("execute_multi", ([A, B], [b"a", b"b"]), "input_names is a list of names, which are text; b'a' came at place 0"),
    ("execute_multi", ([A, B], b"ab"), "input_names is a list of names; b'ab' came"),
    ("execute_multi", ([A, B], {"a": 0, "b": 1}), "input_names is a list of names; a dict came"),
    ("execute_multi", ([A, B], {"a", "b"}), "input_names is a list of names; a set came, which has no order"),
    ("execute_multi", ([A, B], ["a", 2]), "which are text; 2 came at place 1"),
    ("execute_multi", ([A, B], 2), "input_names is a list of names; 2 came"),
    ("execute_multi", ([A, B], None, "sum"), r"output_names is a list of names; a single string came: \['sum'\]"),
    ("execute_multi", ([A, B], None, [["sum"]]), "output_names is a list of names, which are text; a list came"),
    ("execute", (A,), "cast is True or False; 'float32' came", {"cast": "float32"}),
    ("execute", (A,), r"config is a text, which the model gets as it is; a dict came: json.dumps", {"config": {"k": 1}}),
    ("execute", (A,), "config is a text, which the model gets as it is; b'k' came", {"config": b"k"}),
    ("execute_multi", ([A],), "config is a text, which the model gets as it is; 3 came", {"config": 3}),
]  # fmt: skip
OF_INFER = [
    (([A, B],), "inputs is a dict of tensors by the names of the inputs; a list came"),
    ((A,), "inputs is a dict of tensors by the names of the inputs; a ndarray came"),
    ((None,), "inputs is a dict of tensors by the names of the inputs; None came"),
    (([("a", A), ("b", B)],), "inputs is a dict of tensors by the names of the inputs; a list came"),
    (({b"a": A},), "names are text; b'a' came as one"),
    (({0: A},), "names are text; 0 came as one"),
    (({None: A},), "names are text; None came as one"),
    ((BOTH, "sum"), r"outputs is a list of names; a single string came: \['sum'\]"),
    ((BOTH, b"sum"), "outputs is a list of names; b'sum' came"),
    ((BOTH, {"sum": None}), "outputs is a list of names; a dict came"),
    ((BOTH, [None]), "outputs is a list of names, which are text; None came at place 0"),
    ((BOTH, 1), "outputs is a list of names; 1 came"),
]
BAD_TIMEOUTS = [
    ((3, 10), "a positive number of seconds; a tuple came: it is one number, for the call as a whole"),
    ("10", "a positive number of seconds; '10' came"),
    (timedelta(seconds=3), r"a positive number of seconds; a timedelta came: take its total_seconds\(\)"),
    (Decimal(3), "a positive number of seconds; a Decimal came"),
    (True, "a positive number of seconds; True came"),
    (0, "a positive number of seconds; 0 came"),
    (-1.5, "a positive number of seconds; -1.5 came"),
    (float("nan"), "a positive number of seconds; nan came"),
    (np.array([1.0, 2.0]), "a positive number of seconds; a ndarray came"),
]


@pytest.mark.parametrize("how", [at_once, blocking, awaited])
@pytest.mark.parametrize("case", EVERYWHERE, ids=lambda case: case[2])
def test_what_is_not_what_was_meant_is_refused_before_it_is_sent(silent, how, case):
    call, arguments, words, more = (*case, {})[:4]
    with pytest.raises(InvalidRequest, match=words):
        how(silent.url, call, *arguments, **more)


def in_process(url, call, *args, **kwargs):
    with graphpipe.load("echo") as model:
        return model.infer(*args, **kwargs)


@pytest.mark.parametrize("how", [blocking, awaited, in_process])
@pytest.mark.parametrize(("arguments", "words"), OF_INFER, ids=str)
def test_infer_takes_tensors_by_name_and_a_list_of_names(silent, how, arguments, words):
    with pytest.raises(InvalidRequest, match=words):
        how(silent.url, "infer", *arguments)


def test_a_model_in_the_process_refuses_the_same(silent):
    with pytest.raises(InvalidRequest, match="config is a text"):
        in_process("", "infer", BOTH, config={"k": 1})
    with pytest.raises(InvalidRequest, match="cast is True or False"):
        in_process("", "infer", BOTH, cast="float32")
    with (
        graphpipe.load("echo") as model,
        pytest.raises(InvalidRequest, match="execute takes one array; inputs by name"),
    ):
        model.execute(BOTH)
    with pytest.raises(ValueError, match="timeout is a positive number of seconds; a tuple came"):
        in_process("", "infer", BOTH, timeout=(3, 10))


@pytest.mark.parametrize(("timeout", "words"), BAD_TIMEOUTS, ids=str)
def test_a_timeout_is_one_number(silent, timeout, words):
    for how in (at_once, blocking, awaited):
        with pytest.raises(ValueError, match=words):
            how(silent.url, "execute", A, timeout=timeout)
    for kind in (graphpipe.Client, graphpipe.AsyncClient):
        with pytest.raises(ValueError, match=words):
            kind(silent.url, timeout)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        (None, "a server's URL is a text; None came; expected http://HOST:PORT"),
        (b"http://h", "a server's URL is a text; b'http://h' came"),
        (["http://h"], "a server's URL is a text; a list came"),
        (9000, "a server's URL is a text; 9000 came"),
        ("", "'' is not a server's URL"),
        ("localhost:9000", "'localhost:9000' is not .* http://HOST:PORT.*; did you mean 'http://localhost:9000'"),
        ("10.0.0.1:9000/models/x", "did you mean 'http://10.0.0.1:9000/models/x'"),
        ("ftp://h/m", "expected http://HOST:PORT, https://HOST or unix:/path/to.sock"),
        ("grpc://h:1", "is not a server's URL"),
        (" http://h:1", "has white space around it"),
        ("http://h:1 ", "has white space around it"),
        ("http://h:1\n", "has white space around it"),
        ("http://h\r\nX: y:1", "a control character in it"),
        ("http://h h:1", "is not a server's URL"),
        ("http://h: 1", "is not a server's URL"),
        ("http://h:port", "is not a server's URL: Port could not be cast"),
        ("http://h:99999", "is not a server's URL: Port out of range"),
        ("http://[::1", "is not a server's URL: Invalid IPv6 URL"),
        ("unix:", "names no socket"),
    ],
)
def test_a_url_that_is_none_is_refused_in_words(url, words):
    for call in (graphpipe.Client, graphpipe.AsyncClient, remote.metadata, remote.get_input_names):
        with pytest.raises(ValueError, match=words):
            call(url)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"answer_bytes_max": "1GB"}, "answer_bytes_max is a whole number of at least 1; '1GB' came"),
        ({"answer_bytes_max": 0}, "answer_bytes_max is a whole number of at least 1; 0 came"),
        ({"connections_max": "4"}, "connections_max is a whole number of at least 1; '4' came"),
        ({"connections_max": 0}, "connections_max is a whole number of at least 1; 0 came"),
        ({"connections_max": True}, "connections_max is a whole number"),
        ({"tls": True}, "tls is an ssl.SSLContext"),
        ({"tls": "ca.pem"}, "tls is an ssl.SSLContext.*; 'ca.pem' came"),
        ({"progress": True}, "progress is a function; True came"),
    ],
    ids=str,
)
def test_a_clients_options_are_looked_at_when_it_is_made(options, words):
    kinds = [graphpipe.AsyncClient]
    if not {"connections_max", "progress"} & options.keys():
        kinds.append(graphpipe.Client)
    for kind in kinds:
        with pytest.raises((ValueError, TypeError), match=words):
            kind("http://h", **options)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: graphpipe.load("echo", inputs=5), r"load\(\): inputs: expected names, separated by commas; 5 came"),
        (lambda: graphpipe.load("echo", outputs=[1]), "outputs: expected names, separated by commas; a list came"),
        (lambda: graphpipe.load("echo", intra_threads="many"), "intra_threads: expected a whole number from 0 to 1024"),
        (lambda: graphpipe.load("echo", bfloat16="maybe"), "bfloat16: expected true or false; 'maybe' came"),
        (lambda: graphpipe.load("echo", device=0), r"load\(\): device: expected text; 0 came"),
        (lambda: graphpipe.load("echo", provider="cpu"), "no setting 'provider'; did you mean 'providers'?"),
        (lambda: graphpipe.serve("echo", threads=[1]), r"serve\(\): threads: expected a whole number .*; a list came"),
        (lambda: graphpipe.serve("echo", listen=9.5), r"serve\(\): listen: expected HOST:PORT, .* or a port; 9.5 came"),
        (
            lambda: graphpipe.serve("echo", -1),
            r"serve\(\): listen: expected a port from 0 to 65535, or HOST:PORT; -1 came",
        ),
        (lambda: graphpipe.serving("echo", True), r"serving\(\): listen: expected HOST:PORT, .*; True came"),
        (lambda: graphpipe.serve("echo", cast="maybe"), r"serve\(\): cast: expected true or false; 'maybe' came"),
    ],
)
def test_load_and_serve_say_what_they_expect(call, words):
    with pytest.raises(TypeError, match=words):
        call()


def test_whatever_is_a_list_or_a_dict_will_do(pair):
    with graphpipe.Client(pair) as client:
        for names in (("a", "b"), np.array(["a", "b"]), BOTH.keys(), iter(["a", "b"]), [np.str_("a"), None]):
            assert client.execute_multi([A, B], names)[0].tolist() == [[11, 22, 33]]
        assert client.execute_multi((A, B), ["b", "a"], ("twice",))[0].tolist() == [[20, 40, 60]]
        assert client.execute_multi(iter([A, B]))[0].tolist() == [[11, 22, 33]]
        for inputs in (UserDict(BOTH), MappingProxyType(BOTH)):
            assert client.infer(inputs, iter(["sum"]))["sum"].tolist() == [[11, 22, 33]]
        for timeout in (5, np.float32(5), np.int64(5), float("inf"), 10**400):
            assert client.execute_multi([A, B], timeout=timeout)
        assert client.execute_multi([A, B], config=None, cast=np.True_)
    assert awaited(pair, "execute_multi", iter([A, B]))[0].tolist() == [[11, 22, 33]]
    assert awaited(pair, "infer", UserDict(BOTH))["sum"].tolist() == [[11, 22, 33]]
