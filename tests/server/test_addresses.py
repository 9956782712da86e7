"""What may be said of where to listen, and what is said of it then."""

from __future__ import annotations

import socket

import numpy as np
import pytest

import graphpipe
from graphpipe.server.life.listener import bind, reach_of, url_of
from graphpipe.server.settings.configuration import configure
from tests.serving import run_to_end


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("0.0.0.0", "0.0.0.0:9000"),
        ("localhost", "localhost:9000"),
        ("[::1]", "[::1]:9000"),
        ("8080", "127.0.0.1:8080"),
        (":8080", ":8080"),
        ("0.0.0.0:1", "0.0.0.0:1"),
        ("unix:/tmp/s", "unix:/tmp/s"),
    ],
)
def test_an_address_without_a_port_has_the_usual_one_and_a_port_without_an_address_is_this_machines(text, address):
    assert configure({"listen": [text]}, {}).settings.listen == address


def test_only_the_servers_own_address_has_a_usual_port():
    assert configure({"metrics-listen": ["9001"]}, {}).settings.metrics_listen == "127.0.0.1:9001"
    done = run_to_end("-m", "echo", "-l", "127.0.0.1:0", "--metrics-listen", "0.0.0.0")
    assert "cannot listen on '0.0.0.0': expected HOST:PORT, [IPv6]:PORT or unix:PATH" in done.stderr


def test_a_port_alone_is_listened_on_from_python_and_a_colon_before_it_is_for_everybody():
    port = free_port()
    with graphpipe.serving("echo", port) as server:
        assert server.url == f"http://127.0.0.1:{port}"
    for listen in (":0", "0.0.0.0:0"):
        with graphpipe.serving("echo", listen) as server:
            assert server.url.startswith("http://0.0.0.0:")
            here = server.url.replace("0.0.0.0", "127.0.0.1")
            assert graphpipe.remote.execute(here, np.ones(1)).tolist() == [1]


def test_the_address_as_given_stays_in_what_is_printed(serve):
    server = serve("-m", "echo", listen=":0")
    assert server.url.startswith("http://0.0.0.0:")
    assert graphpipe.remote.execute(server.url, np.ones(1)).tolist() == [1]


@pytest.mark.parametrize(("listen", "is_open"), [("0.0.0.0:0", True), (":0", True), ("127.0.0.1:0", False)])
def test_who_may_call_is_said_of_an_address_that_is_all_of_a_machines(listen, is_open):
    with bind(listen) as listener:
        port = listener.getsockname()[1]
        assert url_of(listener).endswith(f":{port}")
        words = reach_of(listener)
        expected = (
            f"anybody who reaches this machine may call: 0.0.0.0 is all .*; --listen 127.0.0.1:{port} is for this"
        )
        assert (words == "") != is_open
        if is_open:
            import re

            assert re.match(expected, words)


def test_a_file_is_for_whoever_may_open_it(tmp_path):
    with bind(f"unix:{tmp_path}/s") as listener:
        assert reach_of(listener) == ""
