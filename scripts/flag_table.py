"""Writes anew what is made from the declared settings; ``--check`` only looks.

That is the table of flags in docs/serving.md, and the keywords of ``graphpipe.serve`` and ``graphpipe.load`` as a type
checker knows them.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path

from graphpipe.backends.options import LoadOptions
from graphpipe.server.settings.flags import FLAGS, SECTIONS, Flag

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "serving.md"
KEYWORDS = ROOT / "graphpipe" / "server" / "settings" / "keywords.py"
LOAD_KEYWORDS = ROOT / "graphpipe" / "backends" / "keywords.py"
_BLOCK = re.compile(r"(<!-- flags: .*? -->\n).*?(<!-- end of flags -->)", re.DOTALL)


def main() -> int:
    """Bring them up to date, or check that they are."""
    settings = [flag for flag in FLAGS if flag.scope != "command"]
    # The address is an argument of its own.
    for_serve = keywords("graphpipe.serve", "Keywords", [flag for flag in settings if flag.name != "listen"])
    for_load = keywords("graphpipe.load", "LoadKeywords", [flag for flag in settings if flag.home is LoadOptions])
    wanted = {PAGE: with_table(PAGE.read_text()), KEYWORDS: for_serve, LOAD_KEYWORDS: for_load}
    if "--check" in sys.argv[1:]:
        return int(any(path.read_text() != text for path, text in wanted.items()))
    for path, text in wanted.items():
        path.write_text(text)
    return 0


def keywords(call: str, name: str, flags: Sequence[Flag]) -> str:
    """The module with the keywords of a call, section by section."""
    types = " ".join(flag.kind.python for flag in flags)
    typing = ", ".join(word for word in ("Literal", "TypedDict") if word in f"{types} TypedDict")
    lines = [
        f'"""The keywords of ``{call}``, for type checkers: written by scripts/flag_table.py."""', "",
        "from __future__ import annotations", "",
        "from collections.abc import Sequence", "from os import PathLike", f"from typing import {typing}", "",
        *(["from graphpipe.problem import Problem", ""] if "Problem" in types else []),
        f'__all__ = ["{name}"]', "", "",
        f"class {name}(TypedDict, total=False):",
        '    """Every setting, by the name of its field; docs/serving.md says what each does."""',
    ]  # fmt: skip
    for section in SECTIONS:
        found = [flag for flag in flags if flag.section == section]
        lines += ["", f"    # {section}", *(f"    {flag.field}: {flag.kind.python}" for flag in found)] if found else []
    return "\n".join(lines) + "\n"


def with_table(page: str) -> str:
    """The page with the table as it should be. Raises ValueError if the page has no place for it."""
    if not _BLOCK.search(page):
        raise ValueError("the page has no '<!-- flags: ... -->' and '<!-- end of flags -->' around its table")
    return _BLOCK.sub(lambda match: match[1] + table() + match[2], page)


def table() -> str:
    """All flags, section by section, as Markdown."""
    lines: list[str] = []
    for section in SECTIONS:
        lines += ["", f"**{section}**", "", "| flag | what it does | default | environment |", "|---|---|---|---|"]
        lines += [_row(flag) for flag in FLAGS if flag.section == section]
    return "\n".join(lines) + "\n\n"


def _row(flag: Flag) -> str:
    names = [f"`-{flag.declared.short}`"] if flag.declared.short else []
    names.append(f"`--{flag.name}{' ' + flag.metavar if flag.metavar else ''}`")
    variables = [] if flag.name in ("demo", "print-config") else [f"`{flag.env}`"]
    variables += [f"`{flag.declared.original_env}`"] if flag.declared.original_env else []
    cells = [", ".join(names), flag.declared.help, flag.shown_default, ", ".join(variables)]
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


if __name__ == "__main__":
    sys.exit(main())
