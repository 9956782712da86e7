"""Several graphs become one that answers as they do one after another, whatever they were written for."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import graphpipe
from graphpipe.errors import LoadError
from tests.fusing.graphs import graph, saved
from tests.onnx_graphs import slow

SCALE = "scale (float[n, 4] x) => (float[n, 4] h) <float two = {2}> { h = Mul (x, two) }"
SHIFT = "shift (float[m, 4] h) => (float[m, 4] y) <float two = {3}> { y = Add (h, two) }"
X = np.arange(8, dtype=np.float32).reshape(2, 4)


def run(model, **inputs):
    """What ONNX Runtime answers, as a server of this project has it run."""
    import onnxruntime

    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs), strict=True))


def test_what_one_gives_another_takes_by_name_and_the_whole_is_a_file_that_serves(tmp_path):
    one, two = saved(tmp_path / "one.onnx", SCALE), saved(tmp_path / "two.onnx", SHIFT)
    model = graphpipe.fuse(one, two, path=tmp_path / "whole.onnx", name="both")
    assert (tmp_path / "whole.onnx").read_bytes() == model.SerializeToString()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.onnx", "two.onnx", "whole.onnx"]
    assert model.graph.name == "both"
    with graphpipe.load(tmp_path / "whole.onnx") as loaded:
        assert str(loaded.signature) == "(x float32 [n, 4]) -> (y float32 [n, 4])"
        assert np.array_equal(loaded.infer({"x": X})["y"], X * 2 + 3)


def test_parts_with_the_same_names_inside_keep_their_own_values():
    model = graphpipe.fuse(graph(SCALE), graph(SHIFT), graph(SCALE), name_map={"scale_2.x": "y"})
    assert {tensor.name for tensor in model.graph.initializer} == {"scale/two", "shift/two", "scale_2/two"}
    assert np.array_equal(run(model, x=X)["h"], (X * 2 + 3) * 2)


def test_graphs_inside_graphs_keep_their_names_apart(tmp_path):
    # Each has a loop whose body has values of the same names.
    slow(tmp_path / "slow.onnx")
    after = "after (float y, int64 rounds) => (float z) { one = CastLike (rounds, y)  z = Add (y, one) }"
    model = graphpipe.fuse(tmp_path / "slow.onnx", graph(after))
    again = graphpipe.fuse(
        tmp_path / "slow.onnx", tmp_path / "slow.onnx", outputs={"a": "slow.y", "b": "slow_2.y"},
        name_map={"slow_2.rounds": "more"},
    )  # fmt: skip
    rounds = np.array(2, np.int64)
    z = run(model, rounds=rounds)["z"]
    both = run(again, rounds=rounds, more=np.array(1, np.int64))
    assert z == both["a"] + 2
    assert both["a"] != both["b"]


def test_a_graph_inside_sees_values_of_the_part_around_it():
    inside = """branchy (float[n] x, bool c) => (float[n] y) {
        d = Add (x, x)
        y = If (c) <then_branch = t () => (float[n] r) { r = Mul (d, x) },
                    else_branch = e () => (float[n] r) { r = Sub (d, x) }>
    }"""
    first = "first (float[n] a) => (float[n] x) { x = Neg (a) }"
    model = graphpipe.fuse(graph(first), graph(inside))
    a = np.array([1, 2], np.float32)
    assert run(model, a=a, c=np.array(True))["y"].tolist() == [2, 8]
    assert run(model, a=a, c=np.array(False))["y"].tolist() == [-1, -2]


def test_functions_of_the_same_name_are_two_functions():
    def with_function(name, operation):
        body = f'<domain: "own", opset_import: ["" : 17]> f (a) => (b) {{ b = {operation} (a) }}'
        return graph(f"{name} (float[n] x) => (float[n] x_{name}) {{ x_{name} = own.f (x) }}", functions=body, own=1)

    model = graphpipe.fuse(with_function("one", "Neg"), with_function("two", "Abs"), name_map={"two.x": "x_one"})
    assert run(model, x=np.array([3, -4], np.float32))["x_two"].tolist() == [3, 4]
    assert not model.functions


# --- versions ---------------------------------------------------------------------------------------------------------


def test_a_part_for_an_older_opset_is_converted_where_its_operators_changed():
    # Up to 12 Softmax went over all axes from its axis on; from 13 on over that one alone.
    old = graph("old (float[2, 3, 4] x) => (float[2, 3, 4] s) { s = Softmax <axis = 1> (x) }", ir=7, onnx=11)
    new = graph("new (float[2, 3, 4] s) => (float[2, 4] y) <int64[1] axes = {1}> { y = ReduceMax <keepdims = 0> (s, axes) }",
                onnx=18)  # fmt: skip
    x = np.random.default_rng(0).standard_normal((2, 3, 4), np.float32)
    model = graphpipe.fuse(old, new)
    assert [(each.domain, each.version) for each in model.opset_import] == [("", 18)]
    assert np.allclose(run(model, x=x)["y"], run(old, x=x)["s"].max(axis=1))


def test_a_part_whose_operators_did_not_change_is_left_as_it_is():
    old = graph("old (float[n, 4] x) => (float[n, 4] h) { h = MatMul (x, w) }", ir=7, onnx=13)
    old.graph.initializer.append(onnx.numpy_helper.from_array(np.eye(4, dtype=np.float32), "w"))
    model = graphpipe.fuse(old, graph(SHIFT, ir=9, onnx=20))
    assert (model.ir_version, model.opset_import[0].version) == (9, 20)
    assert np.array_equal(run(model, x=X)["y"], X + 3)


def test_what_cannot_be_converted_is_refused_with_what_changed():
    table = '<keys_strings = ["a"], values_int64s = [1]>'
    old = graph(f"old (string[n] t) => (int64[n] i) {{ i = ai.onnx.ml.LabelEncoder {table} (t) }}", ai_onnx_ml=2)
    table = "<keys_int64s = [1], values_int64s = [2]>"
    new = graph(f"new (int64[n] i) => (int64[n] y) {{ y = ai.onnx.ml.LabelEncoder {table} (i) }}", ai_onnx_ml=4)
    with pytest.raises(
        LoadError, match=r"part 1 \(old\): has opset 2 of ai.onnx.ml, .* 4, .* LabelEncoder changed; nothing"
    ):
        graphpipe.fuse(old, new)
    own = graph("own (float[n, 4] x) => (float[n, 4] h) { h = my.own.Op (x) }", my_own=1)
    other = graph("other (float[n, 4] h) => (float[n, 4] y) { y = my.own.Op (h) }", my_own=2)
    with pytest.raises(LoadError, match=r"has opset 1 of my.own, another part has 2, and in between Op changed"):
        graphpipe.fuse(own, other, trial=False)


def test_the_default_domain_is_listed_once_by_its_one_name():
    old = graph(SCALE)
    old.opset_import[0].domain = "ai.onnx"
    old.graph.node[0].domain = "ai.onnx"
    model = graphpipe.fuse(old, graph(SHIFT))
    assert [(each.domain, each.version) for each in model.opset_import] == [("", 17)]
    assert {node.domain for node in model.graph.node} == {""}


def test_weights_that_an_old_format_lists_as_inputs_are_none():
    old = graph("old (float[n, 4] x, float[4] w) => (float[n, 4] h) { h = Mul (x, w) }", ir=3, onnx=7)
    old.graph.initializer.append(onnx.numpy_helper.from_array(np.full(4, 5, np.float32), "w"))
    model = graphpipe.fuse(old, graph(SHIFT))
    assert [info.name for info in model.graph.input] == ["x"]
    assert np.array_equal(run(model, x=X)["y"], X * 5 + 3)


# --- what is kept -----------------------------------------------------------------------------------------------------


def test_metadata_and_descriptions_are_kept_and_told_apart_where_they_differ():
    one, two = graph(SCALE), graph(SHIFT)
    onnx.helper.set_model_props(one, {"labels": "cat,dog", "made_by": "us"})
    onnx.helper.set_model_props(two, {"labels": "red,green", "made_by": "us", "note": "n"})
    one.doc_string = "It scales."
    model = graphpipe.fuse(one, two)
    assert {entry.key: entry.value for entry in model.metadata_props} == {
        "scale.labels": "cat,dog", "shift.labels": "red,green", "made_by": "us", "note": "n",
    }  # fmt: skip
    assert model.doc_string == "scale: It scales."


def test_symbols_are_one_where_a_value_makes_them_one_and_two_where_only_their_names_are_the_same():
    one = graph("one (float[n] x) => (float[n] h) { h = Neg (x) }")
    two = graph("two (float[size] h, float[n] side) => (float[size] y, float[n] z) { y = Abs (h)  z = Neg (side) }")
    model = graphpipe.fuse(one, two)
    shapes = {
        info.name: [dim.dim_param for dim in info.type.tensor_type.shape.dim]
        for info in (*model.graph.input, *model.graph.output)
    }
    assert shapes["x"] == shapes["y"]
    assert shapes["side"] == shapes["z"]
    assert shapes["x"] != shapes["z"]


def test_a_size_that_a_later_part_fixes_is_fixed_for_the_whole():
    fixed = graph("fixed (float[1, 4] h) => (float[1, 4] y) { y = Neg (h) }")
    model = graphpipe.fuse(graph(SCALE), fixed)
    assert [dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim] == [1, 4]


def test_every_value_between_has_a_shape():
    model = graphpipe.fuse(graph(SCALE), graph(SHIFT))
    assert [(info.name, len(info.type.tensor_type.shape.dim)) for info in model.graph.value_info] == [("scale/h", 2)]


# --- what goes where --------------------------------------------------------------------------------------------------


def test_any_output_of_any_part_under_any_name_and_what_none_needs_is_left_out():
    wide = "wide (float[m, 4] h) => (float[m, 4] y, float[m, 4] z) <float k = {3}> { y = Add (h, k)  z = Neg (h) }"
    model = graphpipe.fuse(graph(SCALE), graph(wide), outputs={"doubled": "h", "again": "scale.h", "z": "z"})
    answer = run(model, x=X)
    assert answer["again"].tolist() == answer["doubled"].tolist() == (X * 2).tolist()
    assert answer["z"].tolist() == (X * -2).tolist()
    assert [node.op_type for node in model.graph.node] == ["Mul", "Neg", "Identity"]
    assert [tensor.name for tensor in model.graph.initializer] == ["scale/two"]


def test_an_input_that_two_parts_take_is_given_once_and_a_part_may_pass_one_through():
    one = graph("one (float[n] x, float[n] mask) => (float[n] h, float[n] mask) { h = Neg (x) }")
    two = graph("two (float[n] h, float[n] mask, float[n] x) => (float[n] y) { g = Mul (h, mask)  y = Add (g, x) }")
    model = graphpipe.fuse(one, two, outputs={"y": "y", "same": "mask"})
    assert [info.name for info in model.graph.input] == ["x", "mask"]
    answer = run(model, x=np.array([3, 4], np.float32), mask=np.array([1, 0], np.float32))
    assert answer["y"].tolist() == [0, 4]
    assert answer["same"].tolist() == [1, 0]


def test_an_input_that_may_be_left_out_may_still_be_unless_a_part_gives_it():
    factor = graph("factor (float[n, 4] x, float k) => (float[n, 4] h) { h = Mul (x, k) }")
    factor.graph.initializer.append(onnx.numpy_helper.from_array(np.array(7, np.float32), "k"))
    model = graphpipe.fuse(factor, graph(SHIFT))
    assert np.array_equal(run(model, x=X)["y"], X * 7 + 3)
    assert np.array_equal(run(model, x=X, k=np.array(1, np.float32))["y"], X + 3)
    giver = graph("giver (float a) => (float k) { k = Neg (a) }")
    given = graphpipe.fuse(giver, factor)
    assert np.array_equal(run(given, x=X, a=np.array(2, np.float32))["h"], X * -2)


OPERATIONS = {"Neg": np.negative, "Abs": np.abs, "Add": np.add, "Mul": np.multiply, "Max": np.maximum}
STEP = st.tuples(
    st.sampled_from(sorted(OPERATIONS)), st.sampled_from("abc"), st.sampled_from("abc"), st.sampled_from("abcd")
)


@settings(max_examples=30, deadline=None)
@given(st.lists(STEP, min_size=1, max_size=5))
def test_whatever_the_names_are_a_value_is_what_the_last_part_before_gave_under_that_name(steps):
    inputs = {name: np.array(value, np.float32) for name, value in {"a": [1, -2], "b": [3, 0], "c": [-5, 7]}.items()}
    expected, parts = dict(inputs), []
    for operation, left, right, out in steps:
        arguments = [left] if operation in ("Neg", "Abs") else [left, right]
        expected[out] = OPERATIONS[operation](*(expected[name] for name in arguments))
        takes = ", ".join(f"float[n] {name}" for name in dict.fromkeys(arguments))
        # In a graph a name is one value, in a pipeline the newest: so a part gives it under another name.
        parts.append(
            (
                f"part ({takes}) => (float[n] {out}_out) {{ {out}_out = {operation} ({', '.join(arguments)}) }}",
                arguments,
            )
        )
    newest: dict[str, str] = {}
    name_map, models = {}, []
    for number, (text, arguments) in enumerate(parts):
        name = "part" if number == 0 else f"part_{number + 1}"
        name_map |= {f"{name}.{each}": newest[each] for each in arguments if each in newest}
        models.append(graph(text))
        newest[steps[number][3]] = f"{name}.{steps[number][3]}_out"
    outputs = {f"last_{name}": value for name, value in newest.items()}
    try:
        model = graphpipe.fuse(*models, name_map=name_map, outputs=outputs)
    except LoadError as error:
        assert "is used" in str(error)  # a part whose only value was given anew before anybody looked
        return
    needed = {info.name: inputs[info.name] for info in model.graph.input}
    for name, array in run(model, **needed).items():
        assert np.array_equal(array, expected[name.removeprefix("last_")])


def test_operators_inside_a_branch_are_converted_too():
    old = graph(
        """old (float[2, 3, 4] x, bool c) => (float[2, 3, 4] s) {
        s = If (c) <then_branch = t () => (float[2, 3, 4] r) { r = Softmax <axis = 1> (x) },
                    else_branch = e () => (float[2, 3, 4] q) { q = Neg (x) }>
    }""",
        ir=7,
        onnx=11,
    )
    new = graph("new (float[2, 3, 4] s) => (float[2, 3, 4] y) { y = Softmax <axis = 2> (s) }", onnx=18)
    x = np.random.default_rng(0).standard_normal((2, 3, 4), np.float32)
    model = graphpipe.fuse(old, new)
    s = run(old, x=x, c=np.array(True))["s"]
    assert np.allclose(s.sum(axis=(1, 2)), 1)  # as it was up to 12: over all axes from 1 on
    assert np.allclose(run(model, x=x, c=np.array(True))["y"], run(new, s=s)["y"])
