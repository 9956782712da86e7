"""What comes back here comes back by itself: rings would wait for the garbage collector, which is off."""

from __future__ import annotations

import gc
import ssl
from collections.abc import Iterator
from typing import Any

import pytest
import trustme

from graphpipe.server.life.certificates import Certificates
from tests.front.servers import Way, in_process


@pytest.fixture(autouse=True)
def without_collector() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


@pytest.fixture(scope="module")
def ways(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Way]]:
    """Servers by each way in."""
    authority, trusting = trustme.CA(), ssl.create_default_context()
    authority.configure_trust(trusting)
    pem = tmp_path_factory.mktemp("tls") / "server.pem"
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(pem))
    context = Certificates(str(pem)).context
    settings: dict[str, Any] = {"body_bytes_max": 1 << 20, "enable_shutdown": True}
    path = tmp_path_factory.mktemp("ways") / "s"
    with (
        in_process(**settings) as tcp,
        in_process(listen=f"unix:{path}", **settings) as unix,
        in_process(tls=context, **settings) as tls,
    ):
        yield {
            "hot": Way(tcp),
            "odd": Way(tcp),
            "HTTP/1.0": Way(tcp),
            "unix": Way(unix),
            "passing": Way(unix, passing=True),
            "tls": Way(tls, trusting),
        }
