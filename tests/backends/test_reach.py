"""A download goes where it was sent: not inwards by a stranger's redirect, not to another address than was looked at, and
not for ever."""

from __future__ import annotations

import socket
import time

import pytest

import graphpipe
from graphpipe.sources import pace
from graphpipe.sources.reach import kind_of_address
from graphpipe.sources.web import fetch
from tests.backends.test_download import CONTENT, broken_off, file, site, triples

__all__ = ["site"]


@pytest.fixture
def outside(site, monkeypatch):
    """The site as a proxy to the Internet: a URL whose host only the proxy knows is public."""
    monkeypatch.setenv("http_proxy", site.url)
    return "http://models.invalid/m.onnx"


def to(location: str, **more: object):
    return file(b"", status=302, Location=location, **more)


INSIDE = (
    "127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "2130706433", "0x7f.1", "127.1", "0", "127.0.0.%31",
    "169.254.169.254", "[fe80::1]", "10.0.0.1", "192.168.1.1", "172.16.0.1", "100.64.0.1", "[fd00:ec2::254]",
    "[64:ff9b::a9fe:a9fe]", "[2002:7f00:1::]",
)  # fmt: skip


@pytest.mark.parametrize("by_proxy", [True, False])
def test_a_redirect_from_outside_does_not_lead_inwards(outside, site, monkeypatch, by_proxy):
    monkeypatch.setenv("no_proxy", "" if by_proxy else ",".join(INSIDE).replace("[", "").replace("]", ""))
    for host in INSIDE:
        site.requests.clear()
        site.answers = [to(f"http://{host}:{site.server.server_address[1]}/secret.onnx"), file(CONTENT)]
        with pytest.raises(graphpipe.LoadError, match="redirects from a public address to a .*--download-private"):
            fetch(outside)
        assert len(site.requests) == 1


def test_whoever_says_so_follows_it(outside, site):
    site.answers = [to(f"{site.url}/m.onnx"), file(CONTENT)]
    assert triples(graphpipe.load(outside, download_private=True))


def test_from_one_address_inside_to_another_of_its_kind_is_followed_and_to_another_kind_is_not(site):
    site.answers = [to("/elsewhere/m.onnx"), file(CONTENT)]
    assert triples(graphpipe.load(f"{site.url}/m.onnx"))
    for inside, kind in (("10.0.0.1", "private"), ("169.254.169.254", "link-local")):
        site.answers = [to(f"http://{inside}/latest/meta-data/m.onnx", etag="")]
        with pytest.raises(graphpipe.LoadError, match=rf"from a loopback address to a {kind} one \({inside}\)"):
            fetch(f"{site.url}/other.onnx")


@pytest.mark.parametrize("first", ["127.0.0.1", "10.0.0.1"])
def test_the_address_that_was_looked_at_is_the_one_that_is_connected_to(site, monkeypatch, first):
    """A name that means one address when it is looked at, and another one when it is connected to."""
    port = site.server.server_address[1]
    real, asked = socket.getaddrinfo, []

    def resolver(host, *args, **more):
        if host != "rebinds.invalid":
            return real(host, *args, **more)
        asked.append(host)
        return real(first if len(asked) == 1 else "127.0.0.1", *args, **more)

    monkeypatch.setattr(socket, "getaddrinfo", resolver)
    site.answers = [to(f"http://rebinds.invalid:{port}/m.onnx"), file(CONTENT)]
    if first == "127.0.0.1":
        assert triples(graphpipe.load(f"{site.url}/m.onnx"))
    else:
        with pytest.raises(graphpipe.LoadError, match=r"a private one \(rebinds\.invalid, 10\.0\.0\.1\)"):
            graphpipe.load(f"{site.url}/m.onnx")
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        ("1.1.1.1", "public"), ("2606:4700::1111", "public"), ("127.8.8.8", "loopback"), ("::", "loopback"),
        ("0.0.0.0", "loopback"), ("10.1.2.3", "private"), ("fd12::1", "private"), ("fec0::1", "private"),
        ("100.127.255.255", "private"), ("169.254.169.254", "link-local"), ("fe80::1%eth0", "link-local"),
        ("224.0.0.1", "reserved"), ("ff02::1", "reserved"), ("255.255.255.255", "private"), ("::ffff:10.0.0.1", "private"),
        ("::7f00:1", "loopback"), ("2002:a00:1::", "private"), ("64:ff9b::7f00:1", "loopback"), ("64:ff9b:1::1", "private"),
        ("::ffff:1.1.1.1", "public"),
    ],
)  # fmt: skip
def test_an_address_is_known_for_what_it_is_however_it_is_written(address, kind):
    assert kind_of_address(address) == kind


@pytest.mark.parametrize("place", ["head", "body"])
def test_a_server_that_drips_is_let_go(site, monkeypatch, place):
    monkeypatch.setattr(pace, "_WINDOW_S", 0.2)

    def drips(request) -> None:
        if place == "body":
            request.send_response(200)
            request.send_header("ETag", '"1"')
            request.send_header("Content-Length", str(len(CONTENT)))
            request.end_headers()
        for byte in CONTENT if place == "body" else b"HTTP/1.1 200 OK\r\n" + b"x" * 100:
            try:
                request.wfile.write(bytes([byte]))
            except OSError:
                return
            time.sleep(0.05)

    site.answers = [drips]
    with pytest.raises(graphpipe.LoadError, match="less than 1024 bytes a second"):
        fetch(f"{site.url}/m.onnx")
    assert len(site.requests) == 5


def test_a_download_has_a_time_as_a_whole_and_goes_on_at_the_next_start(site, monkeypatch):
    def stops(request) -> None:
        broken_off(CONTENT, 50)(request)
        request.wfile.flush()
        time.sleep(1.5)

    site.answers = [stops, file(CONTENT)]
    with pytest.raises(graphpipe.LoadError, match="not whole in time .--download-timeout-s"):
        fetch(f"{site.url}/m.onnx", timeout_s=0.5)
    assert fetch(f"{site.url}/m.onnx").read_bytes() == CONTENT
    assert site.requests[1]["range"] == "bytes=50-"
