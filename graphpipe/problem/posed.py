"""A model behind a problem's names and promises."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from numpy.typing import NDArray

from graphpipe.errors import ModelFailed
from graphpipe.problem.fit import fit
from graphpipe.problem.promise import BrokenPromise, Promise
from graphpipe.signature import Signature, TensorSpec
from graphpipe.timed import timed

__all__ = ["Answers", "Posed"]

Array = NDArray[Any]

_NAMELESS = re.compile(r"output_\d+")


class Answers(Protocol):
    """What a problem is posed to: a model, whoever made it."""

    @property
    def signature(self) -> Signature:
        """What it takes and gives."""
        ...

    def infer(self, inputs: Any, outputs: Any, /, *, config: str = "") -> Any:
        """Named arrays in, named arrays out."""
        ...

    def close(self) -> None:
        """Give back what it holds."""
        ...


class Posed:
    """A model that takes and gives what a problem says, under the problem's names.

    Inputs have been checked against the signature, as any model's are. Each answer is held against what was promised, and a
    wrong one is ModelFailed: whoever asked gets what the problem says, or an error. Nothing is converted.
    """

    def __init__(
        self,
        model: Answers,
        signature: Signature,
        name_map: Mapping[str, str],
        name: str,
        problem: str,
        self_test: Callable[[Posed], None],
    ) -> None:
        called = f"model {name!r}" if name else "the model"
        posed = f"{called} does not fit {f'problem {problem!r}' if problem else 'the problem'}"
        shown = model.signature
        self._inputs, self._outputs = fit(signature.inputs, signature.outputs, shown, name_map, posed)
        self._signature = _with_what_is_known(signature, self._inputs, shown)
        self.model = model
        self._made_of = signature, name_map, name, problem, self_test
        self._run = timed(model)
        self._promise = Promise(self._signature.inputs, signature.outputs)
        self._names = tuple(self._outputs)
        self._known_as = tuple(self._outputs.values())
        self._renames = any(name != known for name, known in self._inputs.items())
        # A function that declares nothing numbers what it gives, and is asked for all of it.
        self._by_place = shown.open_outputs and not shown.outputs
        self._breaks = f"{called} breaks its problem{f' {problem!r}' if problem else ''}"
        self._own_test = self_test

    @property
    def signature(self) -> Signature:
        """The problem's. What that leaves unsaid of an input, its type or its shape, is the model's to say."""
        return self._signature

    def infer(
        self,
        inputs: Mapping[str, Array],
        outputs: Sequence[str] | None = None,
        *,
        config: str = "",
        timeout_s: float | None = None,
    ) -> dict[str, Array]:
        """Run the model, and give what was promised. Raises ModelFailed for an answer that is something else."""
        asked = self.asked(outputs)
        return self.held(inputs, self._run(self.taken(inputs), asked, config, timeout_s), outputs)

    def taken(self, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        """The inputs by the model's names."""
        return self._renamed(inputs) if self._renames or self._by_place else inputs

    def asked(self, outputs: Sequence[str] | None) -> tuple[str, ...] | None:
        """The outputs by the model's names; None where it is asked for all that it gives."""
        if self._by_place:
            return None
        return tuple([self._outputs[name] for name in outputs]) if outputs else self._known_as

    def held(self, inputs: Mapping[str, Array], given: Any, outputs: Sequence[str] | None) -> dict[str, Array]:
        """What the model gave, as it was promised. Raises ModelFailed for an answer that is something else."""
        wanted = tuple(outputs) if outputs else self._names
        if self._by_place and self._is_numbered(given):
            given, known_as = dict(zip(self._names, given.values(), strict=True)), wanted
        else:
            known_as = tuple([self._outputs[name] for name in outputs]) if outputs else self._known_as
        try:
            return self._promise.held(inputs, given, wanted, known_as)
        except BrokenPromise as error:
            words = str(error)
        # Out here: an error that remembers the other would keep what that came through, the request's memory.
        raise ModelFailed(f"{self._breaks}: {words}")

    def again(self, model: Answers) -> Posed:
        """Another model with the same problem. Raises LoadError where it does not fit."""
        return Posed(model, *self._made_of)

    def _renamed(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        # In the problem's order: a function may take them by place.
        return {known: inputs[name] for name, known in self._inputs.items()}

    def _is_numbered(self, given: Any) -> bool:
        return (
            isinstance(given, Mapping)
            and len(given) == len(self._names)
            and all(_NAMELESS.fullmatch(str(name)) for name in given)
        )

    def self_test(self) -> None:
        """Run the problem's tests, and whatever test the model has itself. Raises TestFailed with what is different."""
        inner = getattr(self.model, "self_test", None)
        if callable(inner):
            inner()
        self._own_test(self)

    def close(self) -> None:
        """Close the model."""
        self.model.close()

    def __getattr__(self, name: str) -> Any:
        # version, description and whatever else a model may have.
        return getattr(self.model, name)


def _with_what_is_known(signature: Signature, names: Mapping[str, str], model: Signature) -> Signature:
    known = {spec.name: spec for spec in model.inputs}
    return Signature(
        tuple([_narrowed(spec, known.get(names[spec.name])) for spec in signature.inputs]), signature.outputs
    )


def _narrowed(spec: TensorSpec, known: TensorSpec | None) -> TensorSpec:
    if known is None or known.repeated or (spec.dtype is not None and spec.shape is not None):
        return spec
    shape = spec.shape
    if shape is None and known.shape is not None:
        # The model's symbols are not the problem's.
        shape = tuple([dim if isinstance(dim, int) else None for dim in known.shape])
    dtype = known.dtype if spec.dtype is None else spec.dtype
    return TensorSpec(spec.name, dtype, shape, spec.description)
