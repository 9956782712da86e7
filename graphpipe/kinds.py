"""What a setting's value may be: how it is read from text, from TOML or from Python, and how it is written down again.

Each kind reads the text of a command line or an environment variable, the value of a TOML file and one of Python into the
same thing, or raises ValueError with what it expected. It writes what it read in a form that TOML, and it itself, reads
again.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from numbers import Integral, Real
from typing import Any

__all__ = [
    "Kind",
    "address",
    "choice",
    "choices",
    "count",
    "definition",
    "integer",
    "integers",
    "names",
    "number",
    "origins",
    "path",
    "paths",
    "processes",
    "size",
    "switch",
    "text",
]


_ORIGIN = re.compile(r"\*|null|[a-z][a-z0-9+.-]*://(?:\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::[0-9]{1,5})?")


def _toml(value: Any) -> str:
    import json  # nobody writes anything down where a command only shows its help

    if isinstance(value, dict):
        return "{ " + ", ".join(f"{json.dumps(key)} = {_toml(item)}" for key, item in value.items()) + " }"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    # JSON's strings, numbers and booleans are TOML's too.
    return json.dumps(value, ensure_ascii=False)


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of value. ``metavar`` stands for it in help; ``valueless`` flags may be given without a value.

    ``python`` is how a type checker is told what a keyword of this kind takes.
    """

    metavar: str
    python: str
    read: Callable[[object], Any]
    write: Callable[[Any], str] = _toml
    choices: tuple[str, ...] = ()
    valueless: bool = False
    is_path: bool = False


def text(metavar: str) -> Kind:
    """Any text."""
    return Kind(metavar, "str", _text)


def address(port: int | None = None) -> Kind:
    """Where to listen. A port alone is one of this machine's own address; ``port`` is for a host that comes without."""

    def read(value: object) -> str:
        if not isinstance(value, bool) and isinstance(value, Integral):
            value = str(value)
        if not isinstance(value, str):
            raise ValueError(_ADDRESS)
        if re.fullmatch(r"-?\d+", value):
            if not 0 <= int(value[:10]) <= 65535:
                raise ValueError("expected a port from 0 to 65535, or HOST:PORT")
            return f"127.0.0.1:{int(value)}"
        is_host = re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.-]*|\[[0-9A-Fa-f:.]+\]", value)
        # Whatever else it may be, who listens there has the words for it.
        return f"{value}:{port}" if is_host and port is not None else value

    return Kind("ADDRESS", "str | int", read)


_ADDRESS = "expected HOST:PORT, [IPv6]:PORT, unix:PATH or a port"


def path(metavar: str = "FILE") -> Kind:
    """A path, relative to the folder that the command is given in."""
    return Kind(metavar, "str | PathLike[str]", _path, is_path=True)


def definition(of: str) -> Kind:
    """A path of a file that defines something, or in Python the thing itself, which is of the class called ``of``."""

    def read(value: object) -> Any:
        return value if any(kind.__name__ == of for kind in type(value).__mro__) else _path(value)

    def write(value: Any) -> str:
        return _toml(value if isinstance(value, str) else f"<{of} in Python>")

    return Kind("FILE", f"str | PathLike[str] | {of}", read, write, is_path=True)


def names(metavar: str = "NAMES", least: int = 1) -> Kind:
    """Names separated by commas, or a list of them; a tuple of at least one, or of none."""

    def read(value: object) -> tuple[str, ...]:
        items = value.split(",") if isinstance(value, str) else value
        if not isinstance(items, list | tuple) or not all(isinstance(item, str | os.PathLike) for item in items):
            raise ValueError("expected names, separated by commas")
        found = tuple(text for item in items if (text := str(item).strip()))
        if len(found) < least:
            raise ValueError("expected at least one name")
        return found

    return Kind(metavar, "Sequence[str]", read)


def origins() -> Kind:
    """Origins of web pages as browsers send them, separated by commas, or a list of them."""
    several = names("ORIGINS")

    def read(value: object) -> tuple[str, ...]:
        found = several.read(value)
        for origin in found:
            if not _ORIGIN.fullmatch(origin):
                raise ValueError(
                    "expected https://HOST or https://HOST:PORT, in small letters and without a path, or * for every page"
                )
        return tuple(found)

    return replace(several, read=read)


def paths(metavar: str = "FILES") -> Kind:
    """Paths separated by commas, or a list of them."""
    return replace(names(metavar), python="Sequence[str | PathLike[str]]")


def choice(*words: str) -> Kind:
    """One of some words."""

    def read(value: object) -> str:
        if isinstance(value, str) and value.lower() in words:
            return value.lower()
        raise ValueError(f"expected {_either(words)}")

    return Kind(f"[{'|'.join(words)}]", f"Literal[{', '.join(map(_quoted, words))}]", read, choices=words)


