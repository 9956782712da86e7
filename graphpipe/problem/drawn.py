"""Outputs drawn at random that keep a problem's promise: the same inputs give the same ones."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphpipe.errors import TooLarge
from graphpipe.problem.promise import bound
from graphpipe.signature import TensorSpec

__all__ = ["drawn"]

Array = NDArray[Any]

# A size that nothing says is 1 to 8.
_SIZE_MAX = 8
_INTEGERS = 10
_LETTERS = np.frombuffer(b"abcdefghijklmnopqrstuvwxyz", np.uint8)
_LETTERS_MAX = 8
# Symbols that inputs bind may ask for any amount.
_BYTES_MAX = 1 << 30
_ELEMENTS_MAX = 1 << 56
# An element of a tensor of strings, with its place in the array.
_TEXT_BYTES = 64


def drawn(
    inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], given: Mapping[str, Array], seed: int
) -> dict[str, Array]:
    """All outputs, of their types and shapes, for the inputs given.

    Symbols have the sizes that the inputs give them; others, and dimensions and types left open, are drawn too. Floats are
    in [0, 1), integers below 10, strings words of a few letters. Raises TooLarge where the sizes ask for more than a GiB.
    """
    random = np.random.Generator(np.random.PCG64(_digest(inputs, given, seed)))
    sizes = {symbol: size for symbol, (size, _) in bound(inputs, given).items()}
    shapes = [_shape(spec, sizes, random) for spec in outputs]  # first: they do not depend on what was asked for
    room = _BYTES_MAX
    for spec, shape in zip(outputs, shapes, strict=True):
        count = 1
        for size in shape:
            count *= size
        # numpy counts without the zeros.
        if math.prod(size for size in shape if size) > _ELEMENTS_MAX:
            raise TooLarge(f"output {spec.name!r} would be {list(shape)}, which no array can be")
        room -= count * (4 if spec.dtype is None else _TEXT_BYTES if spec.dtype.hasobject else spec.dtype.itemsize)
        if room < 0:
            raise TooLarge(
                f"output {spec.name!r} would be {list(shape)}; a placeholder answers at most {_BYTES_MAX:,} bytes"
            )
    return {spec.name: _array(spec.dtype, shape, random) for spec, shape in zip(outputs, shapes, strict=True)}


def _digest(specs: Sequence[TensorSpec], given: Mapping[str, Array], seed: int) -> int:
    digest = hashlib.blake2b(str(seed).encode(), digest_size=16)
    for spec in specs:
        array = given.get(spec.name)
        if array is None:
            continue
        digest.update(f"{spec.name!r} {array.dtype.str} {array.shape}".encode())
        if array.dtype.kind in "OSU":
            for item in array.ravel().tolist():
                content = item.encode("utf-8", "surrogateescape") if isinstance(item, str) else bytes(item)
                digest.update(b"%d:" % len(content) + content)
        else:
            digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return int.from_bytes(digest.digest(), "big")


def _shape(spec: TensorSpec, sizes: dict[str, int], random: np.random.Generator) -> tuple[int, ...]:
    shape = []
    for dim in (None,) if spec.shape is None else spec.shape:
        if dim is None:
            dim = _size(random)
        elif isinstance(dim, str):
            if dim not in sizes:
                sizes[dim] = _size(random)
            dim = sizes[dim]
        shape.append(dim)
    return tuple(shape)


def _size(random: np.random.Generator) -> int:
    return int(random.integers(1, _SIZE_MAX + 1))


def _array(dtype: np.dtype[Any] | None, shape: tuple[int, ...], random: np.random.Generator) -> Array:
    if dtype is None or dtype.kind == "f":
        wide = np.dtype(np.float32) if dtype is None else dtype
        if wide.itemsize > 2:
            return np.asarray(random.random(shape, wide.type))
        # Rounded down: 0.9999 would become 1.
        return np.asarray(random.integers(0, 2**11, shape)).astype(np.float16) / np.float16(2**11)
    if dtype.hasobject:
        return _words(shape, random)
    if dtype.kind == "b":
        return np.asarray(random.integers(0, 2, shape, np.uint8)).astype(bool)
    return np.asarray(random.integers(0, _INTEGERS, shape, dtype.type))


def _words(shape: tuple[int, ...], random: np.random.Generator) -> Array:
    words = np.empty(shape, object)
    lengths = random.integers(1, _LETTERS_MAX + 1, words.size)
    letters = _LETTERS[random.integers(0, len(_LETTERS), (words.size, _LETTERS_MAX))]
    flat = words.reshape(-1)
    flat[:] = [row[:length].tobytes() for row, length in zip(letters, lengths.tolist(), strict=True)]
    return words
