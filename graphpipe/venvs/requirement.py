"""Which versions of something will do, in the words of PEP 440: ``tensorflow>=2.15,<2.16``."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from graphpipe.words import visible

__all__ = ["Requirement", "Version"]

_NAME = re.compile(r"\s*([A-Za-z0-9](?:[A-Za-z0-9._-]{0,98}[A-Za-z0-9])?)\s*(?:\((.*)\)|(.*))\s*", re.DOTALL)
_COMPARISON = re.compile(r"\s*(===|==|!=|~=|>=|<=|>|<)\s*([A-Za-z0-9.!+_-]{1,100}?)(\.\*)?\s*")
_VERSION = re.compile(
    r"v?(?:(?P<epoch>\d{1,9})!)?(?P<release>\d{1,18}(?:\.\d{1,18}){0,20})"
    r"(?:[-_.]?(?P<pre>alpha|a|beta|b|preview|pre|c|rc)[-_.]?(?P<pre_number>\d{0,18}))?"
    r"(?P<post>-(?P<post_bare>\d{1,18})|[-_.]?(?:post|rev|r)[-_.]?(?P<post_number>\d{0,18}))?"
    r"(?P<dev>[-_.]?dev[-_.]?(?P<dev_number>\d{0,18}))?"
    r"(?:\+(?P<local>[a-z0-9]+(?:[-_.][a-z0-9]+)*))?",
    re.IGNORECASE,
)
_PRE = {"alpha": "a", "beta": "b", "c": "rc", "pre": "rc", "preview": "rc"}

# Before every number there is, and behind it.
_FIRST, _LAST = (-1,), (1 << 64,)


@dataclass(frozen=True, slots=True)
class Version:
    """A version; ``public`` orders it among others, but for what stands behind a ``+``, which is ``local``."""

    text: str
    epoch: int
    release: tuple[int, ...]
    pre: tuple[str, int] | None
    post: int | None
    dev: int | None
    local: str

    @classmethod
    def of(cls, text: str) -> Version:
        """Raises ValueError for what is no version."""
        match = _VERSION.fullmatch(text.strip())
        if match is None:
            raise ValueError(f"{visible(text[:100])!r} is no version; expected one like 2.15.1")
        pre = match["pre"] and match["pre"].lower()
        return cls(
            text.strip(), int(match["epoch"] or 0), tuple(map(int, match["release"].split("."))),
            (_PRE.get(pre, pre), int(match["pre_number"] or 0)) if pre else None,
            int(match["post_bare"] or match["post_number"] or 0) if match["post"] else None,
            int(match["dev_number"] or 0) if match["dev"] else None,
            re.sub(r"[-_]", ".", (match["local"] or "").lower()),
        )  # fmt: skip

    @property
    def is_release(self) -> bool:
        """Whether it has numbers and nothing else."""
        return self.pre is None and self.post is None and self.dev is None and not self.local

    @property
    def public(self) -> tuple[Any, ...]:
        pre: tuple[Any, ...] = self.pre or _PRE_LAST
        if self.pre is None and self.post is None and self.dev is not None:
            pre = _PRE_FIRST  # 1.0.dev1 comes before 1.0a1
        post = _FIRST if self.post is None else (self.post,)
        dev = _LAST if self.dev is None else (self.dev,)
        return self.epoch, _trimmed(self.release), pre, post, dev

    @property
    def order(self) -> tuple[Any, ...]:
        """All of it: words of what is local come before numbers."""
        parts = [(1, int(part), "") if part.isdigit() else (0, 0, part) for part in self.local.split(".") if part]
        return *self.public, parts


_PRE_FIRST, _PRE_LAST = ("", 0), ("z", 0)


def _trimmed(release: tuple[int, ...]) -> tuple[int, ...]:
    while len(release) > 1 and not release[-1]:
        release = release[:-1]
    return release


@dataclass(frozen=True, slots=True)
class Requirement:
    """A name, in the form that PyPI compares them in, and what its version has to be: all of ``comparisons``."""

    name: str
    comparisons: tuple[tuple[str, str, bool], ...] = ()

    @classmethod
    def of(cls, text: str) -> Requirement:
        """A name and comparisons with commas between them. Raises ValueError for anything else."""
        match = _NAME.fullmatch(text)
        said = match and (match[2] if match[2] is not None else match[3])
        if match is None or said is None:
            raise ValueError(_odd(text))
        comparisons = []
        for each in said.split(",") if said.strip() else ():
            found = _COMPARISON.fullmatch(each)
            if found is None:
                raise ValueError(_odd(text))
            sign, version, any_end = found[1], found[2], found[3] is not None
            if sign != "===":
                read = Version.of(version)
                if any_end and (sign not in ("==", "!=") or not read.is_release):
                    raise ValueError(f"{visible(text[:200])!r}: .* belongs behind == or !=, and a version's numbers")
                if read.local and sign not in ("==", "!="):
                    raise ValueError(f"{visible(text[:200])!r}: only == and != look at what stands behind a +")
                if sign == "~=" and len(read.release) < 2:
                    raise ValueError(f"{visible(text[:200])!r}: ~= takes a version with a dot: ~=2.15")
            comparisons.append((sign, version, any_end))
        return cls(re.sub(r"[-_.]+", "-", match[1]).lower(), tuple(comparisons))

    def allows(self, version: str) -> bool:
        """Whether this version of it will do; one that is no version will do only where nothing is asked.

        Versions before a release are taken for what they are: who has installed one means to use it.
        """
        if not self.comparisons:
            return True
        try:
            got = Version.of(version)
        except ValueError:
            return all(sign == "===" and version == wanted for sign, wanted, _ in self.comparisons)
        return all(
            version.lower() == wanted.lower() if sign == "===" else _SIGNS[sign](got, Version.of(wanted), any_end)
            for sign, wanted, any_end in self.comparisons
        )

    def __str__(self) -> str:
        return self.name + ",".join(
            f"{sign}{version}{'.*' if any_end else ''}" for sign, version, any_end in self.comparisons
        )


def _odd(text: str) -> str:
    return f"{visible(text[:200])!r} is no requirement; expected a name and versions: tensorflow>=2.15,<2.16"


def _equal(got: Version, wanted: Version, any_end: bool) -> bool:
    if not any_end:
        return got.public == wanted.public and (not wanted.local or got.local == wanted.local)
    size = len(wanted.release)
    return got.epoch == wanted.epoch and (got.release + (0,) * size)[:size] == wanted.release


def _compatible(got: Version, wanted: Version, any_end: bool) -> bool:
    """``~=2.15.1``: from there on, within 2.15."""
    start = wanted.release[:-1]
    release = (got.release + (0,) * len(start))[: len(start)]
    return got.public >= wanted.public and got.epoch == wanted.epoch and release == start


def _below(got: Version, wanted: Version, any_end: bool) -> bool:
    """Not what comes before the very version that is too new."""
    early = wanted.pre is None and wanted.dev is None and (got.pre is not None or got.dev is not None)
    return got.public < wanted.public and not (early and _same_release(got, wanted) and wanted.post in (None, got.post))


def _above(got: Version, wanted: Version, any_end: bool) -> bool:
    """Not what comes after the very version that is too old."""
    late = wanted.post is None and wanted.dev is None and got.post is not None
    return got.public > wanted.public and not (late and _same_release(got, wanted) and got.pre == wanted.pre)


def _same_release(one: Version, other: Version) -> bool:
    return one.epoch == other.epoch and _trimmed(one.release) == _trimmed(other.release)


_SIGNS: dict[str, Callable[[Version, Version, bool], bool]] = {
    "==": _equal,
    "!=": lambda got, wanted, any_end: not _equal(got, wanted, any_end),
    "~=": _compatible,
    ">=": lambda got, wanted, any_end: got.public >= wanted.public,
    "<=": lambda got, wanted, any_end: got.public <= wanted.public,
    ">": _above,
    "<": _below,
}
