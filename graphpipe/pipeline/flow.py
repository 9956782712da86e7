"""The model that a pipeline is: its stages' models, run one after another on what has been given so far."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from time import monotonic, perf_counter
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from graphpipe.backends.model import Model
from graphpipe.errors import DeadlineExceeded, InvalidRequest
from graphpipe.machine import usable_cpus
from graphpipe.pipeline.branches import Branches, producers
from graphpipe.pipeline.part import Part
from graphpipe.pipeline.step import Step
from graphpipe.pipeline.wiring import Wire, wired
from graphpipe.signature import Signature
from graphpipe.words import listed, nearest, quoted

__all__ = ["Flow", "StageOf", "Turn"]

Array = NDArray[Any]

_PLANS_MAX = 64


class StageOf(NamedTuple):
    """One stage: its name, its model, and from its own names to the pipeline's what it takes and gives.

    What a function gives that says nothing of it is not there.
    """

    name: str
    model: Model
    takes: dict[str, str]
    gives: dict[str, str]


class Turn(NamedTuple):
    """What is asked of one stage, by its own names (None: all), and the values that nobody needs after it."""

    asked: tuple[str, ...] | None
    done: tuple[str, ...]


class Flow:
    """A model made of models. As safe in threads as they are.

    What one stage gives the next one takes as it is: neither copied nor converted, but checked. All stages run on every
    request. A stage that fails is named in the error.
    """

    kind = "pipeline"

    def __init__(
        self,
        parts: Sequence[Part],
        name: str,
        inputs: Sequence[str] | None = None,
        outputs: Sequence[str] | None = None,
    ) -> None:
        self.parts = tuple(parts)
        self.name = name
        # What was said of the whole, for whoever writes it down.
        self.said: tuple[Sequence[str] | None, Sequence[str] | None] = (inputs, outputs)
        wiring = wired(parts, inputs, outputs)
        self.wires = wiring.wires
        self._signature = wiring.signature
        self.output_names = wiring.outputs
        self.steps = tuple([Step(part, wire) for part, wire in zip(parts, wiring.wires, strict=True)])
        # Of each stage the stages that it waits for; None where only running them shows it.
        self.sources = producers(self.wires)
        branches = None if self.sources is None else Branches(self.sources)
        self._branches = branches if branches is not None and branches.are_there else None
        self._turns: dict[tuple[str, ...] | None, tuple[Turn, ...]] = {}
        models = [part.model for part in parts]
        self.description = f"pipeline: {' -> '.join(part.name for part in parts)}"
        self.keeps_deadlines = all(getattr(model, "keeps_deadlines", False) for model in models)
        self.quick = all(getattr(model, "quick", False) for model in models)
        self.gives_inputs = all(getattr(model, "gives_inputs", False) for model in models)
        self.shares_segments = any(getattr(model, "shares_segments", False) for model in models)
        # Of a stage that waits more than it works there may be many calls.
        self.threads = max([int(getattr(model, "threads", 0) or 0) for model in models])
        if self.threads < usable_cpus():
            self.threads = 0

    @property
    def signature(self) -> Signature:
        """What the first stages take and nobody before them gives, and what the last one gives, or was asked for."""
        return self._signature

    @property
    def flow(self) -> Flow:
        """The pipeline itself: whatever is around it, a problem say, passes this on."""
        return self

    def with_models(self, models: Mapping[str, Model]) -> Flow:
        """The same with other models for some stages. Raises LoadError where one does not fit between the others."""
        parts = [part.with_model(models[part.name]) if part.name in models else part for part in self.parts]
        return Flow(parts, self.name, *self.said)

    @property
    def stages(self) -> tuple[StageOf, ...]:
        """The stages in their order."""
        pairs = zip(self.parts, self.wires, strict=True)
        return tuple([StageOf(p.name, p.model, {**wire.takes, **wire.may_take}, dict(wire.gives)) for p, wire in pairs])

    @property
    def settings(self) -> dict[str, dict[str, Any]]:
        """What was said of each stage that only a server can do, by the stage's name."""
        return {part.name: dict(part.settings) for part in self.parts}

    @property
    def version(self) -> str:
        """A digest of the stages' versions and names; empty where one has none, or may be another model tomorrow."""
        said: list[Any] = [self.output_names]
        for part, wire in zip(self.parts, self.wires, strict=True):
            own = str(getattr(part.model, "version", ""))
            if not own or hasattr(part.model, "current_version"):
                return ""
            said.append([part.name, own, dict(wire.takes), dict(wire.may_take), dict(wire.gives), dict(wire.renames)])
        return hashlib.sha256(json.dumps(said).encode()).hexdigest()

    def infer(
        self,
        inputs: Mapping[str, Array],
        outputs: Sequence[str] | None = None,
        *,
        config: str = "",
        timeout_s: float | None = None,
    ) -> dict[str, Array]:
        """Run all stages. ``outputs`` may be any names under which a stage gives something."""
        return self._run(inputs, outputs, config, timeout_s, None)

    def timed_infer(
        self,
        inputs: Mapping[str, Array],
        outputs: Sequence[str] | None = None,
        *,
        config: str = "",
        timeout_s: float | None = None,
    ) -> tuple[dict[str, Array], dict[str, float]]:
        """The same one stage after another, and the seconds that each took, by its name."""
        seconds: dict[str, float] = {}
        return self._run(inputs, outputs, config, timeout_s, seconds), seconds

    def _run(
        self,
        inputs: Mapping[str, Array],
        outputs: Sequence[str] | None,
        config: str,
        timeout_s: float | None,
        seconds: dict[str, float] | None,
    ) -> dict[str, Array]:
        wanted = tuple(outputs) if outputs else self.output_names
        until = None if timeout_s is None else monotonic() + timeout_s
        turns, branches = self.turns(wanted), self._branches
        if branches is None or seconds is not None:
            return self.answer(inputs, wanted, *self._in_order(inputs, turns, config, until, seconds))
        began = perf_counter()
        if side_by_side := branches.choose():
            given = self._side_by_side(branches, inputs, turns, config, until)
        else:
            given = self._in_order(inputs, turns, config, until, None)
        branches.took(side_by_side, perf_counter() - began)
        return self.answer(inputs, wanted, *given)

    def _in_order(
        self,
        inputs: Mapping[str, Array],
        turns: Sequence[Turn],
        config: str,
        until: float | None,
        seconds: dict[str, float] | None,
    ) -> tuple[dict[str, Array], Mapping[str, Array]]:
        """All values that are left at the end, and those of the last stage."""
        values = dict(inputs)
        last: Mapping[str, Array] = inputs
        for step, turn in zip(self.steps, turns, strict=True):
            began = perf_counter() if seconds is not None else 0.0
            last = step.run(values, last, turn.asked, config, self._left_s(step, until))
            if seconds is not None:
                seconds[step.name] = perf_counter() - began
            values.update(last)
            for name in turn.done:
                values.pop(name, None)
        return values, last

    def _side_by_side(
        self, branches: Branches, inputs: Mapping[str, Array], turns: Sequence[Turn], config: str, until: float | None
    ) -> tuple[dict[str, Array], Mapping[str, Array]]:
        def run(stage: int, values: dict[str, Array]) -> dict[str, Array]:
            step = self.steps[stage]
            return step.run(values, {}, turns[stage].asked, config, self._left_s(step, until))

        values = dict(inputs)
        given = branches.run(inputs, run)
        for each in given:
            values.update(each)
        return values, given[-1]

    def _left_s(self, step: Step, until: float | None) -> float | None:
        if until is None:
            return None
        left_s = until - monotonic()
        if left_s <= 0:
            raise DeadlineExceeded(f"the caller's deadline passed before stage {step.name!r} of {self.name!r}")
        return left_s

    def answer(
        self,
        inputs: Mapping[str, Array],
        wanted: tuple[str, ...] | None,
        values: dict[str, Array],
        last: Mapping[str, Array],
    ) -> dict[str, Array]:
        """What was ``wanted`` of the values when all stages have run; None is all that the last one gave."""
        if wanted is None:
            return dict(last)
        try:
            return {name: values[name] for name in wanted}
        except KeyError as error:
            missing = error.args[0]
        known = [name for name in values if name not in inputs]
        raise InvalidRequest(
            f"there is no output {quoted(missing)}; the stages of this pipeline gave {listed(known) or 'nothing'}"
            f"{nearest(missing, known)}"
        )

    def turns(self, wanted: tuple[str, ...] | None) -> tuple[Turn, ...]:
        """What is asked of each stage where these names are ``wanted``: values that no stage needs are not asked for."""
        turns = self._turns.get(wanted)
        if turns is None:
            if len(self._turns) >= _PLANS_MAX:
                self._turns.clear()
            turns = self._turns[wanted] = tuple(_turns(self.wires, wanted))
        return turns

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """An array for an input, of no particular content, where a stage takes it from, if one has such a place."""
        for part in self.parts:
            if (own := getattr(part.model, "empty", None)) is not None:
                made: Array = own(shape, dtype)
                return made
        return np.empty(shape, dtype)

    def self_test(self) -> None:
        """Run the tests that the stages bring along. Raises TestFailed with what is different."""
        for part in self.parts:
            own = getattr(part.model, "self_test", None)
            if callable(own):
                own()

    def close(self) -> None:
        """Close the stages that were loaded for this pipeline, the last one first; those that were handed over stay open."""
        failed: BaseException | None = None
        if self._branches is not None:
            self._branches.close()
        for part in reversed(self.parts):
            if part.is_ours:
                try:
                    part.model.close()
                except BaseException as error:  # the others are closed all the same
                    failed = failed or error
        if failed is not None:
            raise failed


def _turns(wires: Sequence[Wire], wanted: tuple[str, ...] | None) -> list[Turn]:
    """What to ask of each stage, and what to let go of after it: no value is held longer than somebody needs it."""
    kept = set(wanted if wanted is not None else wires[-1].gives.values())
    turns: list[Turn] = []
    needed = set(kept)
    for i in reversed(range(len(wires))):
        wire = wires[i]
        takes = {*wire.takes.values(), *wire.may_take.values()}
        done = tuple(sorted(takes - needed))
        needed |= takes
        # A stage that takes everything, and one that runs for its own sake, get their way.
        whole = i + 1 < len(wires) and wires[i + 1].takes_all
        asked = None if wire.open or whole else tuple([own for own, name in wire.gives.items() if name in needed])
        turns.append(Turn(asked or None, done))
    return turns[::-1]
