"""Whatever is refused counts as one of the protocol that was asked for, also before anybody knows more of it."""

from __future__ import annotations

import re
from pathlib import Path

import grpc
import pytest

from graphpipe.keyfile import digest_of, key_of, new_key, text_of
from tests.front.servers import InProcess, in_process
from tests.grpc.frames import HEADERS, head, peer
from tests.raw_http import Wire

KEY = new_key()
INFER = {"open_inference": "/v2/models/echo/infer", "tensorflow_serving": "/v1/models/echo:predict", "graphpipe": "/"}
# Of one and the same request: what keeps it from the hot route, or from its meaning.
FIELDS = {
    "hot": {},
    "odd": {"expect": "nothing"},
    "a page's": {"origin": "https://pages.example"},
}


def counted(server: InProcess, key: str = "") -> dict[tuple[str, str], float]:
    """What reached no model, by status and protocol."""
    with Wire(server.url) as wire:
        page = wire.call("GET", "/metrics", **({"authorization": f"Bearer {key}"} if key else {})).text
    found = re.findall(r'^graphpipe_requests_total\{code="(\w+)",model="",protocol="(\w+)"\} (\S+)$', page, re.M)
    return {(code, protocol): float(count) for code, protocol, count in found if float(count)}


@pytest.mark.parametrize("protocol", INFER)
@pytest.mark.parametrize("way", FIELDS)
def test_who_has_no_key_is_counted_where_he_knocked(tmp_path: Path, way: str, protocol: str):
    keys = tmp_path / "keys"
    keys.write_text(text_of(key_of("one", digest_of(KEY.encode()), ["metrics"])) + "\n")
    with in_process(api_key_file=str(keys), allow_origin=("https://pages.example",)) as server:
        with Wire(server.url) as wire:
            assert wire.call("POST", INFER[protocol], b"{}", **FIELDS[way]).status == 401
        assert counted(server, KEY) == {("401", protocol): 1}


@pytest.mark.parametrize("protocol", ["open_inference", "tensorflow_serving"])
def test_a_path_that_is_nobodys_and_a_method_that_it_has_not_are_counted_where_they_were_asked_for(protocol: str):
    first = INFER[protocol][:3]
    with in_process() as server, Wire(server.url) as wire:
        assert wire.call("PUT", f"{first}/nothing/at/all", b"").status == 404
        assert wire.call("PUT", INFER[protocol], b"").status == 405
        assert counted(server) == {("404", protocol): 1, ("405", protocol): 1}


@pytest.mark.parametrize("protocol", INFER)
@pytest.mark.parametrize(
    ("status", "fields"),
    [("431", f"X: {'x' * 70_000}"), ("400", "X: \0"), ("400", "Content-Length: one"), ("505", None)],
)
def test_a_head_that_is_refused_is_counted_by_its_first_line(protocol: str, status: str, fields: str | None):
    version, lines = ("1.1", f"{fields}\r\n") if fields else ("2.0", "")
    with in_process() as server:
        with Wire(server.url) as wire:
            wire.send(f"POST {INFER[protocol]} HTTP/{version}\r\nHost: h\r\n{lines}\r\n".encode())
            assert str(wire.answer().status) == status
        assert counted(server) == {(status, protocol): 1}


def test_what_http2_brings_for_nobody_is_counted_apart():
    with in_process() as server:
        target = server.url.removeprefix("http://").rstrip("/")
        with grpc.insecure_channel(target) as channel, pytest.raises(grpc.RpcError) as refused:
            channel.unary_unary("/some.Service/Method")(b"", timeout=20)
        assert refused.value.code() == grpc.StatusCode.UNIMPLEMENTED
        with peer(server) as it:
            it.send(head(1, fields=((":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "h"))))
            it.until(HEADERS, 1)
        assert counted(server) == {("501", "grpc"): 1, ("415", "grpc"): 1}
