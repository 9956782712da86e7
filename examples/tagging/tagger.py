"""A text's words and their tags, by the most probable way through a hidden Markov model: the stages.

``text`` becomes ``words`` with ``scores`` and ``lengths``, these the ``path``, and that the ``tags``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from lexicon import known_as, words_of  # type: ignore[import-not-found]
from numpy.typing import NDArray

import graphpipe

TABLES = Path(__file__).with_name("tables.json")


def read(tables: Path = TABLES) -> dict[str, Any]:
    """What train.py has counted."""
    found: dict[str, Any] = json.loads(tables.read_text())
    return found


@graphpipe.model(
    inputs={"text": "string[n]"},
    outputs={"words": "string[n, longest]", "scores": "float64[n, longest, tags]", "lengths": "int64[n]"},
)
class Emissions:
    """Texts to words, and to what each word says for each tag."""

    def __init__(self, tables: Path = TABLES) -> None:
        read_tables = read(tables)
        self._tags = len(read_tables["tags"])
        self._of_word = {word: np.array(values) for word, values in read_tables["words"].items()}

    def __call__(self, text: Iterable[bytes | str]) -> dict[str, NDArray[Any]]:
        """``words``, their ``scores`` and how many there are (``lengths``); shorter texts are filled up with nothing."""
        found = [words_of(_decoded(each, number)) for number, each in enumerate(text)]
        lengths = np.array([len(words) for words in found], np.int64)
        longest = int(lengths.max(initial=0))
        words = np.full((len(found), longest), "", object)
        scores = np.zeros((len(found), longest, self._tags))
        for row, own in enumerate(found):
            words[row, : len(own)] = own
            for place, word in enumerate(own):
                scores[row, place] = self._of_word[known_as(word, self._of_word)]
        return {"words": words, "scores": scores, "lengths": lengths}


def _decoded(text: bytes | str, number: int) -> str:
    try:
        return text if isinstance(text, str) else text.decode()
    except UnicodeDecodeError as error:
        raise graphpipe.InvalidRequest(f"text {number + 1} is no UTF-8: {error.reason} at byte {error.start}") from None


@graphpipe.model(
    inputs={"scores": "float64[n, longest, tags]", "lengths": "int64[n]"},
    outputs={"path": "int64[n, longest]", "log_probability": "float64[n]"},
)
class Viterbi:
    """The most probable tags of each text: of all ways through its words the one with the highest sum.

    A way's sum is ``first`` of its first tag, each word's score for its tag, ``after`` of each two tags that follow one
    another, and ``last`` of its last tag.
    """

    def __init__(self, tables: Path = TABLES, **said: Any) -> None:
        of = said or read(tables)
        self._first, self._after, self._last = (np.array(of[name], np.float64) for name in ("first", "after", "last"))

    def __call__(self, scores: NDArray[np.float64], lengths: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        """``path`` has a tag's number for each word and -1 behind the last; a text without words has probability 1."""
        texts, longest, tags = scores.shape
        path = np.full((texts, longest), -1, np.int64)
        if longest == 0:
            return {"path": path, "log_probability": np.zeros(texts)}
        # For each tag the best sum of a way that ends with it, and the tag before it on that way.
        best = self._first + scores[:, 0]
        came_from = np.empty((texts, longest, tags), np.int64)
        for place in range(1, longest):
            sums = best[:, :, None] + self._after
            came_from[:, place] = sums.argmax(axis=1)
            goes_on = (place < lengths)[:, None]
            best = np.where(goes_on, sums.max(axis=1) + scores[:, place], best)
        ends = best + self._last
        tag = ends.argmax(axis=1)
        # Backwards, each text from its own last word on.
        rows = np.arange(texts)
        for place in range(longest - 1, -1, -1):
            path[:, place] = np.where(place < lengths, tag, -1)
            if place:
                tag = np.where(place < lengths, came_from[rows, place, tag], tag)
        return {"path": path, "log_probability": np.where(lengths > 0, ends.max(axis=1), 0.0)}


@graphpipe.model(inputs={"path": "int64[n, longest]"}, outputs={"tags": "string[n, longest]"})
class Tags:
    """Numbers to the names of tags."""

    def __init__(self, tables: Path = TABLES) -> None:
        # -1, which stands behind a text's last word, is the last of them.
        self._names = np.array([*read(tables)["tags"], ""], object)

    def __call__(self, path: NDArray[np.int64]) -> NDArray[np.object_]:
        """``tags`` of each word, and nothing where there is none."""
        names: NDArray[np.object_] = self._names[path]
        return names
