"""Models of every kind beside one another, and whatever one of them does, the others are asked on."""

from __future__ import annotations

import gc
import json
import re
import sys
import threading
import weakref

import numpy as np
import pytest

import graphpipe
from graphpipe import LoadError, Problem, ProblemError
from tests.serving import ROOT, serving

DIGITS = ROOT / "examples" / "digits" / "digits.onnx"
X = np.arange(20, dtype=np.float32).reshape(10, 2)
SUM = Problem.of({"x": "float32[n, 2]"}, {"y": "float32[n]"}, name="sums")


def rowsum(x):
    return {"y": x.sum(axis=1)}


def differences(comparison, reference):
    return {
        (each.model, each.output): each
        for each in comparison.differences
        if (each.reference == "expected") == reference
    }


def test_models_of_any_kind_are_asked_in_turn_and_held_against_the_first():
    order = []

    def first(x):
        order.append("a")
        return rowsum(x)

    def second(x):
        order.append("b")
        return {"y": x.sum(axis=1) + np.float32(0.5) * (x[:, 0] > 10)}

    data = {"x": X, "y": X.sum(axis=1)}
    found = graphpipe.compare({"a": first, "b": second}, data, problem=SUM, batch=2, repeat=2, warm_up=0)
    # Neither is first more often than the other.
    assert re.fullmatch("(abba|baab){5}", "".join(order))
    assert (found.about.problem, found.about.calls, found.about.rows, found.about.passes) == ("sums", 10, 20, 2)
    a, b = found.models
    assert (len(a.seconds), a.rows, a.errors, a.ratio) == (10, 20, 0, None)
    assert b.ratio.pairs == 10
    y = differences(found, False)["b", "y"]
    assert (y.elements, y.max_abs, y.mean_abs, y.beyond) == (10, 0.5, 0.2, 4)
    assert str(y.first) == "row 6: 25.5 for 25"
    assert {name: each.beyond for (name, _), each in differences(found, True).items()} == {"a": 0, "b": 4}


@pytest.fixture(scope="module")
def server():
    with serving("-m", DIGITS, "-m", "echo") as server:
        yield server.url


def test_none_of_several_always_comes_behind_the_same_one():
    order = []

    def noting(name):
        def model(x):
            order.append(name)
            return rowsum(x)

        return model

    graphpipe.compare({name: noting(name) for name in "abcd"}, {"x": X.repeat(20, axis=0)}, problem=SUM, warm_up=0)
    calls = ["".join(order[i : i + 4]) for i in range(0, len(order), 4)]
    assert {"".join(sorted(call)) for call in calls} == {"abcd"}
    pairs = {call[i : i + 2] for call in calls for i in range(3)}
    assert len(pairs) == 12
    assert {call[0] for call in calls} == set("abcd")


def test_a_file_a_server_and_a_client_are_models_like_any_other(server):
    pixels = np.load(ROOT / "examples" / "digits" / "digit.npy").repeat(5, axis=0)
    with graphpipe.Client(server) as client, graphpipe.load(DIGITS) as loaded:
        models = {"file": DIGITS, "server": server, "client": client, "loaded": loaded}
        found = graphpipe.compare(models, {"pixels": pixels}, batch=5)
        assert loaded.infer({"pixels": pixels})  # it is its owner's to close
        assert client.infer({"pixels": pixels})
    assert [model.errors for model in found.models] == [0, 0, 0, 0]
    assert found.max_abs == 0
    assert found.over(0) == []
    assert len(found.differences) == 6
    assert [each.highest(()) for each in found.differences if each.output == "probabilities"] == [0, 0, 0]


