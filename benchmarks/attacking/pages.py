"""What an attack reads on the server's own pages."""

from __future__ import annotations

from benchmarks.attacking.attack import Scene
from benchmarks.harness.strangers import connect

__all__ = ["page"]


def page(scene: Scene, path: str) -> str:
    """A page of the server's, on a connection of its own."""
    connection = connect(scene.port)
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n".encode())
    with connection.makefile("rb") as file:
        return file.read().partition(b"\r\n\r\n")[2].decode()
