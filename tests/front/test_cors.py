"""What a page of another site is told by the server that it calls: enough for its browser, and for nobody else."""

from __future__ import annotations

import base64
import re
import shutil
import subprocess
import threading
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

import numpy as np
import pytest

from graphpipe.kinds import origins
from graphpipe.wire import encode_request
from tests.front.servers import in_process
from tests.raw_http import Answer, Wire

BODY = b"".join(encode_request([np.arange(6, dtype=np.float32)], ["x"]))
PAGE = "https://app.example"
EVERY_ROUTE = (
    "POST /",
    "POST /models/echo",
    "GET /",
    "GET /models",
    "GET /livez",
    "GET /metrics",
    "GET /nowhere",
    "PUT /",
)


def ask(url: str, what: str, *fields: str, body: bytes = b"") -> Answer:
    with Wire(url) as wire:
        if what.startswith("POST"):
            body = BODY
        lines = [f"{what} HTTP/1.1", "Host: h", f"Content-Length: {len(body)}", *fields, "", ""]
        wire.send("\r\n".join(lines).encode() + body)
        return wire.answer()


@pytest.mark.parametrize("what", EVERY_ROUTE)
def test_a_page_that_is_allowed_may_read_every_answer_and_another_may_not(what):
    with in_process(allow_origin=(PAGE, "http://localhost:3000")) as server:
        own = ask(server.url, what, f"Origin: {PAGE}")
        foreign = ask(server.url, what, "Origin: https://other.example")
        nobody = ask(server.url, what)
    assert own.headers["access-control-allow-origin"] == PAGE
    assert "X-Request-Id" in own.headers["access-control-expose-headers"]
    assert "access-control-allow-origin" not in foreign.headers
    assert "access-control-allow-origin" not in nobody.headers
    assert "Origin" in own.headers["vary"]
    assert "Origin" in foreign.headers["vary"]
    assert own.status == foreign.status == nobody.status
    if what != "GET /metrics":
        assert own.body == foreign.body == nobody.body


@pytest.mark.parametrize("what", EVERY_ROUTE)
def test_a_star_lets_every_page_read(what):
    with in_process(allow_origin=("*",)) as server:
        assert ask(server.url, what, "Origin: https://any.example").headers["access-control-allow-origin"] == "*"


@pytest.mark.parametrize("what", EVERY_ROUTE)
def test_without_the_flag_no_answer_speaks_of_pages(what):
    with in_process() as server:
        told = ask(server.url, what, f"Origin: {PAGE}").headers
    assert not [name for name in told if name.startswith("access-control") or name == "vary"]


def preflight(url: str, path: str, origin: str, *more: str) -> Answer:
    return ask(url, f"OPTIONS {path}", f"Origin: {origin}", "Access-Control-Request-Method: POST", *more)


@pytest.mark.parametrize("path", ["/", "/models/echo", "/v2/models/echo/infer", "/metrics"])
def test_a_browser_that_asks_first_is_told_what_it_may_send(path):
    with in_process(allow_origin=(PAGE,)) as server:
        names = "authorization, content-type, graphpipe-timeout-ms"
        told = preflight(server.url, path, PAGE, f"Access-Control-Request-Headers: {names}")
        foreign = preflight(server.url, path, "https://other.example")
    assert told.status == foreign.status == 204
    assert told.headers["vary"] == foreign.headers["vary"] == "Origin"
    assert told.headers["access-control-allow-origin"] == PAGE
    assert told.headers["access-control-allow-headers"] == names
    assert "POST" in told.headers["access-control-allow-methods"]
    assert int(told.headers["access-control-max-age"]) > 0
    assert not [name for name in foreign.headers if name.startswith("access-control")]


def test_a_browser_asks_without_a_key(tmp_path):
    (tmp_path / "keys").write_text("")
    with in_process(allow_origin=(PAGE,), api_key_file=str(tmp_path / "keys")) as server:
        assert preflight(server.url, "/", PAGE).headers["access-control-allow-origin"] == PAGE
        refused = ask(server.url, "POST /", f"Origin: {PAGE}")
    assert refused.status == 401
    assert refused.headers["access-control-allow-origin"] == PAGE  # or the page could not read why


def test_names_that_are_none_are_not_sent_back():
    with in_process(allow_origin=("*",)) as server:
        told = preflight(server.url, "/", PAGE, "Access-Control-Request-Headers: a\tb;c")
    assert "access-control-allow-headers" not in told.headers


def test_an_options_that_asks_no_such_thing_is_answered_as_ever():
    with in_process(allow_origin=("*",)) as server:
        assert "POST" in ask(server.url, "OPTIONS /", f"Origin: {PAGE}").headers["allow"]


@pytest.mark.parametrize(
    "text", ["app.example", "https://app.example/", "HTTPS://app.example", "https://a b", "https://", "**"]
)
def test_an_origin_that_no_browser_sends_is_refused_in_words(text):
    with pytest.raises(ValueError, match="https://HOST"):
        origins().read(text)


def test_origins_that_browsers_send_are_taken():
    given = "https://app.example,http://localhost:3000,http://[::1]:8080,null,*"
    assert ",".join(origins().read(given)) == given


# What a page does: asks with fields that make its browser ask first, reads the answer, and writes down what it saw.
SCRIPT = """<!doctype html><body>waiting<script>
const message = Uint8Array.from(atob('%s'), (letter) => letter.charCodeAt(0));
const ask = (url, fields) => fetch(url, {method: 'POST', body: message, headers: fields})
  .then((answer) => answer.arrayBuffer().then((bytes) => `${answer.status} ${bytes.byteLength}`), () => 'kept out')
  .catch(() => 'kept out');
Promise.all([ask('%s', {}), ask('%s', {'GraphPipe-Timeout-Ms': '9000', 'X-Request-Id': 'a'}), ask('%s', {})])
  .then((saw) => { document.body.textContent = `saw: ${saw.join(', ')}.`; });
</script></body>"""


@pytest.mark.skipif(shutil.which("chromium") is None, reason="no browser is installed: apt-get install chromium")
def test_a_real_browser_reads_the_answers_that_it_may_and_no_others(tmp_path):
    def page(environ: object, start: Any) -> list[bytes]:
        start("200 OK", [("Content-Type", "text/html")])
        return [text.encode()]

    class Silent(WSGIRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

    with make_server("127.0.0.1", 0, page, handler_class=Silent) as site:
        origin = f"http://127.0.0.1:{site.server_port}"
        with in_process(allow_origin=(origin,)) as ours, in_process(allow_origin=("https://other.example",)) as others:
            text = SCRIPT % (base64.b64encode(BODY).decode(), ours.url, ours.url, others.url)
            threading.Thread(target=site.serve_forever, daemon=True).start()
            browser = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}"]
            shown = subprocess.run(
                [*browser, "--virtual-time-budget=20000", "--dump-dom", origin],
                capture_output=True, text=True, timeout=100, check=True,
            ).stdout  # fmt: skip
            site.shutdown()
    found = re.search(r"saw: (\d+) (\d+), (\d+) (\d+), kept out\.", shown)
    assert found is not None, shown
    assert found[1] == found[3] == "200"
    assert int(found[2]) == int(found[4]) > len("output")
