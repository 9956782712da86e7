"""Two models' answers held against each other, call by call: of each output no more is kept than sums and the worst place.

Numbers are compared as float64, whatever their types are, and whole numbers exactly. NaN equals NaN, and an infinity the
same infinity; against anything else both are *beyond* every tolerance, and in no mean, since a single one would be all
that it says.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphpipe.wire.dtypes import dtype_name, to_bytes
from graphpipe.words import counted

__all__ = ["TRUTH", "Difference", "Place", "Tolerance"]

Array = NDArray[Any]

# What the data say is to come out is a reference too, of this name.
TRUTH = "expected"

# Numbers, text, and what libraries add to numpy's numbers (bfloat16).
_COMPARED = "biufOSUV"
# So many elements at a time: the numbers as float64, and what is made of them, stay small beside the answers.
_PIECE = 1 << 18
# Rows that sum to 1 within so much, and are nowhere less than 0, are probabilities.
_SUM_WITHIN = 1e-3
_TEXT_MAX = 80


@dataclass(frozen=True, slots=True)
class Tolerance:
    """Two numbers agree where ``|b - a| <= atol + rtol * |a|``, a being the reference's."""

    rtol: float = 1e-5
    atol: float = 1e-6


@dataclass(frozen=True, slots=True)
class Place:
    """Where two answers differ, and what stands there: in which call, or row, and at which index of its output."""

    call: str
    index: tuple[int, ...]
    reference: float | int | str
    other: float | int | str

    def __str__(self) -> str:
        where = f"{list(self.index)}" if self.index else ""
        return f"{self.call}{where and ' '}{where}: {_shown(self.other)} for {_shown(self.reference)}"


