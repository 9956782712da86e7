"""A model explained in words and tables, 80 columns wide as far as names allow."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from graphpipe.drawing import shortened
from graphpipe.explanation.explained import Explained, Kind
from graphpipe.explanation.words import headline, milliseconds, percent, said_of_parts
from graphpipe.table import cell, lines_of
from graphpipe.words import counted, visible

__all__ = ["as_text"]

_COLUMNS = 80
_BAR = 20
_NAME, _KIND, _TYPE, _NAMES = 22, 24, 30, 24
_KINDS_MAX, _HEAVIEST, _VALUES_MAX = 12, 5, 40
# Of fewer operators all are seen in the picture.
_HEAVY_FROM = 25


def as_text(found: Explained) -> str:
    """What it is, what it takes and gives, and where its time goes."""
    lines = [*_head(found), ""]
    lines += lines_of(list(_ends(found)), 3) if found.inputs or found.outputs else []
    if found.made_of == "stages":
        lines += ["", *_stages(found), "", *_values(found)]
    elif found.parts:
        lines += ["", *_operators(found)]
    return "\n".join(line.rstrip() for line in lines)


def _head(found: Explained) -> Iterator[str]:
    version = f"  version {found.version[:12]}" if found.version else ""
    yield visible(f"{found.name or '(no name)'}{version}")
    yield from _wrapped(visible(headline(found)))
    if found.description:
        yield from _wrapped(visible(found.description))
    if found.asked:
        yield from _wrapped(visible(f"asked: {found.asked}"))
    about = [*([f"{found.weights:,} numbers in weights"] if found.weights else []), *found.notes]
    if about:
        yield from _wrapped(visible("; ".join(about)))
    if found.unmeasured:
        yield from _wrapped(visible(f"not measured: {found.unmeasured}"))


def _wrapped(words: str) -> list[str]:
    return textwrap.wrap(words, _COLUMNS, initial_indent="  ", subsequent_indent="    ", break_on_hyphens=False) or [""]


def _ends(found: Explained) -> Iterator[list[str]]:
    yield ["", "name", "type", "as asked" if found.asked else ""]
    for role, places in (("input", found.inputs), ("output", found.outputs)):
        for place in places:
            value = found.values[place]
            said = value.declared or "any"
            seen = value.seen if value.seen != said else ""
            yield [role, _cut(value.name, _NAMES), _cut(said, _TYPE), _cut(_shape(seen, said), _NAMES)]


def _shape(seen: str, said: str) -> str:
    """What was seen, without the type if that was said already."""
    kind, bracket, shape = seen.partition("[")
    return bracket + shape if bracket and said.partition("[")[0] == kind else seen


def _stages(found: Explained) -> list[str]:
    rows = [["stage", "what it is", "ms", "share", ""]]
    for part in found.parts:
        share = found.share(part.seconds)
        rows.append([_cut(part.name, _NAME), _cut(part.kind, _KIND), _ms(part.seconds), percent(share), _bar(share)])
    return [f"  {said_of_parts(found)}", *_with_bars(rows, 2)]


def _values(found: Explained) -> list[str]:
    """What goes between the stages: each value with who gives and who takes it."""
    giver = {given: part.name for part in found.parts for _, given in part.gives}
    takers: dict[int, list[str]] = {}
    for part in found.parts:
        for _, taken in part.takes:
            takers.setdefault(taken, []).append(part.name)
    rows = [["value", "type", "from", "to"]]
    for place, value in list(enumerate(found.values))[:_VALUES_MAX]:
        to = [*takers.get(place, []), *(["(output)"] if place in found.outputs else [])]
        origin = giver.get(place, "(input)" if place in found.inputs else "")
        rows.append([_cut(value.name, 18), _cut(value.text, 22), _cut(origin, 14), _cut(", ".join(to), 18)])
    lines = lines_of(rows, len(rows[0]))
    if len(found.values) > _VALUES_MAX:
        lines.append(f"  and {len(found.values) - _VALUES_MAX} more")
    return lines


def _operators(found: Explained) -> Iterator[str]:
    yield f"  {said_of_parts(found)}"
    every = found.kinds()
    kinds, gone = [kind for kind in every if kind.run], [kind for kind in every if not kind.run]
    rows = [["operator", "run", "file", "ms", "share", ""]]
    for kind in kinds[:_KINDS_MAX]:
        rows.append([_cut(kind.name, _NAMES), *_counts(kind), _ms(kind.seconds), percent(found.share(kind.seconds)),
                     _bar(found.share(kind.seconds))])  # fmt: skip
    yield from _with_bars(rows, 1)
    if len(kinds) > _KINDS_MAX:
        rest = kinds[_KINDS_MAX:]
        share = percent(found.share(sum(kind.seconds or 0.0 for kind in rest)))
        yield f"  and {counted(len(rest), 'more kind')}, {share}"
    if gone:
        # What the framework did once, when it was loaded, or made one with others.
        yield from _wrapped(visible(f"in the file only: {', '.join(f'{kind.written} {kind.name}' for kind in gone)}"))
    measured = sorted((part for part in found.parts if part.seconds), key=lambda part: -(part.seconds or 0.0))
    if len(found.parts) >= _HEAVY_FROM and measured:
        rows = [["the longest", "operator", "gives", "ms", "share"]]
        for part in measured[:_HEAVIEST]:
            gives = ", ".join(found.values[value].text for _, value in part.gives)
            rows.append(
                [_end_of(part.name, 26), _cut(part.kind, 14), _cut(gives, 20), _ms(part.seconds),
                 percent(found.share(part.seconds))]
            )  # fmt: skip
        yield ""
        yield from lines_of(rows, 3)


def _counts(kind: Kind) -> list[str]:
    return [cell(kind.run), cell(kind.written)]


def _ms(seconds: float | None) -> str:
    return "-" if seconds is None else milliseconds(seconds).removesuffix(" ms")


def _bar(share: float | None) -> str:
    """As long as the share is large; one mark where there is anything at all."""
    return "" if not share else "#" * max(1, round(_BAR * share))


def _with_bars(rows: Sequence[Sequence[str]], left: int) -> list[str]:
    """A table whose last column begins at the left, whatever the ones before do."""
    tables = lines_of([row[:-1] for row in rows], left)
    wide = max(map(len, tables))
    return [f"{line.ljust(wide)}  {row[-1]}".rstrip() for line, row in zip(tables, rows, strict=True)]


def _cut(words: str, letters: int) -> str:
    return shortened(visible(words), letters)


def _end_of(words: str, letters: int) -> str:
    """The end of a long name, which is where those of operators differ."""
    words = visible(words)
    return words if len(words) <= letters else f"...{words[3 - letters :]}"
