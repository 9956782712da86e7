"""The checksums of stored rows; and a program that reads every row of a store: ``python soundness.py FOLDER``.

LMDB trusts its file. Of one that something else has written to, a look at the wrong page can end the process that looks;
better this one than a server. Status 0: every page could be read and every checksum is right.

A checksum has to be right for 128 rows in 0.1 ms, so it is a sum of products that numpy does for all of them at once: the
words of key and value times odd weights that differ from place to place, modulo 2**64. A change of one word always
shows, any other change but for one chance in 2**64. It guards against damage, not against malice: whoever can write here
can write checksums too.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import cache
from itertools import islice
from typing import Any

import lmdb
import numpy as np
from numpy.typing import NDArray

__all__ = ["checksums", "checksums_of"]

_WORDS = 1 << 15
_STEP = np.uint64(0x9E3779B97F4A7C15)


def checksums(keys: Sequence[bytes], bodies: Sequence[bytes | memoryview]) -> NDArray[np.uint64]:
    """One for each key with its body. Keys are equally long, and the lengths of all are multiples of 8."""
    found = np.zeros(len(keys), np.uint64)
    by_size: dict[int, list[int]] = {}
    for i, body in enumerate(bodies):
        by_size.setdefault(len(body), []).append(i)
    for places in by_size.values():
        if len(by_size) == 1:
            block, names = b"".join(bodies), b"".join(keys)
        else:
            block, names = b"".join([bodies[i] for i in places]), b"".join([keys[i] for i in places])
        words = [np.frombuffer(data, "<u8").reshape(len(places), -1) for data in (names, block)]
        found[places] = checksums_of(*words)
    return found


def checksums_of(keys: NDArray[np.uint64], bodies: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The same for words that lie in lines, one for each key."""
    return _sums(bodies, _sums(keys, np.zeros(len(keys), np.uint64)))


def _sums(words: NDArray[np.uint64], sums: NDArray[np.uint64]) -> NDArray[np.uint64]:
    for start in range(0, words.shape[1], _WORDS):
        part = words[:, start : start + _WORDS]
        sums = sums * _STEP + np.einsum("ij,j->i", part, _weights()[: part.shape[1]])
    return sums


@cache
def _weights() -> NDArray[np.uint64]:
    """Odd numbers without a pattern: the finaliser of splitmix64 over 1, 2, 3, ..."""
    z = np.arange(1, _WORDS + 1, dtype=np.uint64) * _STEP
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    weights: NDArray[np.uint64] = (z ^ (z >> np.uint64(31))) | np.uint64(1)
    return weights


def _all_right(transaction: Any, generation: Any) -> bool:
    rows = iter(transaction.cursor(generation))
    while batch := list(islice(rows, 256)):
        keys, values = [bytes(key) for key, _ in batch], [bytes(value) for _, value in batch]
        if any(len(value) < 16 or len(value) % 8 for value in values) or any(len(key) != 64 for key in keys):
            return False
        right = np.array([int.from_bytes(value[:8], "little") for value in values], np.uint64)
        if (checksums(keys, [value[8:] for value in values]) != right).any():
            return False
    return True


def main(folder: str) -> int:
    """Walk through both generations."""
    with lmdb.open(folder, readonly=True, lock=False, max_dbs=2, create=False) as environment:
        generations = [environment.open_db(name, create=False) for name in (b"rows0", b"rows1")]
        with environment.begin(buffers=True) as transaction:
            return 0 if all(_all_right(transaction, generation) for generation in generations) else 1


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1]))
    except (lmdb.Error, ValueError):
        sys.exit(1)
