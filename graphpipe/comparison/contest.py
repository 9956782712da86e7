"""Every call is asked of every model, one right after the other: whatever else happens on the machine happens to all, and
the ratio of two neighbouring times knows nothing of it. The order is drawn anew, and then turned round once: whoever always
came behind the same one would find its traces in the caches.

The first model is the reference. A model that fails on a call is counted, and the others go on; one that fails on very many
in a row is asked no more.
"""

from __future__ import annotations

import math
import random
from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from time import perf_counter
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from graphpipe.bench.tally import Tally
from graphpipe.comparison.cut import Call
from graphpipe.comparison.difference import TRUTH, Difference, Tolerance
from graphpipe.comparison.metric import Judge
from graphpipe.comparison.names import Names
from graphpipe.comparison.sources import Source
from graphpipe.errors import GraphPipeError, ModelFailed, NoAnswer
from graphpipe.signature import Signature, fitted
from graphpipe.wire.dtypes import to_bytes

__all__ = ["Contender", "Contest"]

Array = NDArray[Any]
Arrays = dict[str, Array]
# Told how many calls of how many are done, and in words.
Show = Callable[[float, float, str], None]

# Whoever is not there any more is waited for so many times.
_SILENT_IN_A_ROW_MAX = 3
_FAILED_IN_A_ROW_MAX = 1000


class Asked(Protocol):
    """Who can be asked: what ``graphpipe.load`` gives, or a client."""

    def infer(self, inputs: Any, outputs: Any = None, *, timeout: float | None = None) -> Any:
        """Named arrays in, named arrays out."""
        ...


@dataclass(slots=True)
class Contender:
    """One of the models, and what has come of it. ``seconds`` has a time for each call of every pass, NaN for a failed one.

    ``rows`` are those of good answers, ``first_failed`` is the first call that failed.
    """

    name: str
    source: str
    model: Asked
    names: Names
    signature: Signature
    judge: Judge | None = None
    tally: Tally = field(default_factory=Tally)
    seconds: array[float] = field(default_factory=lambda: array("d"))
    rows: int = 0
    first_failed: str = ""
    given_up: bool = False
    _failed_in_a_row: int = 0

    def ask(self, inputs: Mapping[str, Array], timeout_s: float | None) -> tuple[Arrays, float]:
        """Its answer under the reference's names, and how long it took. Raises whatever comes of it."""
        given = {self.names.inputs.get(name, name): value for name, value in inputs.items()}
        wanted = None if self.names.outputs is None else list(self.names.outputs.values())
        began = perf_counter()
        outputs = self.model.infer(given, wanted, timeout=timeout_s)
        took = perf_counter() - began
        if self.names.outputs is not None:
            outputs = {name: outputs[own] for name, own in self.names.outputs.items()}
        return {name: _comparable(value) for name, value in outputs.items()}, took

    def took(self, seconds: float, rows: int) -> None:
        """A good answer came after so long."""
        self.seconds.append(seconds)
        self.rows += rows
        self._failed_in_a_row = 0

    def fail(self, error: BaseException, call: str) -> None:
        """A call ended in an error."""
        self.seconds.append(math.nan)
        self.first_failed = self.first_failed or call
        if isinstance(error, ModelFailed) and error.__cause__ is not None:
            from graphpipe.backends.failure import in_words

            # The model is the caller's own: there is no server's log to look it up in.
            error = ModelFailed(f"{error.message}: {in_words(error.__cause__)}")
        self.tally.fail(error)
        self._failed_in_a_row += 1
        silent = isinstance(error, NoAnswer) and self._failed_in_a_row >= _SILENT_IN_A_ROW_MAX
        self.given_up = silent or self._failed_in_a_row >= _FAILED_IN_A_ROW_MAX

    def skip(self) -> None:
        """It is asked no more."""
        self.seconds.append(math.nan)