def test_a_client_keeps_the_promises_of_a_problem_and_an_asynchronous_one_is_refused(server):
    digits = Problem.of({"pixels": "float32[n, 64]"}, {"label": "int64[n]"}, name="digits")
    data = {"pixels": np.zeros((4, 64), np.float32)}
    with graphpipe.Client(server) as client:
        found = graphpipe.compare([DIGITS, client], data, problem=digits, batch=2, timeout=30)
    assert (found.max_abs, [model.errors for model in found.models]) == (0, [0, 0])
    with pytest.raises(LoadError, match="give a graphpipe.Client, or its URL"):
        graphpipe.compare([DIGITS, graphpipe.AsyncClient(server)], data, problem=digits)


def test_a_login_is_in_no_report(server):
    url = server.replace("://", "://me:secret@") + "/models/echo"
    found = graphpipe.compare(["echo", url], {"x": X})
    assert found.max_abs == 0
    assert "secret" not in found.table() + json.dumps(found.to_dict()) + found.picture()


def failing(kind):
    def model(x):
        if x[0, 0] == 4:
            raise kind
        return rowsum(x)

    return model


@pytest.mark.parametrize(
    "error", [RuntimeError("dim\nlight"), SystemExit(1), KeyboardInterrupt(), BaseException(), MemoryError()]
)
@pytest.mark.parametrize("place", [0, 1])
def test_a_model_that_fails_on_a_row_is_counted_and_the_others_go_on(error, place):
    models = {"good": rowsum, "bad": failing(error)}
    found = graphpipe.compare(dict(list(models.items())[:: 1 if place else -1]), {"x": X}, problem=SUM)
    good, bad = found.models[:: 1 if place else -1]
    assert (good.errors, len(good.seconds), bad.errors, len(bad.seconds)) == (0, 10, 1, 9)
    assert bad.first_failed == "row 2"
    (failure,) = bad.errors_by_kind.values()
    assert failure.first.startswith("model 'bad' failed on this input: ")
    assert [each.elements for each in found.differences] == [9]
    assert found.models[1].ratio.pairs == 9
    assert found.over(1.0) == ["bad failed on 1 call"]
    assert "bad: 1 error (first: row 2): 500 ModelFailed" in found.table()


def test_a_model_that_hangs_is_left_behind_when_its_time_is_over():
    release = threading.Event()

    def slow(x):
        release.wait(30)
        return rowsum(x)

    try:
        found = graphpipe.compare({"good": rowsum, "slow": slow}, {"x": X}, problem=SUM, timeout=0.05, warm_up=0)
    finally:
        release.set()
    good, slow_one = found.models
    assert (good.errors, len(good.seconds)) == (0, 10)
    # Nobody waits for it more than three times in a row.
    assert (slow_one.errors, slow_one.given_up, len(slow_one.seconds)) == (3, True, 0)
    assert "slow was asked no more" in found.table()
    assert found.over(1.0) == ["slow failed on 3 calls", "nothing was compared"]


def test_what_a_model_does_to_its_inputs_and_outputs_is_nobody_elses_trouble():
    kept = []

    def writes(x):
        x += 1
        return rowsum(x)

    def keeps(x):
        kept.append(np.zeros(len(x), np.float32) if not kept else kept[0])
        kept[0][:] = x.sum(axis=1)  # the same array for every call
        return {"y": kept[0]}

    def judges(inputs, outputs, truth):
        with pytest.raises(ValueError, match="read-only"):
            inputs["x"][0] = 0
        with pytest.raises(ValueError, match="read-only"):
            outputs["y"][0] = 0
        return 1.0

    data = {"x": X.copy(), "y": X.sum(axis=1)}
    found = graphpipe.compare([writes, keeps, rowsum], data, problem=SUM, metric=judges)
    assert [model.errors for model in found.models] == [10, 0, 0]
    assert [model.metric_failed for model in found.models] == [0, 0, 0]
    assert np.array_equal(data["x"], X)
    assert [each.beyond for each in found.differences] == [0, 0]


