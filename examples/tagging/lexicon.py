"""Words of a text, and what is known of them: counting and the first stage agree on both."""

from __future__ import annotations

import re
from collections.abc import Container

# What the tables have in place of a word that they do not have.
UNKNOWN = ("<number>", "<name>", "<-ing>", "<-ed>", "<-ly>", "<-s>", "<mark>", "<other>")

_WORD = re.compile(r"\w+(?:['\u2019]\w+)*|[^\w\s]")


def words_of(text: str) -> list[str]:
    """The words and marks of a text, in order."""
    return _WORD.findall(text)


def known_as(word: str, table: Container[str]) -> str:
    """What the table has of a word: the word itself in small letters, or the kind of unknown word that it looks like."""
    small = word.lower()
    if small in table:
        return small
    if word[0].isdigit():
        return "<number>"
    if not word[0].isalpha():
        return "<mark>"
    for ending in ("ing", "ed", "ly"):
        if small.endswith(ending) and len(small) > len(ending) + 2:
            return f"<-{ending}>"
    if word[0].isupper():
        return "<name>"
    return "<-s>" if small.endswith("s") else "<other>"
