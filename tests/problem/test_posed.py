"""A model behind a problem: the problem's names and types, what does not fit at load, and what breaks at a call."""

from __future__ import annotations

import gc
import threading
import weakref

import numpy as np
import pytest
from onnx import helper

import graphpipe
from graphpipe import InvalidRequest, LoadError, ModelFailed, Problem, Signature, TensorSpec
from tests.onnx_graphs import FLOAT, save

SUM = Problem.of({"x": "float32[n]", "y": "float32[n]"}, {"out": "float32[n]"}, name="addition")
DETECTION = Problem.of(
    {"picture": "uint8[h, w]"}, {"corners": "float32[found, 4]", "label": "string[found]"}, name="detection"
)
TWO = {"x": "any", "y": "any"}
X, Y = np.array([1, 2], np.float32), np.array([3, 5], np.float32)


class Graph:
    """A model of given inputs and outputs, whose answers are whatever ``answer`` gives."""

    def __init__(self, inputs, outputs, answer=lambda inputs: {}, **more):
        self.signature = Signature(
            tuple(TensorSpec.of(name, text) for name, text in inputs.items()),
            tuple(TensorSpec.of(name, text) for name, text in outputs.items()),
            **more,
        )
        self.answer, self.asked, self.closed = answer, [], False

    def infer(self, inputs, outputs=None, *, config=""):
        self.asked.append((inputs, outputs, config))
        return self.answer(inputs)

    def close(self):
        self.closed = True


def test_a_graph_is_asked_by_its_own_names():
    graph = Graph(
        {"some_namespace/in_x:0": "float32[?]", "some_namespace/in_y:0": "float32[?]"},
        {"some_namespace/out:0": "float32[?]"},
        lambda inputs: {"some_namespace/out:0": inputs["some_namespace/in_x:0"] + inputs["some_namespace/in_y:0"]},
    )  # fmt: skip
    name_map = {"x": "some_namespace/in_x:0", "y": "some_namespace/in_y", "out": "some_namespace/out"}
    posed = SUM.posed(graph, name_map)
    assert posed.signature == SUM.signature
    assert posed.infer({"y": Y, "x": X}, config="c")["out"].tolist() == [4, 7]
    inputs, outputs, config = graph.asked[0]
    assert list(inputs) == ["some_namespace/in_x:0", "some_namespace/in_y:0"]
    assert (list(outputs), config) == (["some_namespace/out:0"], "c")
    posed.close()
    assert graph.closed


def test_a_file_of_onnx_is_behind_its_problem_when_loaded(tmp_path):
    add = helper.make_node("Add", ["x", "y"], ["out"])
    save(tmp_path / "sum.onnx", [add], [("x", FLOAT, ["n"]), ("y", FLOAT, ["n"])], [("out", FLOAT, ["n"])])
    SUM.write(tmp_path / "p.toml")
    for problem in (SUM, tmp_path / "p.toml", str(tmp_path / "p.toml")):
        with graphpipe.load(tmp_path / "sum.onnx", problem=problem) as model:
            assert model.signature == SUM.signature
            assert model.infer({"x": [1, 2], "y": [3, 5]})["out"].tolist() == [4, 7]
            with pytest.raises(InvalidRequest, match="input 'y' has 1 along axis 0, but 'n' is already 2"):
                model.infer({"x": [1, 2], "y": [3]})
    other = Problem.of({"x": "float64[n]", "y": "float32[n]"}, {"out": "float32[n]"}, name="other")
    with pytest.raises(LoadError) as caught:
        graphpipe.load(tmp_path / "sum.onnx", problem=other)
    assert str(caught.value) == (
        "model 'sum' does not fit problem 'other': input 'x' is float64[n], and the model takes float32[n]"
    )