def test_a_broken_promise_is_a_failed_call_and_a_model_that_does_not_fit_is_refused():
    found = graphpipe.compare(
        {"good": rowsum, "bad": lambda x: {"y": x.sum(axis=1).astype(float)}}, {"x": X}, problem=SUM
    )
    assert (found.models[0].errors, found.models[1].errors) == (0, 10)
    assert "breaks its problem 'sums'" in found.table()
    with pytest.raises(LoadError, match="model 'digits' does not fit problem 'sums'"):
        graphpipe.compare([rowsum, DIGITS], {"x": X}, problem=SUM)


# --- without a problem ---


def hinted(**types):
    def made(function):
        return graphpipe.model(
            inputs={name: words for name, words in types.items() if name != "y" and name != "out"},
            outputs={name: words for name, words in types.items() if name == "y" or name == "out"},
        )(function)

    return made


def test_names_are_taken_as_tensorflow_has_them_and_the_only_one_for_the_only_one():
    @hinted(x="float32[n, 2]", y="float32[n]")
    def a(x):
        return x.sum(axis=1)

    @hinted(features="float32[n, 2]", out="float32[n]")
    def b(features):
        return features.sum(axis=1)

    found = graphpipe.compare([a, b], {"x:0": X})
    assert found.max_abs == 0
    assert "model 'b': its only input 'features' is taken for 'x'" in found.table()
    assert "model 'b': its only output 'out' is taken for 'y'" in found.table()


def test_models_that_take_something_else_are_refused_with_all_that_is_different():
    @hinted(x="float32[n, 2]", z="float32[n]", y="float32[n]")
    def a(x, z):
        return x.sum(axis=1) + z

    @hinted(x="float64[n, 3]", w="float32[n]", y="float32[n]")
    def b(x, w):
        return w

    with pytest.raises(LoadError) as refused:
        graphpipe.compare([a, b], {"x": X, "z": X[:, 0]})
    assert "it has no input 'z'; it takes 'w' too; input 'x' is float64[n, 3], and float32[n, 2]" in str(refused.value)


def test_outputs_that_one_lacks_are_left_out_in_words():
    @graphpipe.model(inputs={"x": "float32[n, 2]"}, outputs={"y": "float32[n]", "more": "float32[n]"})
    def a(x):
        return x.sum(axis=1), x[:, 0]

    @graphpipe.model(inputs={"x": "float32[n, 2]"}, outputs={"y": "float32[n]", "less": "float32[n]"})
    def b(x):
        return x.sum(axis=1), x[:, 0]

    found = graphpipe.compare([a, b], {"x": X})
    assert [each.output for each in found.differences] == ["y"]
    assert "model 'b' has no output 'more': the others are compared" in found.table()


# --- what is asked, and by whom ---


def test_the_tests_of_a_problem_are_asked_where_there_are_no_data():
    case = {"inputs": {"x": [[1, 2]]}, "outputs": {"y": [3]}, "name": "small"}
    problem = Problem.of(SUM.inputs, SUM.outputs, tests=[case])
    found = graphpipe.compare([rowsum, lambda x: {"y": x[:, 0] * np.float32(4)}], problem=problem)
    against_first, *against_expected = found.differences
    assert (against_first.max_abs, str(against_first.first)) == (1.0, "small [0]: 4 for 3")
    assert [(each.model, each.max_abs) for each in against_expected] == [("rowsum", 0.0), ("function", 1.0)]
    for nothing in (SUM, None):
        with pytest.raises(ValueError, match="there is nothing to ask"):
            graphpipe.compare([rowsum, rowsum], problem=nothing)


def test_numbers_of_another_type_are_refused_call_by_call_or_converted():
    data = {"x": X.astype(np.float64)}
    found = graphpipe.compare([rowsum, rowsum], data, problem=SUM, batch=5)
    assert [model.errors for model in found.models] == [2, 2]
    assert "input 'x' is float64, but the model takes float32" in found.table()
    found = graphpipe.compare([rowsum, rowsum], data, problem=SUM, batch=5, cast=True)
    assert [model.errors for model in found.models] == [0, 0]


