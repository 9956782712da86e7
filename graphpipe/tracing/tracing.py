"""``graphpipe.trace``: from a function and an example to a pipeline."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

from graphpipe.arguments import a_kind, came
from graphpipe.backends.loaded import LoadedModel
from graphpipe.errors import TraceError
from graphpipe.pipeline.pipeline import Pipeline
from graphpipe.pipeline.returned import names_returned
from graphpipe.pipeline.stage import Stage
from graphpipe.tracing.naming import Returned, Wrong, named, safe, stage_names, unused
from graphpipe.tracing.place import defined_at
from graphpipe.tracing.recording import Call, Recording
from graphpipe.tracing.traced import Traced
from graphpipe.tracing.trial import difference
from graphpipe.words import listed, nearest, quoted

__all__ = ["trace"]


def trace(function: Callable[..., Any], example: Any, *, name: str = "") -> Pipeline:
    """The pipeline that a function is, which calls stages: its parameters are the inputs, what it returns the outputs.

    ``example`` has an array or a list for each input, by its name or in a tuple, or is that of the only one; text is a
    list of ``str``. Stages are
    what ``graphpipe.stage`` makes, and models that are loaded. The function returns what a stage gave, or several in a
    dict, whose keys are the outputs' names, or in a tuple.

        def topics(text):
            return {"topic": best(encoder(split(text)["ids"]))}

        pipeline = graphpipe.trace(topics, {"text": ["hello world"]})
        pipeline.save("topics.toml")

    The function is called with values that stand for the inputs, while its stages compute on the example; then the
    pipeline answers the example, and so does the function itself, and all must be the same. What depends on data is
    refused, since the next request has other data: a condition, a loop over rows, arithmetic outside of a stage. What was
    handed over stays its owner's to close.

    Raises TraceError with the line of what cannot be recorded, and whatever the function and its stages raise.
    """
    called = getattr(function, "__name__", type(function).__name__)
    who = f"{defined_at(function)}: {called}"
    inputs = _inputs(function, example, who)
    recording = Recording()
    try:
        result = _recorded(function, inputs, recording)
        returned = _returned(result, recording, who)
        pipeline, names = _pipeline(recording, returned, name or safe(called), who)
        try:
            _compare(pipeline, recording, names, inputs, who)
            _compare_calls(function, pipeline, inputs, result, who)
        except BaseException:
            pipeline.close()
            raise
        return pipeline
    finally:
        recording.end()


def _inputs(function: Any, example: Any, who: str) -> dict[str, Any]:
    """The example by the names of the function's parameters. Raises TraceError, TypeError."""
    if not callable(function):
        raise TypeError(
            f"graphpipe.trace takes a function that calls stages, and an example of its inputs; {came(function)}"
        )
    plain = inspect.unwrap(function)
    if inspect.iscoroutinefunction(plain) or inspect.isgeneratorfunction(plain) or inspect.isasyncgenfunction(plain):
        kind = "a generator" if inspect.isgeneratorfunction(plain) else "an async function"
        raise TraceError(f"{who} is {kind}, which does not run from its start to its end; write a plain function")
    parameters = inspect.signature(function).parameters.values()
    if several := [p.name for p in parameters if p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]:
        raise TraceError(f"{who} takes any number of {listed(several)}; a pipeline's inputs have names: write them")
    names = [p.name for p in parameters]
    if isinstance(example, tuple):
        if len(example) > len(names):
            raise TraceError(f"{who} takes {listed(names) or 'no input'}; the example has {len(example)}")
        given: dict[Any, Any] = dict(zip(names, example, strict=False))
    elif isinstance(example, Mapping):
        given = dict(example)
    elif len(names) == 1 and example is not None:
        given = {names[0]: example}
    else:
        hint = f"{{{names[0]!r}: ...}}" if names else "{}"
        raise TypeError(
            f"the example is a dict of arrays by the names of the inputs, {hint}, or a tuple; {came(example)}"
        )
    for each in given:
        if each not in names:
            near = nearest(each, names) if isinstance(each, str) else ""
            raise TraceError(f"{who} has no input {each!r}{near or f'; it takes {listed(names) or None}'}")
    # What has a default and no example is the same in every request.
    if missing := [p.name for p in parameters if p.name not in given and p.default is p.empty]:
        raise TraceError(f"{who} takes {listed(missing)}, and the example has nothing for it")
    if not given:
        raise TraceError(f"{who} has no inputs, and a pipeline answers requests: give it a parameter")
    return {each: given[each] for each in names if each in given}


def _recorded(function: Callable[..., Any], inputs: Mapping[str, Any], recording: Recording) -> Any:
    try:
        result = _call(function, {name: recording.input(name, value) for name, value in inputs.items()})
    except Exception as error:
        # It may be another one, raised where a refusal was caught.
        if recording.refused and not isinstance(error, TraceError):
            raise TraceError(recording.refused) from error
        raise
    if recording.refused:
        raise TraceError(recording.refused)
    return result


def _call(function: Callable[..., Any], inputs: Mapping[str, Any]) -> Any:
    parameters = inspect.signature(function).parameters
    in_order = [inputs[name] for name in inputs if parameters[name].kind is inspect.Parameter.POSITIONAL_ONLY]
    return function(*in_order, **{name: inputs[name] for name in list(inputs)[len(in_order) :]})


