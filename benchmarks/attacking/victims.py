"""Who is attacked beside servers: a process that loads models, and clients."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

from benchmarks.attacking.told import telling
from benchmarks.harness.process import Running
from benchmarks.harness.tree import ROOT, Tree

__all__ = ["CLIENTS", "loader"]

HARNESS = ROOT / "benchmarks" / "harness"


@contextlib.contextmanager
def loader(tree: Tree, folder: Path) -> Iterator[Running]:
    """Loads the paths and URLs that it is told."""
    environment = {**tree.environment(), "XDG_CACHE_HOME": str(folder / "cache"), "CUDA_VISIBLE_DEVICES": ""}
    with telling([tree.python, str(HARNESS / "served" / "loads.py")], folder, environment) as process:
        yield process


@contextlib.contextmanager
def python_client(tree: Tree, folder: Path) -> Iterator[Running]:
    """Calls what it is told with the Python client."""
    with telling([tree.python, str(HARNESS / "served" / "calls.py")], folder, tree.environment()) as process:
        yield process


@contextlib.contextmanager
def go_client(tree: Tree, folder: Path) -> Iterator[Running]:
    """The same with the Go client of this checkout."""
    binary = folder / "gocalls"
    subprocess.run(["go", "build", "-o", str(binary), "."], cwd=HARNESS / "gocalls", check=True)
    with telling([str(binary)], folder) as process:
        yield process


@contextlib.contextmanager
def java_client(tree: Tree, folder: Path) -> Iterator[Running]:
    """The same with the Java client of this checkout."""
    sources = list((ROOT / "clients/java/client/src/main/java").rglob("*.java"))
    classes = folder / "classes"
    subprocess.run(["javac", "-nowarn", "-d", str(classes), *map(str, sources)], check=True)
    subprocess.run(
        ["javac", "-nowarn", "-cp", str(classes), "-d", str(classes), str(HARNESS / "javacalls/Calls.java")], check=True
    )
    with telling(["java", "-Xmx256m", "-cp", str(classes), "Calls"], folder) as process:
        yield process


# By language: who calls, and the program that builds it, where one has to be built.
CLIENTS = {"Python": (python_client, ""), "Go": (go_client, "go"), "Java": (java_client, "javac")}
