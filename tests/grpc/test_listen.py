"""--grpc-listen: an address for gRPC alone, of a server as operators start it."""

from __future__ import annotations

import os
import re
import signal
import socket
import ssl
import time
from pathlib import Path

import grpc
import pytest
import trustme

from tests.certificates import Files, of, trusting
from tests.grpc.frames import PREFACE, SETTINGS
from tests.operation.conftest import until
from tests.serving import Server, run_to_end, serving

METHOD = "/inference.GRPCInferenceService/ServerLive"


def _is_live(target: str, credentials: grpc.ChannelCredentials | None = None) -> bool:
    channel = grpc.insecure_channel(target) if credentials is None else grpc.secure_channel(target, credentials)
    with channel:
        return bool(channel.unary_unary(METHOD)(b"", timeout=20, wait_for_ready=True) == b"\x08\x01")


def _address(server: Server) -> str:
    """Where gRPC is spoken alone, as the log has it, soon after the server's own URL."""
    until = time.monotonic() + 20
    while (said := re.search(r"gRPC alone at https?://(\S+?),", server.log)) is None:
        assert time.monotonic() < until, server.log
        time.sleep(0.01)
    return said[1]


@pytest.mark.parametrize("workers", [(), ("--workers", "2")])
def test_grpc_has_an_address_of_its_own_and_is_spoken_at_the_other_too(workers: tuple[str, ...]):
    with serving("--model", "echo", "--grpc-listen", "127.0.0.1:0", *workers) as server:
        for target in (_address(server), f"127.0.0.1:{server.port}"):
            for _ in range(4):
                assert _is_live(target)


def test_a_unix_socket_may_be_for_grpc_and_goes_with_the_server(tmp_path: Path):
    path = tmp_path / "g"
    with serving("--model", "echo", "--grpc-listen", f"unix:{path}"):
        assert _is_live(f"unix:{path}")
    assert not path.exists()


def test_tls_is_spoken_at_both(tmp_path: Path):
    authority = trustme.CA()
    pair, root = tmp_path / "pair.pem", tmp_path / "root.pem"
    authority.issue_cert("127.0.0.1", "localhost").private_key_and_cert_chain_pem.write_to_path(pair)
    authority.cert_pem.write_to_path(root)
    trusting = grpc.ssl_channel_credentials(root.read_bytes())
    with serving("--model", "echo", "--grpc-listen", "127.0.0.1:0", "--tls-cert", pair) as server:
        for target in (_address(server), f"127.0.0.1:{server.port}"):
            assert _is_live(target, trusting)


def test_an_address_for_what_is_not_spoken_is_an_error_at_the_start():
    done = run_to_end("--model", "echo", "--protocols", "graphpipe", "--grpc-listen", "127.0.0.1:0")
    assert done.returncode != 0
    assert "--grpc-listen" in done.stderr


def _agreed(target: str, tls: ssl.SSLContext) -> tuple[str | None, bytes]:
    """What a new connection speaks by ALPN, and the certificate that it sees."""
    host, port = target.rsplit(":", 1)
    with socket.create_connection((host, int(port)), 20) as plain, tls.wrap_socket(plain, server_hostname=host) as it:
        it.sendall(PREFACE)
        assert it.recv(9)[3] == SETTINGS  # which is HTTP/2's first word
        return it.selected_alpn_protocol(), it.getpeercert(binary_form=True) or b""


@pytest.mark.parametrize("workers", [(), ("--workers", "2")])
def test_who_speaks_http1_too_gets_http2_at_the_address_for_grpc_alone_also_after_certificates_are_replaced(
    tmp_path: Path, workers: tuple[str, ...]
):
    """Clients over Go's net/http, and proxies in front, offer both: h2 is what that address can serve."""
    authority, strangers = trustme.CA(), trustme.CA()
    files, first = Files(tmp_path / "tls"), authority.issue_cert("127.0.0.1")
    files.rename(first)
    callers = tmp_path / "callers.pem"
    authority.cert_pem.write_to_path(callers)
    both = trusting(authority, authority.issue_cert("caller"))
    both.set_alpn_protocols(["h2", "http/1.1"])
    flags = ("--grpc-listen", "127.0.0.1:0", *files.flags, "--tls-client-ca", callers, *workers)
    with serving("--model", "echo", *flags) as server:
        target = _address(server)
        assert _agreed(target, both) == ("h2", of(first))
        for reload in (False, True):
            leaf = authority.issue_cert("127.0.0.1")
            files.rename(leaf)
            if reload:
                server.process.send_signal(signal.SIGHUP)
            until(lambda leaf=leaf: all(_agreed(target, both) == ("h2", of(leaf)) for _ in range(8)))
        trusted = b"".join(pem.bytes() for pem in (authority.cert_pem, strangers.cert_pem))
        other = trusting(authority, strangers.issue_cert("other"))
        other.set_alpn_protocols(["h2", "http/1.1"])
        with pytest.raises((OSError, IndexError)):  # he is told by an alert, or cut
            _agreed(target, other)
        callers.write_bytes(trusted)
        until(lambda: all(_is_let_in(target, other) for _ in range(8)))


def _is_let_in(target: str, tls: ssl.SSLContext) -> bool:
    try:
        return _agreed(target, tls)[0] == "h2"
    except (OSError, IndexError):
        return False


def test_a_pipe_has_a_certificate_once_and_that_is_said_where_it_is_needed_twice(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe")
    done = run_to_end("--model", "echo", "--tls-cert", tmp_path / "pipe", "--grpc-listen", "127.0.0.1:0")
    assert done.returncode != 0
    assert "a pipe can be read once" in done.stderr
