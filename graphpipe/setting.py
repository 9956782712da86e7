"""How a setting is declared: once, beside the field that holds it.

    @dataclass(frozen=True, slots=True)
    class Settings:
        body_bytes_max: int = setting(1 << 30, "Limits", size(1, 2**31 - 1), "Largest request body; a larger one gets 413.")

All else is made from that: the flag and its help, the key in a file, the name in the environment, what Python's keywords
may be, and the table in the docs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

from graphpipe.arguments import came
from graphpipe.kinds import Kind

__all__ = ["Declared", "declared_in", "read_keywords", "setting"]

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


def read_keywords(
    call: str, declared: Mapping[str, tuple[Declared, Any]], keywords: Mapping[str, Any]
) -> dict[str, Any]:
    """What the keywords of a call in Python say, as the fields have it.

    Raises TypeError for a name that no setting has, and for a value of another kind.
    """
    values = {}
    for name, value in keywords.items():
        if name not in declared:
            import difflib  # a command that shows its help has nothing to look for

            near = difflib.get_close_matches(name.replace("-", "_"), declared, 1, 0.6)
            hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(sorted(declared))}"
            raise TypeError(f"{call}() has no setting {name!r}; {hint}")
        values[name] = _read(call, name, *declared[name], value)
    return values


def _read(call: str, name: str, declared: Declared, default: Any, value: Any) -> Any:
    if value is default or (value is None and default in (None, "", ())):
        return default
    try:
        return declared.kind.read(value)
    except ValueError as error:
        if value in ("", [], ()) and default in (None, "", ()):
            return default  # most empty lists have no form on a command line
        raise TypeError(f"{call}(): {name}: {error}; {came(value)}") from None
