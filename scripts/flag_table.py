"""Writes anew what is made from the declared settings; ``--check`` only looks.

That is the table of flags in docs/serving.md, and the keywords of ``graphpipe.serve`` as a type checker knows them.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from graphpipe.server.settings.flags import FLAGS, SECTIONS, Flag

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "serving.md"
KEYWORDS = ROOT / "graphpipe" / "server" / "settings" / "keywords.py"
_BLOCK = re.compile(r"(<!-- flags: .*? -->\n).*?(<!-- end of flags -->)", re.DOTALL)


def main() -> int:
    """Bring both up to date, or check that they are."""
    wanted = {PAGE: with_table(PAGE.read_text()), KEYWORDS: keywords()}
    if "--check" in sys.argv[1:]:
        return int(any(path.read_text() != text for path, text in wanted.items()))
    for path, text in wanted.items():
        path.write_text(text)
    return 0


def keywords() -> str:
    """The module with the keywords of ``graphpipe.serve``, section by section."""
    lines = [
        '"""The keywords of ``graphpipe.serve``, for type checkers: written by scripts/flag_table.py."""', "",
        "from __future__ import annotations", "",
        "from collections.abc import Sequence", "from os import PathLike", "from typing import Literal, TypedDict", "",
        '__all__ = ["Keywords"]', "", "",
        "class Keywords(TypedDict, total=False):",
        '    """Every setting, by the name of its field; docs/serving.md says what each does."""',
    ]  # fmt: skip
    for section in SECTIONS:
        # The address is an argument of its own.
        found = [
            flag for flag in FLAGS if flag.section == section and flag.scope != "command" and flag.name != "listen"
        ]
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