def test_a_function_that_declares_nothing_is_named_by_the_problem():
    model = graphpipe.load(lambda x, y: x + y, problem=SUM)
    assert model.infer({"y": [3, 5], "x": [1, 2]})["out"].tolist() == [4, 7]
    swapped = graphpipe.load(lambda *two: two[0] - two[1], problem=SUM)
    assert swapped.infer({"y": [3, 5], "x": [1, 2]})["out"].tolist() == [-2, -3]
    two = Problem.of({"x": "float32[n]"}, {"first": "float32[n]", "last": "float32[n]"})
    model = graphpipe.load(lambda x: (x, -x), problem=two)
    assert model.infer({"x": X}, ["last"])["last"].tolist() == [-1, -2]
    named = graphpipe.load(lambda x: {"last": -x, "first": x, "more": x}, problem=two)
    assert {name: out.tolist() for name, out in named.infer({"x": X}).items()} == {"first": [1, 2], "last": [-1, -2]}


def test_outputs_that_have_numbers_alone_are_those_of_the_problem_in_their_order():
    two = Problem.of({"x": "any"}, {"first": "float32[n]", "last": "int64[n]"})
    answer = {"output_0": np.zeros(3, np.float32), "output_1": np.ones(3, np.int64)}
    graph = Graph({"x": "any"}, {"output_0": "any", "output_1": "int64[?]"}, lambda _: answer)
    assert two.posed(graph).infer({"x": X}, ["last"])["last"].tolist() == [1, 1, 1]
    assert list(graph.asked[0][1]) == ["output_1"]
    with pytest.raises(LoadError, match="output 'last' of the model is float32, and int64\\[n\\] is promised"):
        two.posed(Graph({"x": "any"}, {"output_0": "any", "output_1": "float32"}))
    # Where a name says which is which, nothing goes by place.
    with pytest.raises(LoadError, match="the model has no output 'last'; its outputs are 'output_0', 'output_1'"):
        two.posed(Graph({"x": "any"}, {"output_0": "any", "output_1": "any"}), {"first": "output_1"})
    with pytest.raises(LoadError, match="the model has no output 'first'"):
        two.posed(Graph({"x": "any"}, {"output_0": "any"}))


@pytest.mark.parametrize(
    ("graph", "name_map", "why"),
    [
        (Graph({"x": "float32[?]"}, {"out": "float32[?]"}), {}, "the model has no input 'y'; its inputs are 'x'"),
        (Graph({"x": "any", "yy": "any"}, {"out": "any"}), {}, "the model has no input 'y'; did you mean 'yy'?"),
        (Graph({"x": "any", "y": "any"}, {"sum": "any"}), {}, "the model has no output 'out'; its outputs are 'sum'"),
        (
            Graph({"x": "any", "y": "any", "z": "any"}, {"out": "any"}),
            {},
            "the model takes 'z' too, which the problem does not give",
        ),
        (
            Graph({"x": "float64[?]", "y": "float32[4]"}, {"out": "string[?]"}),
            {},
            "input 'x' is float32[n], and the model takes float64[?]; "
            "input 'y' is float32[n], and the model takes float32[4]; "
            "output 'out' of the model is string[?], and float32[n] is promised",
        ),
        (
            Graph({"x": "float32[?, ?]", "y": "float32[?]"}, {"out": "float32"}),
            {},
            "input 'x' is float32[n], and the model takes float32[?, ?]",
        ),
        (
            Graph({"x": "float32[?]", "y": "float32[?]"}, {"out": "float32[?, 2]"}),
            {},
            "output 'out' of the model is float32[?, 2], and float32[n] is promised",
        ),
        (Graph(TWO, {"out": "any"}), {"xx": "x"}, "name_map: the problem has no 'xx'; did you mean 'x'?"),
        (Graph(TWO, {"out": "any"}), {"x": 3}, "name_map is from the problem's names to the model's; 3"),
        (Graph(TWO, {"out": "any"}), {"x": "y"}, "input 'y' of the model would be two of the problem's"),
    ],
)  # fmt: skip
def test_all_that_does_not_fit_is_said_at_once(graph, name_map, why):
    with pytest.raises(LoadError) as caught:
        SUM.posed(graph, name_map, name="m")
    assert str(caught.value).startswith("model 'm' does not fit problem 'addition': ")
    assert why in str(caught.value)


