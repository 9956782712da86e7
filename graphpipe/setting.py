"""How a setting is declared: once, beside the field that holds it.

    @dataclass(frozen=True, slots=True)
    class Settings:
        body_bytes_max: int = setting(1 << 30, "Limits", size(1, 2**31 - 1), "Largest request body; a larger one gets 413.")

All else is made from that: the flag and its help, the key in a file, the name in the environment, what Python's keywords
may be, and the table in the docs.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

from graphpipe.kinds import Kind

__all__ = ["Declared", "declared_in", "setting"]

T = TypeVar("T")

_KEY = "setting"


@dataclass(frozen=True, slots=True)
class Declared:
    """What is said of a setting beside its name, its type and its default.

    ``section`` is where help shows it. ``default_text`` says in words what the default stands for, ``short`` is a letter,
    ``original_env`` the variable that the original GraphPipe read. ``needs`` are other fields: unless one of them is set,
    this one does nothing, and is refused.
    """

    section: str
    kind: Kind
    help: str
    default_text: str = ""
    short: str = ""
    original_env: str = ""
    needs: tuple[str, ...] = ()


def setting(
    default: T,
    section: str,
    kind: Kind,
    help: str,
    *,
    default_text: str = "",
    short: str = "",
    original_env: str = "",
    needs: tuple[str, ...] = (),
) -> T:
    """The field of a dataclass that is a setting. To a type checker it is its default."""
    declared = Declared(section, kind, help, default_text, short, original_env, needs)
    made: T = field(default=default, metadata={_KEY: declared})
    return made


def declared_in(home: type[Any]) -> dict[str, tuple[Declared, Any]]:
    """The settings of a dataclass by the names of their fields, each with its default."""
    return {each.name: (each.metadata[_KEY], each.default) for each in fields(home) if _KEY in each.metadata}
