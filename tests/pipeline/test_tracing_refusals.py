"""What a trace refuses, with the file and the line where it stands."""

from __future__ import annotations

import asyncio
import copy
import inspect
import math
import pickle
import threading

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import graphpipe
from graphpipe import TraceError

TEXT = {"text": ["hello world", "hello"]}
KEPT = []


@graphpipe.stage
def lengths(text):
    return {"lengths": np.array([len(each) for each in text])}


@graphpipe.stage
def double(x):
    return x * 2


@graphpipe.stage
def scale(x, factor):
    return x * factor


def line_of(function, mark="# here"):
    lines, first = inspect.getsourcelines(function)
    [found] = [number for number, line in enumerate(lines) if mark in line]
    return f"{__file__}:{first + found}: "


def conditions(text):
    x = lengths(text)["lengths"]
    if x:  # here
        x = double(x)
    return x


def negations(text):
    return text if not text else double(text)  # here


def sizes(text):
    return [double(text)] * len(text)  # here


def loops(text):
    return {"x": [double(row) for row in lengths(text)["lengths"]]}  # here


def unpacks(text):
    one, other = double(lengths(text)["lengths"])  # here
    return one, other


def membership(text):
    return double(text) if "a" in text else text  # here


def whole_numbers(text):
    return {"x": double(lengths(text)["lengths"]), "n": int(text)}  # here


def floats(text):
    return double(float(lengths(text)["lengths"]))  # here


def ranges(text):
    return [double(text) for _ in range(text)]  # here


def rounding(text):
    return round(text)  # here


def mathematics(text):
    return math.floor(text)  # here


def comparisons(text):
    x = lengths(text)["lengths"]
    return double(x) if x > 3 else x  # here


def equality(text):
    return text == "hello"  # here


def arithmetic(text):
    return {"x": lengths(text)["lengths"] + 1}  # here


def reflected(text):
    return 1 - lengths(text)["lengths"]  # here


def in_place(text):
    x = lengths(text)["lengths"]
    x *= 2  # here
    return x


def negative(text):
    return -lengths(text)["lengths"]  # here


def items(text):
    return text[0]  # here


def slices(text):
    x = lengths(text)["lengths"]
    return double(x[:1])  # here


def writes(text):
    x = lengths(text)["lengths"]
    x[0] = 1  # here
    return x


def attributes(text):
    x = lengths(text)["lengths"]
    return double(x) if x.shape[0] > 1 else x  # here


def methods(text):
    return lengths(text)["lengths"].sum()  # here


def keeps(text):
    text.seen = True  # here
    return double(text)


def numpy_functions(text):
    return np.concatenate([lengths(text)["lengths"]])  # here


def numpy_ufuncs(text):
    return np.sqrt(lengths(text)["lengths"])  # here


def numpy_operators(text):
    return np.ones(2) * lengths(text)["lengths"]  # here


def numpy_arrays(text):
    return np.asarray(lengths(text)["lengths"])  # here


def torch_functions(text):
    return torch.relu(lengths(text)["lengths"])  # here


def torch_tensors(text):
    return torch.ones(2) + lengths(text)["lengths"]  # here


def texts(text):
    return double(f"{text}!")  # here


def constants(text):
    return scale(lengths(text)["lengths"], 2.0)  # here


def arrays_as_constants(text):
    return scale(lengths(text)["lengths"], np.ones(2))  # here


def named_constants(text):
    return scale(lengths(text)["lengths"], factor=3)  # here


def nothings(text):
    return scale(lengths(text)["lengths"], None)  # here


def lists_of_values(text):
    x = lengths(text)["lengths"]
    return scale(x, [x, x])  # here


def stages_without_a_value(text):
    x = double(np.ones(2))
    return scale(lengths(text)["lengths"], x)  # here


def of_another_trace(text):
    return scale(lengths(text)["lengths"], KEPT[0])  # here


def caught(text):
    try:
        if text:  # here
            return double(text)
    except TraceError:
        pass
    return lengths(text)["lengths"]