def _returned(result: Any, recording: Recording, who: str) -> Returned:
    """What a function returned, each with its name if it has one. Raises TraceError."""
    pairs = list(_pairs(result))
    if not pairs:
        raise TraceError(f"{who} returns nothing; return what a stage gave, or a dict of that: {{'label': ...}}")
    for key, value in pairs:
        if key is not None and not (isinstance(key, str) and key):
            raise TraceError(f"{who} returns a dict with a key that is {a_kind(key)}; the keys are the outputs' names")
        if isinstance(value, Mapping):
            place = f" for {quoted(key)}" if key is not None else ""
            raise TraceError(
                f"{who} returns a dict{place}, and outputs are values by their names: say which of it is meant, "
                f"[{str(next(iter(value), 'NAME'))!r}]"
            )
        if not isinstance(value, Traced):
            which = f" for {quoted(key)}" if key is not None else ""
            raise TraceError(
                f"{who} returns {a_kind(value)}{which}, which is neither what a stage gave nor an input: it would be "
                "the same in every answer; return what stages give, one or several in a dict or a tuple"
            )
        if value._recorder is not recording:
            raise TraceError(f"{who} returns a value of another trace; it may return what its own stages gave")
    if not recording.calls:
        raise TraceError(f"{who} calls no stage; a stage is what graphpipe.stage makes, or a model that is loaded")
    if names := unused(recording, pairs):
        raise TraceError(f"{who} never uses its input {names}; take it out of the parameters, or use it")
    return pairs


def _pairs(result: Any) -> Sequence[tuple[Any, Any]]:
    if isinstance(result, Mapping):
        return list(result.items())
    if isinstance(result, tuple) and hasattr(result, "_fields"):
        return list(zip(result._fields, result, strict=True))
    if isinstance(result, tuple | list):
        return [(None, value) for value in result]
    return [(None, result)] if result is not None else []


def _pipeline(recording: Recording, returned: Returned, name: str, who: str) -> tuple[Pipeline, dict[Traced, str]]:
    """The pipeline, and the names that the values have in it."""
    stages = stage_names([call.callee.name for call in recording.calls])
    try:
        names, outputs = named(recording, stages, returned)
    except Wrong as error:
        raise TraceError(f"{who}: {error}") from None
    made = [_stage(call, stage, names) for call, stage in zip(recording.calls, stages, strict=True)]
    return Pipeline(made, inputs=list(recording.inputs), outputs=outputs, name=name), names


def _stage(call: Call, name: str, names: Mapping[Traced, str]) -> Stage:
    callee = call.callee
    takes = {own: names[value] for own, value in call.inputs.items()}
    gives = {own: names[value] for own, value in call.outputs.items()}
    what = callee.what
    known = {spec.name for spec in callee.signature.outputs}
    if isinstance(what, LoadedModel):
        known.update(names_returned(what.model, what.source))
    else:
        known.update(names_returned(SimpleNamespace(signature=callee.signature, function=what)))
    return Stage(
        what,
        name,
        # Of any number of inputs, those that are named are taken.
        {own: given for own, given in takes.items() if own != given or callee.signature.variadic},
        # What it does not say beforehand is said here.
        {own: given for own, given in gives.items() if own != given or own not in known},
    )


def _compare(pipeline: Pipeline, recording: Recording, names: Mapping[Traced, str], inputs: Any, who: str) -> None:
    """Raise TraceError where the stages give something else than they did while they were recorded."""
    wanted = [names[value] for call in recording.calls for value in call.outputs.values()]
    answer = pipeline.infer(inputs, outputs=wanted)
    for call, stage in zip(recording.calls, pipeline.stages, strict=True):
        for own, value in call.outputs.items():
            if said := difference(call.values[own], answer[names[value]]):
                raise TraceError(
                    f"{who}: stage {stage.name!r} gave another {quoted(own)} when it was called again with the same, "
                    f"{said}: a stage's answer depends on its inputs alone, not on random numbers or on what came "
                    "before"
                )


def _compare_calls(function: Any, pipeline: Pipeline, inputs: Mapping[str, Any], traced: Any, who: str) -> None:
    """Raise TraceError where the function itself, called with the example, gives something else than the pipeline."""
    answer = pipeline.infer(inputs)
    result = _call(function, inputs)
    values = [result] if isinstance(traced, Traced) else [value for _, value in _pairs(result)]
    keys = [key for key, _ in _pairs(traced)]
    said = ""
    if len(values) != len(answer) or (isinstance(traced, Mapping) and list(result) != keys):
        said = "it returns other outputs"
    for value, (name, array) in zip(values, answer.items(), strict=False):
        if isinstance(value, Traced):
            raise TraceError(
                f"{who} returns a value that it kept from its trace; it may return what its own stages gave"
            )
        said = said or (f"{found} in {quoted(name)}" if (found := difference(value, array)) else "")
    if said:
        raise TraceError(
            f"{who}: called with the example, it gives something else than its stages do: {said}. Does it look "
            "whether it has arrays, or use something that changes? What computes belongs into a stage"
        )
