"""A model explained: its parts, the values that go between them, and what was measured."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

__all__ = ["Explained", "Kind", "Part", "Value"]


@dataclass(frozen=True, slots=True)
class Value:
    """An array that goes into a model, out of it, or from part to part.

    ``declared`` is the type that somebody says it has (``float32[n, 64]``), ``seen`` the one that it had in a call
    (``float32[1, 64]``); each is empty where that is not known.
    """

    name: str
    declared: str = ""
    seen: str = ""

    @property
    def text(self) -> str:
        """Its type, as far as it is known."""
        return self.declared or self.seen or "any"


@dataclass(frozen=True, slots=True)
class Part:
    """A stage of a pipeline, or an operator of a graph.

    ``takes`` and ``gives`` are pairs: the part's own name, and which value of the whole that is, by its place there.
    ``seconds`` is what it takes in one call; None where that was not measured.
    """

    name: str
    kind: str
    takes: tuple[tuple[str, int], ...] = ()
    gives: tuple[tuple[str, int], ...] = ()
    seconds: float | None = None
    runtime: str = ""


@dataclass(frozen=True, slots=True)
class Kind:
    """All operators of one kind: how many are in the file (None: it was not read), how many are run, and their time."""

    name: str
    written: int | None
    run: int
    seconds: float | None


@dataclass(frozen=True, slots=True)
class Explained:
    """What ``graphpipe explain`` shows.

    ``parts`` are ``stages`` or ``operators``, as ``made_of`` says; a model that nobody can look into has none. ``inputs``
    and ``outputs`` are places in ``values``. ``is_linked`` says that parts name what they take and give. ``seconds`` is the
    median time of a call, over ``runs`` of them; None with ``unmeasured``, which says why.
    """

    name: str
    source: str
    kind: str
    runtime: str
    version: str
    description: str
    values: tuple[Value, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    made_of: str = ""
    parts: tuple[Part, ...] = ()
    is_linked: bool = False
    written: dict[str, int] | None = None
    weights: int | None = None
    asked: str = ""
    runs: int = 0
    seconds: float | None = None
    unmeasured: str = ""
    notes: tuple[str, ...] = ()

    @property
    def parts_seconds(self) -> float:
        """The times of all parts together: more than those of a call where parts run side by side."""
        return sum(part.seconds or 0.0 for part in self.parts)

    def share(self, seconds: float | None) -> float | None:
        """What part of all parts' time that is, 0 to 1; None where nothing was measured."""
        whole = self.parts_seconds
        return None if seconds is None or not whole else seconds / whole

    def kinds(self) -> list[Kind]:
        """The parts by kind, those that take the longest first."""
        run = Counter(part.kind for part in self.parts)
        times: dict[str, list[float]] = {}
        for part in self.parts:
            if part.seconds is not None:
                times.setdefault(part.kind, []).append(part.seconds)
        names = list(dict.fromkeys([*run, *(self.written or ())]))
        found = [
            Kind(
                name,
                None if self.written is None else self.written.get(name, 0),
                run[name],
                sum(times[name]) if name in times else None,
            )
            for name in names
        ]
        return sorted(found, key=lambda kind: (-(kind.seconds or 0.0), -kind.run, kind.name))