def caught_and_another_raised(text):
    try:
        return double(len(text))  # here
    except TraceError:
        raise KeyError("text") from None


def copies(text):
    return double(copy.deepcopy(text))  # here


def pickles(text):
    return double(pickle.loads(pickle.dumps(text)))  # here


def calls_a_value(text):
    return text()  # here


def in_a_thread(text):
    found = []
    thread = threading.Thread(target=lambda: found.append(lengths(text)["lengths"]))  # here
    thread.start()
    thread.join()
    return lengths(text)["lengths"]


def in_an_event_loop(text):
    async def asked():
        return lengths(text)["lengths"]  # here

    return asyncio.run(asked())


REFUSED = {
    conditions: "'lengths' of stage 'lengths': whether it is true depends on the data",
    negations: "input 'text': whether it is true depends on the data",
    sizes: "input 'text': how long it is depends on the data",
    loops: "its elements depend on the data",
    unpacks: "'output_0' of stage 'double': its elements depend on the data",
    membership: "what is in it depends on the data",
    whole_numbers: "a number of it depends on the data",
    floats: "a number of it depends on the data",
    ranges: "a number of it depends on the data",
    rounding: "a number of it depends on the data",
    mathematics: "a number of it depends on the data",
    comparisons: "it is compared, which depends on the data",
    equality: "it is compared, which depends on the data",
    arithmetic: "something is computed with it, and only stages compute",
    reflected: "something is computed with it, and only stages compute",
    in_place: "something is computed with it, and only stages compute",
    negative: "something is computed with it, and only stages compute",
    items: "a part of it is taken, and only stages compute",
    slices: "a part of it is taken, and only stages compute",
    writes: "a part of it is taken, and only stages compute",
    attributes: "its 'shape' is another one in each request",
    methods: "its 'sum' is another one in each request",
    keeps: "nothing can be kept in it",
    numpy_functions: "it is given to numpy, and only stages compute",
    numpy_ufuncs: "it is given to numpy, and only stages compute",
    numpy_operators: "it is given to numpy, and only stages compute",
    numpy_arrays: "it is given to numpy, and only stages compute",
    torch_functions: "it is given to PyTorch, and only stages compute",
    torch_tensors: "it is given to PyTorch, and only stages compute",
    texts: "it is a text now, and its text depends on the data",
    constants: "stage 'scale' is called with a constant for 'factor' (a float)",
    arrays_as_constants: "stage 'scale' is called with a constant for 'factor' (a ndarray)",
    named_constants: "the constructor of a stage that is a class",
    nothings: "called with None for 'factor'; leave it out",
    lists_of_values: "a list of values for 'factor'; give each value by itself",
    stages_without_a_value: "called with a constant for 'factor' (a ndarray)",
    of_another_trace: "stage 'scale' takes 'factor' from another trace",
    caught: "whether it is true depends on the data",
    caught_and_another_raised: "how long it is depends on the data",
    copies: "it is copied, or sent to another process",
    pickles: "it is copied, or sent to another process",
    calls_a_value: "it is called, and it is a value",
    in_a_thread: "stage 'lengths' is called in another thread",
    in_an_event_loop: "stage 'lengths' is called in an event loop of asyncio",
}


def keep(kept):
    """A list with a value of a trace that is over."""
    kept.clear()

    def keeps(x):
        kept.append(double(x))
        return kept[-1]

    graphpipe.trace(keeps, (np.ones(2),))
    return kept


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("function", REFUSED, ids=lambda each: each.__name__)
def test_what_depends_on_data_is_refused_with_its_line(function):
    keep(KEPT)
    with pytest.raises(TraceError) as refused:
        graphpipe.trace(function, TEXT)
    said = str(refused.value)
    assert said.startswith(line_of(function)), said
    assert REFUSED[function] in said
    assert "\n" not in said


