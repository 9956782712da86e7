"""Count a tagged corpus: which tags there are, which follow which, and which words have them.

    python examples/tagging/train.py [FOLDER]

writes tables.json, beside itself unless a folder is named. A line of corpus.txt is a sentence, its words written as
word/TAG.
"""

from __future__ import annotations

import itertools
import json
import math
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lexicon import UNKNOWN, known_as  # type: ignore[import-not-found]

HERE = Path(__file__).parent
# Added to each count, since what was never seen is not impossible.
NEVER_SEEN = 0.01
DIGITS = 4


def tables(sentences: Iterable[list[tuple[str, str]]]) -> dict[str, Any]:
    """Logarithms of probabilities: of the first tag, of a tag after another, of the end after a tag, of a word for a tag.

    A word that comes once is counted a second time as the kind of unknown word that it looks like.
    """
    sentences = [sentence for sentence in sentences if sentence]
    tags = sorted({tag for sentence in sentences for _, tag in sentence})
    often = Counter(word.lower() for sentence in sentences for word, _ in sentence)
    first: Counter[str] = Counter(sentence[0][1] for sentence in sentences)
    last: Counter[str] = Counter(sentence[-1][1] for sentence in sentences)
    following: Counter[tuple[str, str]] = Counter()
    given: Counter[tuple[str, str]] = Counter()
    for sentence in sentences:
        following.update((before[1], after[1]) for before, after in itertools.pairwise(sentence))
        given.update((word.lower(), tag) for word, tag in sentence)
        given.update((known_as(word, {}), tag) for word, tag in sentence if often[word.lower()] == 1)
    words = sorted({word for word, _ in given} | set(UNKNOWN))
    of_tag: Counter[str] = Counter()
    for (_, tag), count in given.items():
        of_tag[tag] += count
    after_tag = {tag: sum(following[tag, other] for other in tags) + last[tag] for tag in tags}
    choices = len(tags)
    return {
        "tags": tags,
        "first": [_log(first[tag], len(sentences), choices) for tag in tags],
        "after": [[_log(following[tag, other], after_tag[tag], choices + 1) for other in tags] for tag in tags],
        "last": [_log(last[tag], after_tag[tag], choices + 1) for tag in tags],
        "words": {word: [_log(given[word, tag], of_tag[tag], len(words)) for tag in tags] for word in words},
    }


def _log(count: int, of: int, choices: int) -> float:
    return round(math.log((count + NEVER_SEEN) / (of + NEVER_SEEN * choices)), DIGITS)


def corpus() -> list[list[tuple[str, str]]]:
    """The sentences of corpus.txt: of each its words and their tags."""
    lines = (HERE / "corpus.txt").read_text().splitlines()
    pairs = [[token.rpartition("/") for token in line.split()] for line in lines]
    return [[(word, tag) for word, _, tag in sentence] for sentence in pairs]


def main(folder: Path) -> None:
    """Write the tables."""
    counted = tables(corpus())
    words = counted.pop("words")
    head = ",\n".join(f'"{name}": {json.dumps(value)}' for name, value in counted.items())
    body = ",\n".join(f"{json.dumps(word)}: {json.dumps(values)}" for word, values in words.items())
    (folder / "tables.json").write_text(f'{{\n{head},\n"words": {{\n{body}\n}}\n}}\n')
    print(f"{len(counted['tags'])} tags, {len(words)} words")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE)
