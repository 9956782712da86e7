"""Versions of a framework, and ranges of them: ``>=2.13,<3``, as requirements of Python are written.

Of PEP 440 what ranges of frameworks are made of: numbers, ``a``, ``b``, ``rc``, ``dev`` and ``post`` behind them, and the
comparisons; what stands behind a ``+`` says who built it, and does not count.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from graphpipe.words import quoted

__all__ = ["Range"]

_VERSION = re.compile(
    r"v?(?:\d{1,9}!)?(\d{1,9}(?:\.\d{1,9}){0,9})(?:[-_.]?(a|alpha|b|beta|c|rc|pre|preview)[-_.]?(\d{0,9}))?"
    r"(?:[-_.]?(post|rev|r)[-_.]?(\d{0,9})|-(\d{1,9}))?(?:[-_.]?(dev)[-_.]?(\d{0,9}))?(?:\+[\w.-]*)?",
    re.IGNORECASE,
)
_ONE = re.compile(r"\s*(===|~=|==|!=|<=|>=|<|>)\s*([^\s,]+)\s*")
_STAGES = {"a": 0, "alpha": 0, "b": 1, "beta": 1, "c": 2, "rc": 2, "pre": 2, "preview": 2}
_TEXT_MAX = 200

# The numbers without zeros at their end, and what orders versions of equal numbers.
_Key = tuple[tuple[int, ...], tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class Range:
    """A range of versions; an empty text is all of them. Raises ValueError for a text that is none."""

    text: str = ""
    _parts: tuple[tuple[str, str], ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_parts", _parts(self.text))

    def __str__(self) -> str:
        return self.text

    def has(self, version: str) -> bool:
        """Whether a version is in it. One that cannot be read is in the range of all versions alone."""
        if not self._parts:
            return True
        key = _key(version)
        return key is not None and all(_holds(key, sign, wanted) for sign, wanted in self._parts)


def _parts(text: str) -> tuple[tuple[str, str], ...]:
    if not text.strip():
        return ()
    found = []
    for part in text.split(",") if len(text) <= _TEXT_MAX else [text]:
        match = _ONE.fullmatch(part)
        sign, wanted = match.groups() if match else ("", "")
        starred = wanted.endswith(".*") and sign in ("==", "!=")
        key = _key(wanted.removesuffix(".*") if starred else wanted)
        if key is None or (sign == "~=" and "." not in wanted):
            raise ValueError(f"a range of versions is like >=2.13,<3; {quoted(text)} came")
        found.append((sign, wanted))
    return tuple(found)


def _key(version: str) -> _Key | None:
    match = _VERSION.fullmatch(version.strip())
    if match is None:
        return None
    numbers = [int(number) for number in match[1].split(".")]
    while len(numbers) > 1 and numbers[-1] == 0:
        numbers.pop()
    stage, post, dev = match[2], match[4] or match[6], match[7]
    # A development version comes before all others of its number, then alphas to candidates, the release, what is after.
    order = (
        -1 if dev and not stage and not post else _STAGES[stage.lower()] if stage else 3,
        int(match[3] or 0) if stage else 0,
        int(match[5] or match[6] or 0) + 1 if post else 0,
        int(match[8] or 0) if dev else 1 << 31,
    )
    return tuple(numbers), order


def _holds(key: _Key, sign: str, wanted: str) -> bool:
    if wanted.endswith(".*"):
        numbers = _numbers(wanted.removesuffix(".*"))
        same = _padded(key[0], len(numbers)) == numbers
        return same if sign == "==" else not same
    other = _key(wanted)
    if other is None:  # it was read when the range was made
        return False
    if sign == "~=":
        leading = _numbers(wanted)[:-1]
        return key >= other and _padded(key[0], len(leading)) == leading
    # Nobody who writes <3 means the candidates of 3.
    if sign == "<":
        return key < other and not (key[0] == other[0] and other[1][0] == 3)
    if sign == ">":
        return key > other and not (key[0] == other[0] and not other[1][2])
    return {"<=": key <= other, ">=": key >= other, "==": key == other, "===": key == other, "!=": key != other}[sign]


def _numbers(version: str) -> tuple[int, ...]:
    match = _VERSION.fullmatch(version)
    return tuple(int(number) for number in match[1].split(".")) if match else ()


def _padded(numbers: tuple[int, ...], length: int) -> tuple[int, ...]:
    return (numbers + (0,) * length)[:length]
