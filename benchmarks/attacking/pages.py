"""What an attack reads on the server's own pages."""

from __future__ import annotations

import re

from benchmarks.attacking.attack import Scene
from benchmarks.harness.strangers import connect

__all__ = ["count_of", "page"]


def page(scene: Scene, path: str) -> str:
    """A page of the server's, on a connection of its own."""
    connection = connect(scene.port)
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n".encode())
    with connection.makefile("rb") as file:
        return file.read().partition(b"\r\n\r\n")[2].decode()


def count_of(scene: Scene, name: str, **labels: str) -> float:
    """The sum of a metric's rows that have these labels."""
    total = 0.0
    for line in page(scene, "/metrics").splitlines():
        found = re.fullmatch(rf"{name}\{{(.*)\}} (\S+)", line)
        if found and all(f'{key}="{value}"' in found[1] for key, value in labels.items()):
            total += float(found[2])
    return total