@dataclass(slots=True)
class Difference:
    """How the output ``output`` of ``model`` differs from that of ``reference``, over all calls so far.

    ``elements`` were compared; ``beyond`` of them differ by more than the tolerance, or at all where they are text, and
    ``first`` is the first of these. ``not_finite`` are NaN or infinite against something else. ``not_alike`` counts calls
    whose answers cannot be compared, and ``mismatch`` is what the first of them were: shapes, or text and numbers.
    ``scores`` are rows whose highest element was looked for, ``other_highest`` those where it is at another place.
    """

    model: str
    reference: str
    output: str
    tolerance: Tolerance = Tolerance()
    calls: int = 0
    elements: int = 0
    text: bool = False
    beyond: int = 0
    first: Place | None = None
    max_abs: float = 0.0
    max_rel: float = 0.0
    not_finite: int = 0
    not_alike: int = 0
    mismatch: str = ""
    scores: int = 0
    other_highest: int = 0
    are_probabilities: bool = True
    _sum_abs: float = field(default=0.0, repr=False)

    @property
    def mean_abs(self) -> float:
        """The mean of the distances of all elements that are finite."""
        compared = self.elements - self.not_finite
        return self._sum_abs / compared if compared else 0.0

    @property
    def share_beyond(self) -> float:
        """The share of elements beyond tolerance; of text, of those that are unequal."""
        return self.beyond / self.elements if self.elements else 0.0

    @property
    def is_from_truth(self) -> bool:
        """Whether it is the difference from what the data say, and from no model."""
        return self.reference == TRUTH

    def highest(self, scores: Sequence[str]) -> float | None:
        """The share of rows whose highest score is at another place; None where the output has no class scores: it is not
        among ``scores``, or, where these are empty, not always probabilities.
        """
        if not self.scores or (self.output not in scores if scores else not self.are_probabilities):
            return None
        return self.other_highest / self.scores

    def over(self, limit: float) -> str:
        """In words, that a number differs by more than ``limit``, a text at all, or that two answers were not comparable;
        empty if none of it is so.
        """
        where = f"{self.model}, output {self.output}"
        if self.not_alike:
            return f"{where}: {counted(self.not_alike, 'answer')} not comparable: {self.mismatch}"
        if self.text and self.beyond:
            return f"{where}: {self.beyond:,} of {counted(self.elements, 'text')} unequal"
        if self.not_finite:
            return f"{where}: {counted(self.not_finite, 'element')} NaN or infinite against something else"
        return f"{where}: a difference of {self.max_abs:.3g} is over {limit:g}" if self.max_abs > limit else ""

    def add(self, call: str, reference: Array, other: Array, first_row: int | None = None) -> None:
        """Hold two arrays against each other. ``first_row`` is their first row's number among all, if they have rows."""
        self.calls += 1
        if reference.shape != other.shape:
            return self._mismatched(call, f"shape {list(reference.shape)}", f"{list(other.shape)}")
        texts = _is_text(reference), _is_text(other)
        if texts[0] != texts[1] or not {reference.dtype.kind, other.dtype.kind} <= set(_COMPARED):
            return self._mismatched(call, dtype_name(reference.dtype), dtype_name(other.dtype))
        self.text = self.text or texts[0]
        found = self._texts(reference, other) if texts[0] else self._numbers(reference, other)
        if found is not None and self.first is None:
            index = tuple(int(i) for i in np.unravel_index(found, reference.shape))
            here = _item(reference[index]), _item(other[index])
            if first_row is not None and index:
                call, index = f"row {first_row + index[0]}", index[1:]
            self.first = Place(call, index, *here)
        self.elements += reference.size
        return None

    def add_scores(self, reference: Array, other: Array) -> None:
        """Look which element of each row is the highest, the rows being along the last axis: those of class scores."""
        if reference.shape != other.shape or reference.dtype.kind != "f" or other.dtype.kind != "f":
            return
        if not reference.ndim or reference.shape[-1] < 2:
            return
        rows = reference.reshape(-1, reference.shape[-1])
        others = other.reshape(rows.shape)
        self.scores += len(rows)
        self.other_highest += int(np.count_nonzero(rows.argmax(axis=1) != others.argmax(axis=1)))
        if self.are_probabilities:
            sums = rows.sum(axis=1, dtype=np.float64)
            self.are_probabilities = bool((np.abs(sums - 1) <= _SUM_WITHIN).all() and (rows >= 0).all())

    def _mismatched(self, call: str, reference: str, other: str) -> None:
        self.not_alike += 1
        self.mismatch = self.mismatch or f"{call}: {reference} against {other}"

    def _texts(self, reference: Array, other: Array) -> int | None:
        """Compare text, and give the place of the first that is unequal among all elements."""
        unequal = np.fromiter(
            (_bytes(a) != _bytes(b) for a, b in zip(reference.flat, other.flat, strict=True)), bool, reference.size
        )
        self.beyond += int(np.count_nonzero(unequal))
        return int(unequal.argmax()) if unequal.any() else None

    def _numbers(self, reference: Array, other: Array) -> int | None:
        first = None
        for start, a, b in _pieces(reference, other):
            beyond = self._piece(a, b)
            if first is None and beyond.any():
                first = start + int(beyond.argmax())
        return first

    def _piece(self, reference: Array, other: Array) -> NDArray[np.bool_]:
        """Count some elements in, and say which of them are beyond tolerance."""
        a, b = reference.astype(np.float64), other.astype(np.float64)
        with np.errstate(all="ignore"):
            same = (reference == other) | (np.isnan(a) & np.isnan(b))
            distance = np.abs(b - a)
            if reference.dtype.kind in "biu" and other.dtype.kind in "biu":
                # Two whole numbers that are one float64.
                distance[~same & (distance == 0)] = 1
            distance[same] = 0
            size = np.abs(a)
            finite = np.isfinite(distance)
            relative = distance / size
        beyond: NDArray[np.bool_] = ~finite | (distance > self.tolerance.atol + self.tolerance.rtol * size)
        self.beyond += int(np.count_nonzero(beyond))
        self.not_finite += int(len(finite) - np.count_nonzero(finite))
        self.max_abs = max(self.max_abs, float(distance.max(initial=0, where=finite)))
        self.max_rel = max(self.max_rel, float(relative.max(initial=0, where=np.isfinite(relative))))
        self._sum_abs += float(distance.sum(where=finite))
        return beyond


def _pieces(reference: Array, other: Array) -> Iterator[tuple[int, Array, Array]]:
    a, b = reference.reshape(-1), other.reshape(-1)
    for start in range(0, len(a), _PIECE):
        yield start, a[start : start + _PIECE], b[start : start + _PIECE]


def _is_text(array: Array) -> bool:
    return array.dtype.kind in "OSU"


def _bytes(item: Any) -> bytes:
    return to_bytes(item, "text")


def _item(value: Any) -> float | int | str:
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if isinstance(value, str):
        return str(value) if len(value) <= _TEXT_MAX else f"{value[:_TEXT_MAX]}..."
    plain: float | int = value.item() if isinstance(value, np.generic) else value
    return plain


def _shown(value: float | int | str) -> str:
    if isinstance(value, float):
        return f"{value:.7g}" if math.isfinite(value) else str(value)
    return repr(value) if isinstance(value, str) else str(value)
