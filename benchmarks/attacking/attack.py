"""What an attack is: a server, what strangers do to it, and an innocent caller who is there at the same time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.harness.innocent import Calls
from benchmarks.harness.process import Running

__all__ = ["ATTACKS", "MIB", "Attack", "Scene", "attack"]

MIB = 1 << 20


@dataclass(frozen=True)
class Scene:
    """The server that is attacked, and a folder for what it needs."""

    server: Running
    folder: Path

    @property
    def port(self) -> int:
        """Where it listens."""
        return self.server.port


Saw = dict[str, float]
Prepare = Callable[[Path], tuple[str, ...]]


def _nothing(folder: Path) -> tuple[str, ...]:
    return ()


@dataclass(frozen=True)
class Attack:
    """One attack. ``run`` gives what the strangers saw, in words and numbers; ``does`` says in words what they do.

    ``prepare`` makes files, and gives further flags of the server; ``needs`` is a module that the server must have.
    """

    name: str
    does: str
    flags: tuple[str, ...]
    run: Callable[[Scene], Saw]
    innocent: Calls = field(default_factory=Calls)
    prepare: Prepare = _nothing
    needs: str = ""
    descriptors: int | None = None


ATTACKS: dict[str, Attack] = {}


def attack(
    name: str,
    does: str,
    *flags: str | int,
    innocent: Calls | None = None,
    prepare: Prepare = _nothing,
    needs: str = "",
    descriptors: int | None = None,
) -> Callable[[Callable[[Scene], Saw]], Callable[[Scene], Saw]]:
    """Makes a function an attack."""

    def note(run: Callable[[Scene], Saw]) -> Callable[[Scene], Saw]:
        told = tuple(map(str, flags))
        ATTACKS[name] = Attack(name, does, told, run, innocent or Calls(), prepare, needs, descriptors)
        return run

    return note
