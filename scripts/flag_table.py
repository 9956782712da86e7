"""Writes the table of flags in docs/serving.md anew from graphpipe/server/settings/flags.py; ``--check`` only looks."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from graphpipe.server.settings.flags import FLAGS, Flag

PAGE = Path(__file__).parent.parent / "docs" / "serving.md"
_BLOCK = re.compile(r"(<!-- flags: .*? -->\n).*?(<!-- end of flags -->)", re.DOTALL)


def main() -> int:
    """Bring the page up to date, or check that it is."""
    text = PAGE.read_text()
    wanted = with_table(text)
    if "--check" in sys.argv[1:]:
        return int(text != wanted)
    PAGE.write_text(wanted)
    return 0


def with_table(page: str) -> str:
    """The page with the table as it should be. Raises ValueError if the page has no place for it."""
    if not _BLOCK.search(page):
        raise ValueError("the page has no '<!-- flags: ... -->' and '<!-- end of flags -->' around its table")
    return _BLOCK.sub(lambda match: match[1] + table() + match[2], page)


def table() -> str:
    """All flags, section by section, as Markdown."""
    lines: list[str] = []
    for section in dict.fromkeys(flag.section for flag in FLAGS):
        lines += ["", f"**{section}**", "", "| flag | what it does | default | environment |", "|---|---|---|---|"]
        lines += [_row(flag) for flag in FLAGS if flag.section == section]
    return "\n".join(lines) + "\n\n"


def _row(flag: Flag) -> str:
    names = [f"`-{flag.short}`"] if flag.short else []
    names.append(f"`--{flag.name}{' ' + flag.metavar if flag.metavar else ''}`")
    variables = [] if flag.name == "print-config" else [f"`{flag.env}`"]
    variables += [f"`{flag.original_env}`"] if flag.original_env else []
    cells = [", ".join(names), flag.help, flag.shown_default, ", ".join(variables)]
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


if __name__ == "__main__":
    sys.exit(main())