def test_a_value_that_was_kept_is_nothing_when_its_trace_is_over():
    kept = keep([])
    with pytest.raises(TraceError, match=r"test_tracing_refusals\.py:\d+: .*kept from a trace that is over"):
        bool(kept[0])
    with pytest.raises(TraceError, match=r"stage 'double' is called, with a value that was kept"):
        double(kept[0])


def returns_nothing(text):
    lengths(text)


def returns_a_number(text):
    return {"x": lengths(text)["lengths"], "n": 3}


def returns_what_was_computed_before(text):
    lengths(text)
    return double(np.ones(2))


def returns_names_that_are_none(text):
    return {3: lengths(text)["lengths"]}


def returns_equal_names(text):
    return lengths(text)["lengths"], lengths(text)["lengths"]


def returns_one_value_twice(text):
    x = lengths(text)["lengths"]
    return {"x": x, "y": x}


def returns_its_input_by_another_name(text):
    return {"same": text, "x": lengths(text)["lengths"]}


def hides_its_input(text):
    first = lengths(text)["lengths"]
    return {"text": double(first), "again": lengths(text)["lengths"]}


def calls_no_stage(text):
    return text


def never_uses_an_input(text, more):
    return lengths(text)["lengths"]


def takes_any_number(*texts):
    return lengths(texts[0])["lengths"]


async def is_async(text):
    return lengths(text)["lengths"]


def is_a_generator(text):
    yield lengths(text)["lengths"]


def takes_nothing():
    return double(np.ones(2))


@pytest.mark.parametrize(
    ("function", "example", "said"),
    [
        (returns_nothing, TEXT, "returns nothing; return what a stage gave"),
        (returns_a_number, TEXT, "returns an int for 'n', which is neither what a stage gave nor an input"),
        (returns_what_was_computed_before, TEXT, "returns a ndarray, which is neither"),
        (returns_names_that_are_none, TEXT, "returns a dict with a key that is an int"),
        (returns_equal_names, TEXT, "it returns two values that would be called 'lengths'"),
        (returns_one_value_twice, TEXT, "it returns one value as 'x' and as 'y'"),
        (returns_its_input_by_another_name, TEXT, "it returns its input 'text' as 'same'"),
        (
            hides_its_input,
            TEXT,
            "it returns 'text', which is also its input, and stage 'lengths' takes the input after",
        ),
        (calls_no_stage, TEXT, "calls no stage"),
        (never_uses_an_input, {**TEXT, "more": [1]}, "never uses its input 'more'"),
        (takes_any_number, (["hello"],), "takes any number of 'texts'"),
        (is_async, TEXT, "is an async function"),
        (is_a_generator, TEXT, "is a generator"),
        (takes_nothing, {}, "has no inputs"),
        (conditions, {"texts": ["hello"]}, "has no input 'texts'; did you mean 'text'?"),
        (conditions, {}, "takes 'text', and the example has nothing for it"),
        (conditions, (["hello"], [1]), "takes 'text'; the example has 2"),
    ],
    ids=lambda each: getattr(each, "__name__", ""),
)
def test_what_a_function_is_and_returns_is_refused_with_the_line_where_it_begins(function, example, said):
    with pytest.raises(TraceError) as refused:
        graphpipe.trace(function, example)
    first = function.__code__.co_firstlineno
    assert str(refused.value).startswith(f"{__file__}:{first}: {function.__name__}"), refused.value
    assert said in str(refused.value)


def test_an_example_or_a_function_that_is_none_is_met_with_what_was_expected():
    def both(a, b):
        return {"a": double(a), "b": double(b)}

    with pytest.raises(TypeError, match=r"the example is a dict of arrays .*\{'a': \.\.\.\}, or a tuple; a list came"):
        graphpipe.trace(both, ["hello"])
    with pytest.raises(TypeError, match="takes a function that calls stages"):
        graphpipe.trace(3, {})


def test_the_example_of_the_only_input_may_stand_alone():
    with graphpipe.trace(lambda x: double(x), np.ones(2)) as pipeline:
        assert pipeline.execute(np.ones(3)).tolist() == [2, 2, 2]


