"""Words to numbers: a text is split, and each word looked up. Plain Python, which MATXScript compiles as it stands."""

# ruff: noqa: UP006, UP035 - MATXScript knows types by these names

from typing import Dict, List


class Text2Ids:
    """A table of words; what is not in it is ``[UNK]``."""

    def __init__(self) -> None:
        self.table: Dict[bytes, int] = {b"hello": 0, b"world": 1, b"[UNK]": 2}
        self.unknown: int = self.table[b"[UNK]"]

    def __call__(self, text: bytes) -> List[int]:
        """The numbers of the words of a text, in order."""
        return [self.table.get(word, self.unknown) for word in text.split()]
