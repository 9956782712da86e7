"""TLS handshakes that end in the middle, and ever new ones."""

from __future__ import annotations

import contextlib
import ssl
import time
from collections import Counter
from pathlib import Path

from benchmarks.attacking.attack import Saw, Scene, attack
from benchmarks.harness.innocent import Calls
from benchmarks.harness.strangers import all_at_once, closed_by_the_server, connect, crowd

__all__ = ["certificate", "silent"]

SILENT_S = 8.0
ANEW_S = 5.0


def certificate(folder: Path) -> tuple[str, ...]:
    """What serves TLS: a pair of its own in the folder."""
    import trustme

    path = folder / "server.pem"
    trustme.CA().issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(path))
    return ("--tls-cert", str(path))


def silent(scene: Scene, count: int, say: bytes = b"") -> Saw:
    """Connections that say this much, and nothing for a while."""
    with crowd(scene.port, count, say) as connections:
        time.sleep(SILENT_S)
        return {"connected": len(connections), "closed by the server": closed_by_the_server(connections)}


def _trusting() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def _hello() -> bytes:
    """How a handshake begins."""
    out = ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        _trusting().wrap_bio(ssl.MemoryBIO(), out, server_hostname="h").do_handshake()
    return out.read()


@attack(
    "silent TLS handshakes",
    "300 connections begin no handshake for 8 s; --head-timeout-s 2",
    "--model", "echo", "--head-timeout-s", 2,
    innocent=Calls(tls=True), prepare=certificate,
)  # fmt: skip
def not_begun(scene: Scene) -> Saw:
    return silent(scene, 300)


@attack(
    "half TLS handshakes",
    "300 connections begin a handshake, get the server's part of it, and say nothing more for 8 s; --head-timeout-s 2",
    "--model", "echo", "--head-timeout-s", 2,
    innocent=Calls(tls=True), prepare=certificate,
)  # fmt: skip
def half_done(scene: Scene) -> Saw:
    return silent(scene, 300, _hello())


@attack(
    "ever new TLS handshakes",
    "8 callers finish a handshake, say nothing and begin another on a new connection, for 5 s",
    "--model", "echo",
    innocent=Calls(tls=True), prepare=certificate,
)  # fmt: skip
def ever_new(scene: Scene) -> Saw:
    context = _trusting()

    def call(number: int) -> str:
        with connect(scene.port) as plain, context.wrap_socket(plain):
            return "handshakes"

    seen: Counter[str] = all_at_once(8, call, ANEW_S)
    return {f"{what}/s": count / ANEW_S for what, count in seen.items()}