def test_sizes_that_the_model_wants_equal_may_not_differ_in_the_problem():
    graph = Graph({"a": "float32[b, k]", "b": "float32[b, k]"}, {"out": "float32"})
    loose = Problem.of({"a": "float32[n, 4]", "b": "float32[m, 4]"}, {"out": "float32"})
    with pytest.raises(
        LoadError, match=r"equal sizes \('b'\) along axis 0 of 'a' and axis 0 of 'b', and the problem lets"
    ):
        loose.posed(graph)
    Problem.of({"a": "float32[n, 4]", "b": "float32[n, 4]"}, {"out": "float32"}).posed(graph)
    # Names that a tool made up mean nothing.
    loose.posed(Graph({"a": "float32[b, k]", "b": "float32[b, k]"}, {"out": "float32"}, loose_symbols=True))


def test_an_input_that_may_be_left_out_need_not_be_in_the_problem():
    graph = Graph({"x": "any", "y": "any", "training": "bool"}, {"out": "any"}, default_inputs=("x", "y"))
    SUM.posed(graph)


def test_what_the_problem_leaves_unsaid_is_the_models_to_say():
    graph = Graph({"x": "float32[batch, 4]"}, {"out": "float32"})
    posed = Problem.of({"x": "any"}, {"out": "float32"}).posed(graph)
    assert posed.signature.inputs == (TensorSpec.of("x", "float32[?, 4]"),)
    posed = Problem.of({"x": "float32"}, {"out": "float32"}).posed(graph)
    assert posed.signature.inputs == (TensorSpec.of("x", "float32[?, 4]"),)


def detect(corners, label):
    graph = Graph(
        {"picture": "any"}, {"corners": "any", "label": "any"}, lambda _: {"corners": corners, "label": label}
    )
    return DETECTION.posed(graph, name="m")


PICTURE = np.zeros((4, 6), np.uint8)


@pytest.mark.parametrize(
    ("corners", "label", "why"),
    [
        (np.ones((3, 5)), [], "output 'corners' is float64[3, 5], and float32[found, 4] was promised"),
        (np.ones((3, 4)), [], "output 'corners' is float64[3, 4], and float32[found, 4] was promised"),
        (np.ones((3, 5), "f4"), [], "output 'corners' is float32[3, 5], and float32[found, 4] was promised"),
        (np.ones(4, "f4"), [], "output 'corners' is float32[4], and float32[found, 4] was promised"),
        (
            np.ones((2, 4), "f4"), ["a"],
            "output 'label' is string[1], and string[found] was promised, where found is 2 in 'corners'",
        ),
        (np.ones((1, 4), "f4"), np.ones(1), "output 'label' is float64[1], and string[found] was promised"),
        (np.ones((1, 4), "f4"), np.array([3], object), "output 'label' is text, and an element of it is an int"),
        (np.ones((1, 4), "f4"), [[1], [2, 3]], "output 'label' is no array but a ragged list"),
    ],
)  # fmt: skip
def test_an_answer_that_was_not_promised_is_a_failure_in_words(corners, label, why):
    posed = detect(corners, label)
    for _ in range(2):  # also where it has been seen
        with pytest.raises(ModelFailed) as caught:
            posed.infer({"picture": PICTURE})
        assert caught.value.message.startswith(f"model 'm' breaks its problem 'detection': {why}")


def test_an_answer_without_an_output_or_none_at_all_is_a_failure():
    graph = Graph({"picture": "any"}, {"corners": "any", "label": "any"}, lambda _: {"corners": 1, "lable": 2})
    with pytest.raises(ModelFailed, match="the model breaks .*: output 'label' is missing; it gave 'corners', 'lable'"):
        DETECTION.posed(graph).infer({"picture": PICTURE}, ["label"])
    graph.answer = lambda _: np.ones(3)
    with pytest.raises(ModelFailed, match="arrays by name were promised, and it gave a ndarray|an ndarray"):
        DETECTION.posed(graph).infer({"picture": PICTURE})


