"""Whether more rows in a call make a row cheaper, learned from how long the calls take.

On an accelerator, or where large matrices have to be read for each call, a row among 32 costs a fraction of a row alone. A
convolutional net on a CPU takes as long for each of them, and joining would only add copies and keep threads waiting for
callers that are all in the other thread's batch. So batches stop growing where a row gets no cheaper. Now and then one of
another size is run, since it is not known otherwise what it would cost; the more rarely, the longer the answer has been the
same, since everybody in such a batch waits for all of it.
"""

from __future__ import annotations

__all__ = ["BatchGain"]

# Batching has to save this share of a row's time: less is lost again in copies and waiting, or was only noise.
_GAIN_MIN = 0.25
# Faster calls are dominated by what surrounds them.
_CALL_S_MIN = 0.002
_SAMPLES_MIN = 8
# What counts is what a call takes when nothing gets in its way: a first call that compiles is soon forgotten.
_WEIGHT_IF_QUICKER, _WEIGHT_IF_SLOWER = 0.5, 0.05
# Another size is tried after so many batches; when that has been done often enough, after twice as many each time.
_TRY_AFTER = 32
_TRY_AFTER_MAX = 512


class BatchGain:
    """Of one model. Sizes are looked at by powers of two: 1, 2, 3 to 4, 5 to 8 rows, ..."""

    def __init__(self, rows_max: int) -> None:
        self._rows_max = rows_max
        sizes = (rows_max - 1).bit_length() + 1
        self._row_s = [0.0] * sizes
        self._samples = [0] * sizes
        self._tries = 0
        self._try_after = self._until_try = _TRY_AFTER
        self.rows_worth = rows_max

    def rows_for_next(self) -> int:
        """How many rows the next batch may have at most."""
        self._until_try -= 1
        if self._until_try:
            return self.rows_worth
        rows = 1 if self.rows_worth == self._rows_max else self._rows_max
        self._tries += 1
        if self._tries >= _SAMPLES_MIN:
            self._try_after = min(2 * self._try_after, _TRY_AFTER_MAX)
        self._until_try = self._try_after
        return rows

    def ran(self, rows: int, seconds: float) -> None:
        """A call with so many rows took so long."""
        if not 0 < rows <= self._rows_max:
            return
        size = (rows - 1).bit_length()
        if self._samples[size]:
            difference = seconds / rows - self._row_s[size]
            self._row_s[size] += (_WEIGHT_IF_QUICKER if difference < 0 else _WEIGHT_IF_SLOWER) * difference
        else:
            self._row_s[size] = seconds / rows
        self._samples[size] += 1
        worth = self._worth()
        if worth != self.rows_worth:
            self.rows_worth = worth
            self._tries = 0
            self._try_after = self._until_try = _TRY_AFTER

    def _worth(self) -> int:
        known = [size for size, samples in enumerate(self._samples) if samples >= _SAMPLES_MIN]
        for size in known[:-1]:
            alone = self._row_s[size]
            if alone * 2**size >= _CALL_S_MIN and all(
                self._row_s[larger] > alone * (1 - _GAIN_MIN) for larger in known if larger > size
            ):
                return min(1 << size, self._rows_max)
        return self._rows_max