class Contest:
    """Some contenders over one source of calls. What has come so far may be looked at at any time."""

    def __init__(
        self,
        contenders: Sequence[Contender],
        source: Source,
        *,
        tolerance: Tolerance,
        scores: Sequence[str] = (),
        timeout_s: float | None = None,
        cast: bool = False,
    ) -> None:
        self.contenders = list(contenders)
        self.source = source
        self.tolerance, self.scores = tolerance, tuple(scores)
        self.differences: dict[tuple[str, str, str], Difference] = {}
        self.calls = self.rows = self.passes = 0
        self._timeout_s, self._cast = timeout_s, cast
        self._order, self._turns = [*self.contenders], 0
        self._chance = random.Random(0)

    def warm_up(self, rounds: int) -> None:
        """Ask the first call so many times, and count nothing."""
        call = next(iter(islice(self.source, 1)), None)
        inputs = {} if call is None else self._inputs(call)
        for _ in range(rounds if call is not None else 0):
            for each in self._in_turn():
                try:
                    each.ask(inputs, self._timeout_s)
                except GraphPipeError:
                    continue  # it will be counted when it counts

    def run(self, repeat: int, show: Show = lambda done, total, words: None) -> None:
        """All calls, so many times over. Answers are compared and judged in the first pass; times are taken in all."""
        total = float(self.source.calls * repeat)
        for passed in range(repeat):
            for call in self.source:
                self._one(call, compared=passed == 0)
                self.calls += 1
                self.rows += call.rows
                show(self.calls, total, f"{self.calls:,} of {total:,.0f} calls")
            self.passes += 1

    def _one(self, call: Call, *, compared: bool) -> None:
        inputs = self._inputs(call)
        answers: dict[str, Arrays] = {}
        for each in self._in_turn():
            if each.given_up:
                each.skip()
                continue
            try:
                answer, took = each.ask(inputs, self._timeout_s)
            except GraphPipeError as error:
                each.fail(error, call.name)
                continue
            each.took(took, call.rows)
            if compared:
                answers[each.name] = answer
        if compared:
            self._compare(call, inputs, answers)

    def _inputs(self, call: Call) -> Arrays:
        """A call's inputs, which nobody may write to; once for all, in the types that the reference takes, if so."""
        inputs: Arrays = dict(call.inputs)
        if self._cast:
            dtypes = {spec.name: spec.dtype for spec in self.contenders[0].signature.inputs}
            inputs = {name: fitted(value, dtypes.get(name), True, name) for name, value in inputs.items()}
        return {name: _read_only(value) for name, value in inputs.items()}

    def _in_turn(self) -> list[Contender]:
        """All of them, in an order that nobody has for long."""
        self._turns += 1
        if self._turns % 2:
            self._chance.shuffle(self._order)
        else:
            self._order.reverse()
        return self._order

    def _compare(self, call: Call, inputs: Arrays, answers: Mapping[str, Arrays]) -> None:
        truth = {name: _read_only(_comparable(value)) for name, value in call.truth.items()}
        reference = self.contenders[0]
        for each in self.contenders:
            if (answer := answers.get(each.name)) is None:
                continue
            if each is not reference and reference.name in answers:
                self._hold(call, each.name, reference.name, answers[reference.name], answer)
            self._hold(call, each.name, TRUTH, truth, answer)
            if each.judge is not None:
                shown = {name: _read_only(value) for name, value in answer.items()}
                each.judge.see(inputs, shown, truth, call.rows)

    def _hold(self, call: Call, model: str, reference: str, theirs: Mapping[str, Array], answer: Arrays) -> None:
        for name, value in theirs.items():
            if name not in answer:
                continue
            known = self.differences.get((model, reference, name))
            if known is None:
                known = Difference(model, reference, name, self.tolerance)
                self.differences[model, reference, name] = known
            has_rows = call.first_row is not None and value.shape[:1] == (call.rows,)
            known.add(call.name, value, answer[name], call.first_row if has_rows else None)
            # An output [n] of n rows has no scores along its only axis.
            if name in self.scores or not (self.scores or (has_rows and value.ndim == 1)):
                known.add_scores(value, answer[name])


def _comparable(value: Any) -> Array:
    """Text as bytes, as it travels; numbers as they are."""
    found = np.asarray(value)
    if found.dtype.kind not in "OSU":
        return found
    texts = np.empty(found.size, object)
    texts[:] = [to_bytes(item, "text") for item in found.reshape(-1)]
    return texts.reshape(found.shape)


def _read_only(value: Array) -> Array:
    view = value.view()
    view.flags.writeable = False
    return view
