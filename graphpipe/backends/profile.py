"""Where the time of a model's call goes, among the operators that its framework runs."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Operator", "Profile"]


@dataclass(frozen=True, slots=True)
class Operator:
    """One operator of a graph, as it is run.

    ``kind`` is what it does (``Gemm``), ``name`` which one it is. ``takes`` and ``gives`` are names of values of the graph;
    of ``takes`` weights are left out. ``types`` says what it gave, output by output (``float32[1, 10]``), as far as that is
    known. ``seconds`` is its time in one call; None where it was not measured.
    """

    kind: str
    name: str
    takes: tuple[str, ...] = ()
    gives: tuple[str, ...] = ()
    types: tuple[str, ...] = ()
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Profile:
    """What a graph is made of, and what of it is run.

    ``written`` counts the operators in the file by kind; None where the file cannot be read. ``run`` are those that were
    run, in their order: frameworks join and drop some. ``is_linked`` says that they name what they take and give, so that
    the graph can be drawn. ``weights`` is how many numbers the file has for them, None where that is not known. ``notes``
    says what else is known of it.
    """

    run: tuple[Operator, ...]
    written: dict[str, int] | None = None
    is_linked: bool = False
    weights: int | None = None
    notes: tuple[str, ...] = ()
