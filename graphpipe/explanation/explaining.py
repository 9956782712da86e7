"""From a loaded model to what there is to be said about it: it is looked at, asked some times, and its parts are timed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphpipe.backends.loaded import LoadedModel
from graphpipe.backends.profile import Profile
from graphpipe.bench.requests import Request
from graphpipe.errors import InvalidRequest
from graphpipe.explanation.explained import Explained, Part, Value
from graphpipe.signature import Signature, TensorSpec
from graphpipe.wire.dtypes import dtype_name, to_bytes, to_sendable
from graphpipe.words import counted, first_line

__all__ = ["explain"]

Array = NDArray[Any]
Arrays = Mapping[str, Array]

# A slow model is asked less often than it was said: nobody waits for twenty calls of a second each.
_MEASURING_S_MAX = 10.0


def explain(
    model: LoadedModel, request: Request | None, runs: int, *, kind: str = "", unmeasured: str = "nothing was asked"
) -> Explained:
    """Look at a model, and ask it ``request`` up to ``runs`` times after a first one that does not count.

    Without a request, or any runs, nothing is asked, and ``unmeasured`` says why. ``kind`` is what the model is where it
    does not say so itself. Raises what the model does.
    """
    inputs: dict[str, Array] = {}
    seen: dict[str, Array] = {}
    seconds: float | None = None
    calls = 0
    of_stages: dict[str, float] = {}
    profile: Profile | None = None
    notes: list[str] = []
    answered: tuple[str, ...] = ()
    is_pipeline = _is_pipeline(model)
    if request is not None and runs > 0:
        inputs = _named(request, model.signature)
        seen = _ask(model, request)
        calls, seconds = _times(lambda: _ask(model, request), runs)
        if is_pipeline:
            answered = tuple(seen)
            of_stages, between, why_not = _stages_measured(model.model, inputs, calls)
            seen = {**between, **seen}
            notes += [why_not] if why_not else []
        else:
            profile, why_not = _profile(model, inputs, calls)
            notes += [why_not] if why_not else []
    about = _about(model, kind, request, seconds, calls, unmeasured)
    if is_pipeline:
        outputs = answered or model.signature.output_names
        return _of_stages(model, about, of_stages, inputs, {**inputs, **seen}, outputs, notes)
    if profile is not None and profile.run:
        return _of_operators(model, about, profile, {**inputs, **seen}, notes)
    return _of_one(model, about, inputs, seen, notes)


def _about(
    model: LoadedModel, kind: str, request: Request | None, seconds: float | None, calls: int, unmeasured: str
) -> dict[str, Any]:
    return {
        "name": model.name,
        "source": model.source,
        "kind": str(getattr(model.model, "kind", "") or kind or "model"),
        "runtime": str(getattr(model.model, "runtime", "") or ""),
        "version": model.version,
        "description": model.description,
        "asked": "" if request is None or seconds is None else str(request),
        "runs": calls,
        "seconds": seconds,
        "unmeasured": "" if seconds is not None else unmeasured,
    }


# --- measuring ---


def _times(work: Callable[[], object], runs: int) -> tuple[int, float]:
    """How often it was done, and the median of the seconds that it took."""
    found: list[float] = []
    begin = perf_counter()
    while len(found) < runs and (not found or perf_counter() - begin < _MEASURING_S_MAX):
        start = perf_counter()
        work()
        found.append(perf_counter() - start)
    return len(found), median(found)


def _ask(model: LoadedModel, request: Request) -> dict[str, Array]:
    inputs = _named(request, model.signature)
    return model.infer(inputs, request.outputs or None, config=request.config)


def _named(request: Request, signature: Signature) -> dict[str, Array]:
    """The arrays of a request by name, where some have only a place."""
    defaults = signature.input_names
    names = [name or (defaults[i] if i < len(defaults) else f"input_{i}") for i, name in enumerate(request.names)]
    return dict(zip(names, request.arrays, strict=True))


def _profile(model: LoadedModel, inputs: Arrays, runs: int) -> tuple[Profile | None, str]:
    """Where the time goes inside of the model, if it knows; else why not, if there is more to be said."""
    own = getattr(model.model, "profile", None)
    if own is None:
        return None, ""
    try:
        return own(inputs, runs), ""
    except Exception as error:  # measuring it so is more than the model ever promised
        return None, f"its operators cannot be measured: {first_line(error)}"


# --- pipelines ---


def _is_pipeline(model: LoadedModel) -> bool:
    """Whether it is one, or what stands before one and calls its inputs and outputs as it does."""
    timed = getattr(model.model, "timed_infer", None)
    if timed is None or not hasattr(model.model, "stages"):
        return False
    own = getattr(timed, "__self__", model.model).signature
    shown = model.signature
    return {spec.name for spec in own.inputs} == {spec.name for spec in shown.inputs} and set(shown.output_names) <= {
        *own.output_names,
        *(whole for stage in model.model.stages for whole in stage[3].values()),
    }


def _stages_measured(pipeline: Any, inputs: Arrays, runs: int) -> tuple[dict[str, float], dict[str, Array], str]:
    """The median of each stage's seconds, where one runs after the other; what goes between them, as far as they say what
    they give; or why that is not known.
    """
    arrays = {name: _as_it_would_arrive(array, name) for name, array in inputs.items()}
    found: dict[str, list[float]] = {}
    given = [whole for _, _, _, gives in pipeline.stages for whole in gives.values()]
    # What a stage takes another gave, though it may not say so.
    taken = [whole for _, _, takes, _ in pipeline.stages for whole in takes.values() if whole not in arrays]

    def work() -> None:
        for stage, seconds in pipeline.timed_infer(arrays)[1].items():
            found.setdefault(stage, []).append(seconds)

    try:
        between = _between(pipeline, arrays, list(dict.fromkeys((*given, *taken))), list(dict.fromkeys(given)))
        _times(work, runs)
    except Exception as error:  # what stands before it may have made more of the inputs
        return {}, {}, f"its stages cannot be measured one by one: {first_line(error)}"
    return {stage: median(each) for stage, each in found.items()}, between, ""


def _between(pipeline: Any, arrays: Arrays, wanted: Sequence[str], known: Sequence[str]) -> dict[str, Array]:
    """The values under the names ``wanted``, or, where some of those need not be there and are not, under the ``known``."""
    for names in (wanted, known):
        try:
            outputs: dict[str, Array] = pipeline.timed_infer(arrays, names)[0] if names else {}
            return outputs
        except InvalidRequest:
            if names == known:
                raise
    return {}


def _as_it_would_arrive(array: Array, name: str) -> Array:
    """Text as bytes, which is what stages get of it."""
    _, array = to_sendable(array, repr(name))
    if array.dtype.kind != "O":
        return array
    texts = np.empty(array.size, object)
    texts[:] = [to_bytes(item, repr(name)) for item in array.reshape(-1)]
    return texts.reshape(array.shape)


class _Values:
    """The values of a whole, in the order in which they are met; a name may be given again, and is another value then."""

    def __init__(self, seen: Arrays) -> None:
        self.all: list[Value] = []
        self.current: dict[str, int] = {}
        self._seen = seen

    def new(self, name: str, spec: TensorSpec | None = None, seen: str = "") -> int:
        """A value that has just come to be under a name."""
        if name in self.current:  # what was seen under it is the last one's
            earlier = self.all[self.current[name]]
            self.all[self.current[name]] = Value(name, earlier.declared)
        array = self._seen.get(name)
        text = seen or ("" if array is None else _type(array))
        self.all.append(Value(name, "" if spec is None or _is_open(spec) else spec.text, text))
        self.current[name] = len(self.all) - 1
        return self.current[name]

    def declare(self, place: int, spec: TensorSpec | None) -> None:
        """What somebody who takes a value says of it, where whoever gives it says nothing."""
        value = self.all[place]
        if spec is not None and not value.declared and not _is_open(spec):
            self.all[place] = Value(value.name, spec.text, value.seen)

    def known(self, name: str) -> int:
        """The value that the name stands for by now."""
        return self.current[name] if name in self.current else self.new(name)


def _of_stages(
    model: LoadedModel,
    about: dict[str, Any],
    times: Mapping[str, float],
    sent: Arrays,
    seen: Arrays,
    outputs: Sequence[str],
    notes: Sequence[str],
) -> Explained:
    pipeline: Any = model.model
    values = _Values(seen)
    specs = {spec.name: spec for spec in model.signature.inputs}
    # Others may be left out, and some of those a stage may give instead.
    inputs = [values.new(name, spec) for name, spec in specs.items() if name in (*model.signature.input_names, *sent)]
    parts: list[Part] = []
    silent: int | None = None  # the last stage that does not say what it gives

    def taken(whole: str) -> int | None:
        """The value under a name: what nobody says to give comes from a stage that says nothing."""
        if whole not in values.current and silent is not None:
            part = parts[silent]
            parts[silent] = replace(part, gives=(*part.gives, (whole, values.new(whole))))
        elif whole not in values.current and whole in specs:
            inputs.append(values.new(whole, specs[whole]))
        return values.current.get(whole)

    for name, stage, takes, gives in pipeline.stages:
        declared = {spec.name: spec for spec in stage.signature.inputs}
        pairs = [(own, taken(whole)) for own, whole in takes.items()]
        its = tuple((own, place) for own, place in pairs if place is not None)  # others may be left out, and are
        for own, place in its:
            values.declare(place, declared.get(own))
        given = {spec.name: spec for spec in stage.signature.outputs}
        made = tuple((own, values.new(whole, given.get(own))) for own, whole in gives.items())
        silent = silent if made else len(parts)
        parts.append(Part(name, _kind_of(stage), its, made, times.get(name), str(getattr(stage, "runtime", "") or "")))
    places = [taken(name) for name in outputs]
    # Its description would be its stages' names, which are shown anyway.
    about |= {"name": str(getattr(pipeline, "name", "") or model.name), "kind": "pipeline", "description": ""}
    return Explained(
        **about, values=tuple(values.all), inputs=tuple(inputs), outputs=tuple(each for each in places if each is not None),
        made_of="stages", parts=tuple(parts), is_linked=True, notes=tuple(notes),
    )  # fmt: skip


def _kind_of(stage: Any) -> str:
    inner = getattr(stage, "stages", None)
    if inner is not None:
        return f"pipeline of {counted(len(inner), 'stage')}"
    return str(getattr(stage, "kind", "") or type(stage).__name__)


# --- graphs, and models that are closed ---


def _of_operators(
    model: LoadedModel, about: dict[str, Any], profile: Profile, seen: Arrays, notes: Sequence[str]
) -> Explained:
    values = _Values(seen)
    signature = model.signature
    specs = {spec.name: spec for spec in signature.outputs}
    inputs = tuple(values.new(spec.name, spec) for spec in signature.inputs)
    parts = []
    for each in profile.run:
        taken = tuple((name, values.known(name)) for name in each.takes)
        types = dict(zip(each.gives, each.types, strict=False))
        given = tuple((name, values.new(name, specs.get(name), types.get(name, ""))) for name in each.gives)
        parts.append(Part(each.name, each.kind, taken, given, each.seconds))
    outputs = tuple(
        values.known(name) if name in values.current else values.new(name, specs.get(name))
        for name in signature.output_names
    )
    return Explained(
        **about, values=tuple(values.all), inputs=inputs, outputs=outputs, made_of="operators", parts=tuple(parts),
        is_linked=profile.is_linked, written=profile.written, weights=profile.weights, notes=(*profile.notes, *notes),
    )  # fmt: skip


def _of_one(
    model: LoadedModel, about: dict[str, Any], inputs: Arrays, outputs: Arrays, notes: Sequence[str]
) -> Explained:
    signature = model.signature
    takes = [_value(spec, inputs) for spec in signature.inputs]
    gives = [_value(spec, outputs) for spec in signature.outputs if not outputs or spec.name in outputs]
    known = {value.name for value in gives}
    # Which they are may be known only when they come.
    gives += [Value(name, "", _type(array)) for name, array in outputs.items() if name not in known]
    return Explained(
        **about, values=(*takes, *gives), inputs=tuple(range(len(takes))),
        outputs=tuple(range(len(takes), len(takes) + len(gives))), notes=tuple(notes),
    )  # fmt: skip


def _value(spec: TensorSpec, seen: Arrays) -> Value:
    array = seen.get(spec.name)
    return Value(spec.name, "" if _is_open(spec) else spec.text, "" if array is None else _type(array))


def _is_open(spec: TensorSpec) -> bool:
    """Whether a spec says nothing at all."""
    return spec.dtype is None and spec.shape is None and not spec.repeated


def _type(array: Array) -> str:
    return f"{dtype_name(array.dtype)}[{', '.join(map(str, array.shape))}]"