def test_a_dict_where_a_value_belongs_is_met_with_what_is_in_it():
    @graphpipe.stage
    def named(x):
        return {"ids": x}

    with pytest.raises(TraceError, match=r"returns a dict for 'y', .*: say which of it is meant, \['ids'\]"):
        graphpipe.trace(lambda x: {"y": named(x)}, (np.ones(2),))
    for call in (lambda x: double(named(x)), None):
        with pytest.raises(
            TypeError, match=r"takes 'x' as one array, and a dict of 'ids' came: say which of it, \['ids'\]"
        ):
            double(named(np.ones(2))) if call is None else graphpipe.trace(call, (np.ones(2),))


def test_a_branch_that_nobody_sees_is_found_by_calling_the_function_itself():
    def looks_away(x):
        return double(double(x)) if isinstance(x, np.ndarray) else double(x)

    with pytest.raises(TraceError, match="looks_away: called with the example, it gives something else.*in 'output_0'"):
        graphpipe.trace(looks_away, (np.ones(2),))


def test_a_function_that_gives_other_outputs_without_a_trace_is_refused():
    def more(x):
        return {"y": double(x), "z": x} if isinstance(x, np.ndarray) else {"y": double(x)}

    with pytest.raises(TraceError, match="it returns other outputs"):
        graphpipe.trace(more, (np.ones(2),))


def test_a_stage_that_gives_something_else_each_time_is_named():
    calls = []

    @graphpipe.stage
    def counts(x):
        calls.append(1)
        return {"n": x + len(calls)}

    with pytest.raises(TraceError, match="stage 'counts' gave another 'n' when it was called again"):
        graphpipe.trace(lambda x: double(counts(x)["n"]), (np.ones(2),))


def test_what_was_kept_cannot_be_returned():
    kept = []

    def keeps(x):
        kept.append(double(x))
        return kept[0]

    with pytest.raises(TraceError, match="keeps returns a value that it kept from its trace"):
        graphpipe.trace(keeps, (np.ones(2),))
    with pytest.raises(TraceError, match="keeps returns a value of another trace"):
        graphpipe.trace(keeps, (np.ones(2),))


def test_what_a_stage_or_the_function_raises_itself_is_passed_on():
    @graphpipe.stage
    def fails(x):
        raise ValueError("no")

    with pytest.raises(graphpipe.ModelFailed, match="'fails' failed on this input") as failed:
        graphpipe.trace(lambda x: fails(x), (np.ones(2),))
    assert str(failed.value.__cause__) == "no"

    def raises(x):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        graphpipe.trace(raises, (np.ones(2),))


def test_an_input_that_a_stage_does_not_have_is_refused_in_a_trace_and_outside():
    for call in (
        lambda: scale(np.ones(2), facter=np.ones(2)),
        lambda: graphpipe.trace(lambda x: scale(x, facter=x), ([1],)),
    ):
        with pytest.raises(TypeError, match="stage 'scale' has no input 'facter'; did you mean 'factor'"):
            call()
    with pytest.raises(TypeError, match="stage 'double' takes 'x'; 2 inputs came"):
        double(1, 2)
    with pytest.raises(TypeError, match="input 'x' came twice"):
        double(np.ones(2), x=np.ones(2))


def test_a_name_that_a_stage_could_take_and_is_not_given_is_nobodys():
    @graphpipe.stage
    def masked(x, mask: NDArray[np.bool_] = None):
        return {"y": x if mask is None else x * mask}

    with pytest.raises(TraceError, match="it returns 'mask', which a stage could take and is not given"):
        graphpipe.trace(lambda x: {"mask": double(x), "y": masked(x)["y"]}, (np.ones(2),))

    @graphpipe.stage
    def gives_mask(x):
        return {"mask": x > 0, "x": x}

    pipeline = graphpipe.trace(lambda x: {"y": masked(gives_mask(x)["x"])["y"]}, (np.ones(2),))
    assert pipeline.infer({"x": np.array([-1.0, 1.0])})["y"].tolist() == [-1, 1]
