"""Who may know whom: imports go one way, types and imports inside functions included, and in no circle."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# From the top floor down: a room knows those below it, and its own.
FLOORS = (
    ("graphpipe.server.cli", "graphpipe.server.serving", "graphpipe.server.start"),
    ("graphpipe.server.life",),
    ("graphpipe.server.http",),
    ("graphpipe.server.exchange",),
    ("graphpipe.server.target",),
    ("graphpipe.server.protocols",),
    ("graphpipe.server.models",),
    ("graphpipe.server.stages",),
    ("graphpipe.server.numbers", "graphpipe.server.settings", "graphpipe.server.state", "graphpipe.server.taskless"),
    ("graphpipe.server.quotas",),
)


def modules() -> dict[str, Path]:
    paths = sorted((ROOT / "graphpipe").rglob("*.py"))
    return {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in paths}


def imported(path: Path, known: dict[str, Path]) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom) and node.module in known:
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield full if full in known else node.module


def packages_run(name: str, target: str) -> Iterator[str]:
    """The packages whose own code runs first when a module imports another: those that it is not in itself."""
    parts = target.split(".")
    for length in range(2, len(parts)):
        package = ".".join(parts[:length])
        if not name.startswith(f"{package}.") and name != package:
            yield package


def floor_of(module: str) -> int | None:
    for number, rooms in enumerate(FLOORS):
        if any(module == room or module.startswith(f"{room}.") for room in rooms):
            return number
    return None


def test_no_import_goes_in_a_circle():
    known = modules()
    # The package's root names everything for users, and is nobody's way to anything.
    graph = {name: set(imported(path, known)) - {name} for name, path in known.items() if name != "graphpipe"}
    for name, targets in graph.items():
        targets |= {package for target in targets for package in packages_run(name, target)}
    assert not [name for name, targets in graph.items() if "graphpipe" in targets]
    try:
        list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        raise AssertionError(" -> ".join(error.args[1])) from None


def test_no_room_of_the_server_knows_one_above_it():
    known = modules()
    up = [
        f"{name} knows {target}"
        for name, path in known.items()
        for target in imported(path, known)
        if (here := floor_of(name)) is not None and (there := floor_of(target)) is not None and there < here
    ]
    assert up == []


def test_what_is_no_server_knows_no_server():
    known = modules()
    # These start one, when they are asked to.
    doors = ("graphpipe", "graphpipe.aliases", "graphpipe.cli")
    wrong = [
        f"{name} knows {target}"
        for name, path in known.items()
        if not name.startswith("graphpipe.server") and name not in doors and not name.startswith("graphpipe.cli.")
        for target in imported(path, known)
        if target.startswith("graphpipe.server")
    ]
    assert wrong == []