def choices(*words: str) -> Kind:
    """Several of some words, separated by commas, or a list of them; each once, in the order of ``words``."""
    several = names()

    def read(value: object) -> tuple[str, ...]:
        found = {word.lower() for word in several.read(value)}
        if not found <= set(words):
            raise ValueError(f"expected some of {', '.join(words)}, separated by commas")
        return tuple(word for word in words if word in found)

    return replace(several, python=f"Sequence[Literal[{', '.join(map(_quoted, words))}]]", read=read, choices=words)


def integer(least: int = 0, most: int | None = None, metavar: str = "N") -> Kind:
    """A whole number within limits."""

    def read(value: object) -> int:
        if isinstance(value, str) and re.fullmatch(r"-?\d[\d_]*", value.strip()):
            value = int(value)
        if not isinstance(value, bool) and isinstance(value, Integral) and _within(int(value), least, most):
            return int(value)
        raise ValueError(f"expected a whole number {_range(least, most)}")

    return Kind(metavar, "int", read)


def processes(most: int) -> Kind:
    """A number of processes; True is one, False none."""
    whole = integer(0, most)

    def read(value: object) -> int:
        if isinstance(value, bool) or (isinstance(value, str) and value.strip().lower() in (*_TRUE, *_FALSE)):
            value = int(switch().read(value))
        return int(whole.read(value))

    return Kind("N", "int | bool", read)


def integers(least: int = 0, most: int | None = None, metavar: str = "N,N,...") -> Kind:
    """Whole numbers within limits, separated by commas, or a list of them; a tuple, each once, the smallest first."""
    one = integer(least, most)

    def read(value: object) -> tuple[int, ...]:
        items = [item for item in value.split(",") if item.strip()] if isinstance(value, str) else value
        if not isinstance(items, list | tuple) or not items:
            raise ValueError("expected whole numbers, separated by commas")
        return tuple(sorted({one.read(item) for item in items}))

    return Kind(metavar, "Sequence[int]", read)


def number(least: float = 0, most: float | None = None, metavar: str = "SECONDS") -> Kind:
    """A number within limits; its unit is in the flag's name."""

    def read(value: object) -> float:
        if isinstance(value, str):
            try:
                value = float(value)
            except ValueError:
                value = math.nan
        if not isinstance(value, bool) and isinstance(value, Real) and _within(value, least, most):
            return float(value)
        raise ValueError(f"expected a number {_range(least, most)}")

    def write(value: float) -> str:
        return _toml(int(value) if value == int(value) else value)

    return Kind(metavar, "float", read, write)


_UNITS = {"b": 1, **{f"{letter}b": 1000**i for i, letter in enumerate("kmgt", 1)}}
_UNITS |= {f"{letter}ib": 1024**i for i, letter in enumerate("kmgt", 1)}


def size(least: int = 0, most: int | None = None, metavar: str = "BYTES") -> Kind:
    """A number of bytes, with or without a unit: 65536, 512MB, 1GiB."""

    def read(value: object) -> int:
        if isinstance(value, str):
            match = re.fullmatch(r"(\d[\d_]*(?:\.\d+)?)\s*([a-z]*)", value.strip().lower())
            unit = _UNITS.get(match[2] or "b") if match else None
            if match is None or unit is None:
                raise ValueError("expected a number of bytes, like 65536, 512MB or 1GiB")
            value = int(match[1]) * unit if "." not in match[1] else int(float(match[1]) * unit)
        if not isinstance(value, bool) and isinstance(value, Integral) and _within(int(value), least, most):
            return int(value)
        raise ValueError(f"expected a number of bytes {_range(least, most)}")

    def write(value: int) -> str:
        for i in (4, 3, 2, 1):
            if value and value % 1024**i == 0:
                return _toml(f"{value // 1024**i}{' KMGT'[i]}iB")
        return _toml(value)

    return Kind(metavar, "int | str", read, write)


_TRUE, _FALSE = ("true", "1", "yes", "on"), ("false", "0", "no", "off")


def switch() -> Kind:
    """On or off; the bare flag is on, ``--flag=false`` off."""

    def read(value: object) -> bool:
        if isinstance(value, bool):
            return value
        word = str(value).strip().lower()
        if word in (*_TRUE, *_FALSE):
            return word in _TRUE
        raise ValueError("expected true or false")

    return Kind("BOOL", "bool", read, valueless=True)


def count() -> Kind:
    """How often a flag was given."""
    inner = integer(0, 9)
    return Kind("", "int", inner.read, valueless=True)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("expected text")
    return value


def _path(value: object) -> str:
    return _text(os.fspath(value) if isinstance(value, os.PathLike) else value)


def _quoted(word: str) -> str:
    return f'"{word}"'


def _either(words: tuple[str, ...]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def _within(value: Any, least: float, most: float | None) -> bool:
    if isinstance(value, int) and value.bit_length() > 63:  # more than a float, or the system, has room for
        return False
    return math.isfinite(value) and least <= value and (most is None or value <= most)


def _range(least: float, most: float | None) -> str:
    return f"of at least {least:g}" if most is None else f"from {least:.12g} to {most:.12g}"
