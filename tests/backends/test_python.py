"""Python functions as models: how they are found, what their signature is, what they get and may give."""

from __future__ import annotations

import threading
from typing import Annotated, NamedTuple, TypedDict

import numpy as np
import pytest
from numpy.typing import NDArray

import graphpipe
from graphpipe.errors import InvalidRequest, LoadError, ModelFailed
from graphpipe.signature import TensorSpec

X = np.arange(8, dtype=np.float32).reshape(2, 4)


def test_a_plain_function_is_called_with_arrays_by_the_names_of_its_parameters():
    model = graphpipe.load(lambda x, factor: x * factor)
    assert model.signature.input_names == ("x", "factor")
    got = model.infer({"factor": np.float32(3), "x": X})
    assert np.array_equal(got["output_0"], X * 3)
    with pytest.raises(InvalidRequest, match="missing input 'factor'"):
        model.infer({"x": X})


def test_several_outputs_are_numbered_and_a_dict_names_its_own():
    assert list(graphpipe.load(lambda x: (x, x + 1)).infer({"x": X})) == ["output_0", "output_1"]
    assert list(graphpipe.load(lambda x: {"a": x, "b": x + 1}).infer({"x": X})) == ["a", "b"]
    assert list(graphpipe.load(lambda x: {"a": x, "b": x + 1}).infer({"x": X}, ["b"])) == ["b"]
    with pytest.raises(InvalidRequest, match="there is no output 'c'; the function gave 'a', 'b'"):
        graphpipe.load(lambda x: {"a": x, "b": x + 1}).infer({"x": X}, ["c"])


def test_numbers_and_lists_of_numbers_may_be_given():
    assert graphpipe.load(lambda x: 3.5).infer({"x": X})["output_0"] == 3.5
    assert graphpipe.load(lambda x: [1, 2, 3]).infer({"x": X})["output_0"].tolist() == [1, 2, 3]
    assert graphpipe.load(lambda x: "text").infer({"x": X})["output_0"].shape == ()


def test_the_decorator_says_types_and_shapes_and_they_are_checked():
    @graphpipe.model(
        inputs={"x": "float32[n, 4]", "w": "int64 []"}, outputs={"mean": "float32[n]"}, description="means"
    )
    def mean(x, w):
        return x.astype(np.float64).mean(axis=1) * w

    assert mean(X, 1).tolist() == [1.5, 5.5]  # still the function that it was
    model = graphpipe.load(mean)
    assert str(model.signature) == "(x float32 [n, 4], w int64 []) -> (mean float32 [n])"
    assert model.description == "means"
    got = model.infer({"x": X, "w": np.int64(2)})
    assert got["mean"].dtype == np.float32  # declared so, though float64 was computed
    assert got["mean"].tolist() == [3.0, 11.0]
    with pytest.raises(InvalidRequest, match="float64"):
        model.infer({"x": X.astype(float), "w": np.int64(2)})


@pytest.mark.parametrize("text", ["float33[n]", "float32[n", "float32[2x]", "float32(n)", ""])
def test_the_decorator_refuses_what_is_no_type_and_shape(text):
    with pytest.raises(ValueError, match=r"x|float33"):
        graphpipe.model(inputs={"x": text})


def test_annotations_say_the_same():
    def mean(x: Annotated[NDArray[np.float32], "n", 4]) -> Annotated[NDArray[np.float32], "n"]:
        """The mean of each row."""
        return x.mean(axis=1)

    model = graphpipe.load(mean)
    assert str(model.signature) == "(x float32 [n, 4]) -> (output_0 float32 [n])"
    assert model.description == "The mean of each row."


class Both(TypedDict):
    low: NDArray[np.float32]
    high: Annotated[NDArray[np.float32], "n"]


class Pair(NamedTuple):
    low: NDArray[np.float32]
    high: NDArray[np.float32]


def test_a_typed_dict_or_a_named_tuple_names_the_outputs():
    def both(x: NDArray[np.float32]) -> Both:
        return {"low": x.min(axis=1), "high": x.max(axis=1)}

    def pair(x: NDArray[np.float32]) -> Pair:
        return Pair(x.min(axis=1), x.max(axis=1))

    model = graphpipe.load(both)
    assert model.signature.outputs == (
        TensorSpec("low", np.dtype("float32")),
        TensorSpec("high", np.dtype("float32"), ("n",)),
    )
    for each in (model, graphpipe.load(pair)):
        assert each.infer({"x": X}, ["high", "low"])["high"].tolist() == [3.0, 7.0]


def test_a_parameter_with_a_default_is_an_input_only_if_it_is_declared_an_array():
    def scaled(x: NDArray[np.float32], factor: NDArray[np.float32] | None = None, strict: bool = True):
        return x if factor is None else x * factor

    model = graphpipe.load(scaled)
    assert [spec.name for spec in model.signature.inputs] == ["x", "factor"]
    assert np.array_equal(model.infer({"x": X})["output_0"], X)
    assert np.array_equal(model.infer({"x": X, "factor": np.float32(2)})["output_0"], X * 2)
    with pytest.raises(InvalidRequest, match="'strict'"):
        model.infer({"x": X, "strict": np.array(False)})


