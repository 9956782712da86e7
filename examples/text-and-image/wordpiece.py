"""Texts to the numbers that the text tower takes: the words of BERT, in plain Python.

The same class makes what the tower learns from and, as a stage of the pipeline, what it is asked with.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import graphpipe

__all__ = ["Tokenizer"]

VOCAB = Path(__file__).with_name("vocab.txt")
LENGTH_MAX = 64
_LETTERS_MAX = 100
# Blocks of Unicode whose signs are words of their own.
_CJK = (
    (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x2A6DF), (0x2A700, 0x2CEAF), (0x2F800, 0x2FA1F),
)  # fmt: skip


@graphpipe.model(inputs={"text": "string[n]"}, outputs={"ids": "int64[n, length]", "mask": "int64[n, length]"})
class Tokenizer:
    """Pieces of the words in ``vocab.txt``, which has one a line; it lies beside this file if nothing else is said."""

    def __init__(self, vocab: Path = VOCAB) -> None:
        lines = vocab.read_text(encoding="utf-8").splitlines()
        self.numbers = {piece: number for number, piece in enumerate(lines)}
        self._begin, self._end, self._unknown = (self.numbers[mark] for mark in ("[CLS]", "[SEP]", "[UNK]"))

    def __call__(self, text: Iterable[bytes | str]) -> dict[str, NDArray[Any]]:
        """``ids`` and ``mask``, int64 [n, length], of n texts; the shorter ones are filled up with zeros.

        Texts are str where a model learns, and UTF-8 as it came where one is served.
        """
        rows = [self._row(_decoded(each, i)) for i, each in enumerate(text)]
        ids = np.zeros((len(rows), max(map(len, rows), default=2)), np.int64)
        mask = np.zeros_like(ids)
        for i, row in enumerate(rows):
            ids[i, : len(row)] = row
            mask[i, : len(row)] = 1
        return {"ids": ids, "mask": mask}

    def _row(self, text: str) -> list[int]:
        found: list[int] = []
        for word in _words(text):
            found += self._pieces(word)
            if len(found) >= LENGTH_MAX - 2:
                break
        return [self._begin, *found[: LENGTH_MAX - 2], self._end]

    def _pieces(self, word: str) -> list[int]:
        """The longest piece that the word begins with, then of the rest; [UNK] alone where there is none."""
        found: list[int] = []
        begin = 0
        while begin < len(word) <= _LETTERS_MAX:
            mark = "##" if begin else ""
            ends = range(len(word), begin, -1)
            end = next((end for end in ends if mark + word[begin:end] in self.numbers), None)
            if end is None:
                return [self._unknown]
            found.append(self.numbers[mark + word[begin:end]])
            begin = end
        return found or [self._unknown]


def _decoded(text: bytes | str, place: int) -> str:
    if isinstance(text, str):
        return text
    try:
        return text.decode()
    except UnicodeDecodeError as error:
        raise graphpipe.InvalidRequest(f"text {place} is not UTF-8: {error.reason} at byte {error.start}") from None


def _words(text: str) -> Iterator[str]:
    """Words in small letters without accents; each mark and each sign of CJK is one of its own."""
    word = ""
    for char in _plain(text):
        if char == " ":
            alone, ends = "", True
        else:
            alone = char if _is_mark(char) or _is_cjk(char) else ""
            ends = bool(alone)
        if not ends:
            word += char
            continue
        if word:
            yield word
            word = ""
        if alone:
            yield alone
    if word:
        yield word


def _plain(text: str) -> Iterator[str]:
    for char in text:
        if char in "\t\n\r" or unicodedata.category(char).startswith("Z"):
            yield " "
        elif char != "\N{REPLACEMENT CHARACTER}" and not unicodedata.category(char).startswith("C"):
            # An accent is a character of its own when letters are taken apart, and has the category Mn.
            apart = unicodedata.normalize("NFD", char)
            yield from "".join(part for part in apart if unicodedata.category(part) != "Mn").lower()


def _is_mark(char: str) -> bool:
    return char in "$+<=>^`|~" or unicodedata.category(char).startswith("P")


def _is_cjk(char: str) -> bool:
    return any(first <= ord(char) <= last for first, last in _CJK)