def test_names_of_models_are_told_apart(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "model.onnx").write_bytes(DIGITS.read_bytes())
    files = [tmp_path / folder / "model.onnx" for folder in ("a", "b")]
    found = graphpipe.compare([*files, files[0], DIGITS], {"pixels": np.zeros((1, 64), np.float32)})
    assert [model.name for model in found.models] == [str(files[0]), str(files[1]), f"{files[0]} (2)", "digits"]
    assert [model.name for model in graphpipe.compare([rowsum, lambda x: rowsum(x)], {"x": X}).models] == [
        "rowsum", "function",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("more", "error", "words"),
    [
        ({"batch": 0}, ValueError, "batch is 1 or more; 0 came"),
        ({"repeat": 0}, ValueError, "repeat is 1 or more"),
        ({"scores": ["z"]}, ValueError, "there is no output 'z'; there are 'y'"),
        ({"metric": "no_module_of_this_name:f"}, LoadError, "there is no module"),
        ({"metric": 3}, LoadError, "expected a function or a class"),
        ({"problem": 3}, ProblemError, "a graphpipe.Problem, the path of one"),
        ({"intra_thread": 3}, TypeError, "did you mean 'intra_threads'"),
    ],
)
def test_what_makes_no_sense_is_refused(more, error, words):
    with pytest.raises(error, match=words):
        graphpipe.compare([rowsum, rowsum], {"x": X}, **{"problem": SUM, **more})
    for models in ([], "abc", 7):
        with pytest.raises(ValueError, match=r"no model to compare|expected a list of models"):
            graphpipe.compare(models, {"x": X})


def test_answers_are_let_go_of_as_soon_as_they_are_compared():
    alive = []

    class Answer(np.ndarray):
        pass

    def model(x):
        answer = x.sum(axis=1).view(Answer)
        alive.append(weakref.ref(answer))
        return {"y": answer}

    gc.disable()
    try:
        graphpipe.compare({"a": model, "b": model}, {"x": X}, warm_up=0, metric=lambda i, o, t: 1.0)
        assert len(alive) == 20
        assert [each for each in alive if each() is not None] == []
    finally:
        gc.enable()


def test_ctrl_c_is_the_callers():
    asked = []

    def impatient(x):
        asked.append(1)
        if len(asked) == 5:
            import signal

            signal.raise_signal(signal.SIGINT)
        return rowsum(x)

    with pytest.raises(KeyboardInterrupt):
        graphpipe.compare([rowsum, impatient], {"x": X}, problem=SUM)
    assert len(asked) == 5


def test_the_import_stays_light():
    import subprocess

    code = (
        "import sys, graphpipe; graphpipe.__all__; print('numpy' in sys.modules, 'graphpipe.comparison' in sys.modules)"
    )
    said = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True, text=True).stdout
    assert said == "False False\n"


def test_a_package_brings_its_problem_and_its_tests(tmp_path):
    (tmp_path / "sums.py").write_text("def add(x):\n    return {'y': x.sum(axis=1)}\n")
    problem = Problem.of({"x": "float32[n, 2]"}, {"y": "float32[n]"}, name="sums")
    graphpipe.package.create(
        tmp_path / "sums.zip", model="sums:add", code=[tmp_path / "sums.py"], problem=problem,
        test_data={"inputs": {"x": [[1, 2], [3, 4]]}, "outputs": {"y": [3, 7]}},
    )  # fmt: skip
    found = graphpipe.compare([tmp_path / "sums.zip", lambda x: {"y": x[:, 0] * np.float32(3)}, lambda x: {"y": x}])
    assert (found.about.problem, found.about.calls, found.about.rows) == ("sums", 1, 2)
    assert [model.errors for model in found.models] == [0, 0, 1]  # the third breaks the package's promises
    assert differences(found, False)["function", "y"].max_abs == 2.0
    assert differences(found, True)["sums", "y"].max_abs == 0