def test_a_size_that_an_input_has_binds_the_outputs():
    problem = Problem.of({"picture": "uint8[h, w]"}, {"mask": "bool[h, w]"})
    graph = Graph({"picture": "any"}, {"mask": "any"}, lambda inputs: {"mask": inputs["picture"] > 0})
    posed = problem.posed(graph)
    assert posed.infer({"picture": PICTURE})["mask"].shape == (4, 6)
    graph.answer = lambda inputs: {"mask": inputs["picture"].T > 0}
    assert posed.infer({"picture": PICTURE[:, :4]})["mask"].shape == (4, 4)
    with pytest.raises(
        ModelFailed, match=r"'mask' is bool\[6, 4\], and bool\[h, w\] was promised, where h is 4 in 'picture'"
    ):
        posed.infer({"picture": PICTURE})


def test_text_is_bytes_as_from_a_server_however_the_model_keeps_it():
    for label in (
        np.array(["ü"]),
        np.array([b"\xc3\xbc"]),
        ["ü"],
        np.array(["ü"], object),
        np.array([b"\xc3\xbc"], object),
    ):
        given = detect(np.ones((1, 4), ">f4"), label).infer({"picture": PICTURE})["label"]
        assert given.tolist() == [b"\xc3\xbc"]
    with pytest.raises(ModelFailed, match="'label'"):
        detect(np.ones((1, 4), ">f4"), np.array(["\ud800"], object)).infer({"picture": PICTURE})


def test_what_a_model_refuses_or_raises_passes():
    def refuse(inputs):
        raise InvalidRequest("no such token")

    with pytest.raises(InvalidRequest, match="no such token"):
        DETECTION.posed(Graph({"picture": "any"}, {"corners": "any", "label": "any"}, refuse)).infer(
            {"picture": PICTURE}
        )

    def end(inputs):
        raise SystemExit(3)

    model = graphpipe.load(end, problem=Problem.of({"inputs": "any"}, {"out": "any"}))
    with pytest.raises(ModelFailed, match="failed on this input"):
        model.infer({"inputs": PICTURE})


def test_a_model_keeps_what_else_it_is():
    class Remote(Graph):
        version, quick, threads = "v1", True, 3

        def infer(self, inputs, outputs=None, *, config="", timeout_s=None):
            return {"out": np.float32(timeout_s or 0)}

    posed = Problem.of({"x": "any"}, {"out": "float32[]"}).posed(Remote({"x": "any"}, {"out": "any"}))
    assert (posed.version, posed.quick, posed.threads, hasattr(posed, "current_version")) == ("v1", True, 3, False)
    assert posed.infer({"x": X}, timeout_s=2.5)["out"] == 2.5


def test_shapes_without_end_are_not_remembered_without_end():
    posed = Problem.of({"x": "float32[n]"}, {"y": "float32[n]"}).posed(
        Graph({"x": "any"}, {"y": "any"}, lambda inputs: {"y": inputs["x"]})
    )
    for n in range(3000):
        posed.infer({"x": np.empty(n, np.float32)})
    assert len(posed._promise._kept) <= 1024


def test_threads_with_other_shapes_do_not_disturb_each_other():
    posed = Problem.of({"x": "float32[n]"}, {"y": "float32[n]"}).posed(
        Graph({"x": "any"}, {"y": "any"}, lambda inputs: {"y": inputs["x"] * 2})
    )
    wrong = []

    def work(start):
        for n in range(start, 2500, 4):
            x = np.ones(n, np.float32)
            if posed.infer({"x": x})["y"].shape != (n,):
                wrong.append(n)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.parametrize("breaks", [False, True])
def test_nothing_of_a_call_is_kept(breaks):
    class Array(np.ndarray):
        """One that can be watched."""

    graph = Graph({"x": "any"}, {"y": "any"}, lambda inputs: {"y": np.ones(9 if breaks else 2, np.float32)})
    posed = Problem.of({"x": "float32[n]"}, {"y": "float32[n]"}).posed(graph, {}, "m")
    gc.disable()
    try:
        x = X.copy().view(Array)
        seen = weakref.ref(x)
        failed = None
        try:
            posed.infer({"x": x})
        except ModelFailed as error:
            failed = error.with_traceback(None)
        graph.asked.clear()
        del x
        assert seen() is None
        assert (failed is not None) == breaks
    finally:
        gc.enable()
