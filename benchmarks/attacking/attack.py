"""What an attack is: somebody who is attacked, what strangers do, and an innocent caller who is there at the same time.

A server is attacked by its callers, with an innocent one among them. What loads a model, or calls a server, is a process
that does one thing after another: nobody else is there who could wait.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.attacking.told import Told
from benchmarks.harness.innocent import Calls
from benchmarks.harness.process import Running
from benchmarks.harness.tree import Tree

__all__ = ["ATTACKS", "MIB", "Attack", "Saw", "Scene", "attack"]

MIB = 1 << 20


@dataclass(frozen=True)
class Scene:
    """The process that is attacked, and a folder for what it needs."""

    server: Running
    folder: Path

    @property
    def port(self) -> int:
        """Where it listens."""
        return self.server.port

    @property
    def path(self) -> Path:
        """The Unix socket that it listens on instead, where that is what the attack is about."""
        return self.folder / "s.sock"

    def tell(self, what: str) -> str:
        """What comes of it in a process that loads or calls what it is told, in a line."""
        assert isinstance(self.server, Told)
        return self.server.tell(what)


Saw = dict[str, float]
Prepare = Callable[[Path], tuple[str, ...]]
Victim = Callable[[Tree, Path], AbstractContextManager[Running]]


def _nothing(folder: Path) -> tuple[str, ...]:
    return ()


def _none(scene: Scene) -> None:
    pass


@dataclass(frozen=True)
class Attack:
    """One attack. ``run`` gives what the strangers saw, in words and numbers; ``does`` says in words what they do.

    ``prepare`` makes files, and gives further flags of the server; ``needs`` is a module that its interpreter must have,
    ``program`` one of the machine's. ``victim`` is who is attacked where that is no server, and ``first`` what he does
    before his memory is looked at, so that what he needs for anything at all is there. ``unix``: it listens on a
    Unix socket.
    """

    name: str
    does: str
    flags: tuple[str, ...]
    run: Callable[[Scene], Saw]
    innocent: Calls = field(default_factory=Calls)
    prepare: Prepare = _nothing
    needs: str = ""
    program: str = ""
    descriptors: int | None = None
    victim: Victim | None = None
    first: Callable[[Scene], object] = _none
    unix: bool = False


ATTACKS: dict[str, Attack] = {}


def attack(
    name: str,
    does: str,
    *flags: str | int,
    innocent: Calls | None = None,
    prepare: Prepare = _nothing,
    needs: str = "",
    program: str = "",
    descriptors: int | None = None,
    victim: Victim | None = None,
    first: Callable[[Scene], object] = _none,
    unix: bool = False,
) -> Callable[[Callable[[Scene], Saw]], Callable[[Scene], Saw]]:
    """Makes a function an attack."""

    def note(run: Callable[[Scene], Saw]) -> Callable[[Scene], Saw]:
        told = tuple(map(str, flags))
        ATTACKS[name] = Attack(
            name, does, told, run, innocent or Calls(), prepare, needs, program, descriptors, victim, first, unix
        )
        return run

    return note