def test_any_number_of_tensors_goes_into_star_args():
    model = graphpipe.load(lambda *tensors: tensors[::-1])
    got = model.infer({"a": X, "b": X + 1})
    assert np.array_equal(got["output_0"], X + 1)
    assert graphpipe.load(lambda **named: named).infer({"p": X, "q": X}).keys() == {"p", "q"}


def test_positional_parameters_get_their_own_whatever_the_order_they_were_sent_in():
    def minus(a, b, /):
        return a - b

    assert graphpipe.load(minus).infer({"b": np.ones(2), "a": np.full(2, 3.0)})["output_0"].tolist() == [2.0, 2.0]


def test_config_and_the_time_that_is_left_reach_a_function_that_asks():
    seen = []

    def curious(x, config, timeout_s):
        seen.append((config, timeout_s))
        return x

    model = graphpipe.load(curious)
    assert model.signature.input_names == ("x",)
    model.infer({"x": X}, config="top=5")
    model.infer({"x": X}, timeout=2.5)
    assert seen == [("top=5", None), ("", 2.5)]


def test_over_the_wire_the_time_that_is_left_is_what_the_caller_still_waits(tmp_path, serve):
    (tmp_path / "curious.py").write_text(
        "import numpy as np\ndef left(x, timeout_s): return np.float64(-1 if timeout_s is None else timeout_s)\n"
    )
    server = serve("--model", "curious:left", cwd=tmp_path)
    with graphpipe.Client(server.url, timeout=33) as client:
        left = float(client.execute(X))
    assert 0 < left <= 33


def test_a_class_is_made_once_and_closed_at_the_end(tmp_path):
    (tmp_path / "things.py").write_text(
        """
made, closed = [], []
class Scaler:
    "Scales."
    def __init__(self):
        self.factor = 3
        made.append(self)
    def __call__(self, x):
        return x * self.factor
    def close(self):
        closed.append(self)
"""
    )
    model = graphpipe.load(f"{tmp_path / 'things.py'}:Scaler")
    import things

    assert np.array_equal(model.infer({"x": X})["output_0"], X * 3)
    model.close()
    assert things.made == things.closed != []


def test_an_object_with_the_methods_of_a_model_is_one():
    from graphpipe.backends.echo import Echo

    echo = Echo()
    assert graphpipe.load(echo).model is echo


def test_what_raises_fails_with_its_cause_and_what_is_refused_passes():
    def picky(x):
        if x.size > 4:
            raise InvalidRequest("at most 4 elements, please")
        return 1 / 0

    model = graphpipe.load(picky)
    with pytest.raises(InvalidRequest, match="at most 4 elements"):
        model.infer({"x": X})
    with pytest.raises(ModelFailed) as caught:
        model.infer({"x": X[:1]})
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


@pytest.mark.parametrize(
    ("outputs", "given"),
    [
        ({"y": "int64"}, 1.5),
        ({"y": "float32", "z": "float32"}, 1.5),
        ({"y": "string"}, 1),
        ({"y": "float32"}, {"z": 1}),
    ],
)
def test_an_answer_that_is_not_as_declared_is_the_models_failure(outputs, given):
    @graphpipe.model(outputs=outputs)
    def wrong(x):
        return given

    with pytest.raises(ModelFailed):
        graphpipe.load(wrong).infer({"x": X})


async def coroutine(x):
    return x


@pytest.mark.parametrize(
    ("thing", "words"),
    [
        (coroutine, "async function"),
        (3, "an int is neither a function nor a model"),
        (graphpipe.model(inputs={"y": "float32"})(lambda x: x), "no parameter 'y'"),
    ],
)
def test_what_is_no_model_is_refused(thing, words):
    with pytest.raises(LoadError, match=words):
        graphpipe.load(thing)


def test_inputs_and_outputs_can_be_chosen_when_loading():
    @graphpipe.model(outputs=["low", "high"])
    def ends(x):
        return x.min(), x.max()

    assert list(graphpipe.load(ends, outputs=["high"]).infer({"x": X})) == ["high"]
    with pytest.raises(LoadError, match="there is no output 'middle'"):
        graphpipe.load(ends, outputs=["middle"])


def test_any_library_is_three_lines_scikit_learn_for_one():
    from sklearn.linear_model import LogisticRegression

    fitted = LogisticRegression().fit(np.array([[0.0], [1.0], [2.0], [3.0]]), [0, 0, 1, 1])
    model = graphpipe.load(fitted.predict)
    assert model.infer({"X": [[0.2], [2.8]]})["output_0"].tolist() == [0, 1]
    assert model.name == "predict"


def test_serve_takes_a_function():
    urls, failed = [], []
    ready = threading.Event()

    def apply(x):
        return x + 1

    def work() -> None:
        try:
            graphpipe.serve(
                apply, "127.0.0.1:0", enable_shutdown=True, on_ready=lambda url: (urls.append(url), ready.set())
            )
        except BaseException as error:
            failed.append(error)
            ready.set()

    thread = threading.Thread(target=work)
    thread.start()
    assert ready.wait(30)
    assert not failed
    assert np.array_equal(graphpipe.remote.execute(urls[0], X), X + 1)
    assert graphpipe.Client(urls[0]).infer({"x": X})["output_0"].shape == (2, 4)
    assert graphpipe.remote.metadata(urls[0]).name == "apply"
    import urllib.request

    urllib.request.urlopen(f"{urls[0]}/control/shutdown", b"", timeout=10).read()
    thread.join(30)
    assert not thread.is_alive()
