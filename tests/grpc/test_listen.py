"""--grpc-listen: an address for gRPC alone, of a server as operators start it."""

from __future__ import annotations

import re
import time
from pathlib import Path

import grpc
import pytest
import trustme

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
