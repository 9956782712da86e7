"""What is said of an ONNX file: its operators as they are run, and their time."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import graphpipe
from graphpipe.backends import onnx_nodes
from graphpipe.bench.requests import synthetic
from graphpipe.errors import LoadError
from graphpipe.explanation.explaining import explain
from graphpipe.explanation.picture import svg
from tests.onnx_graphs import BOOL, FLOAT, INT64, STRING, passing, save

DIGITS = Path(__file__).parents[2] / "examples" / "digits" / "digits.onnx"
LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"


def explained(path, runs=3, **shapes):
    with graphpipe.load(str(path)) as model:
        return explain(model, synthetic(model.signature.inputs, 1, shapes, 0), runs)


@pytest.mark.parametrize("path", [DIGITS, *sorted(LIGHT.glob("*.onnx"))], ids=lambda path: path.stem)
def test_what_is_read_of_a_file_is_what_onnx_reads(path):
    """A second reader of the same bytes: the library of the format itself."""
    graph, model = onnx_nodes.read(path), onnx.load(path)
    assert [(n.kind, n.name, n.gives) for n in graph.nodes] == [
        (n.op_type, n.name, tuple(filter(None, n.output))) for n in model.graph.node
    ]
    assert [n.takes for n in graph.nodes] == [tuple(filter(None, n.input)) for n in model.graph.node]
    assert graph.weights == {tensor.name for tensor in model.graph.initializer}
    assert graph.weight_count == sum(int(np.prod(tensor.dims)) for tensor in model.graph.initializer)
    assert graph.opset == next(each.version for each in model.opset_import if not each.domain)


def test_a_file_that_was_cut_off_is_no_graph(tmp_path):
    content = DIGITS.read_bytes()
    for length in (5, 100, len(content) // 2, len(content) - 1):
        cut = tmp_path / "cut.onnx"
        cut.write_bytes(content[:length])
        with pytest.raises(LoadError, match="no whole ONNX file"):
            onnx_nodes.read(cut)


def test_every_operator_that_is_run_has_a_time_though_it_has_no_name():
    assert not any(node.name for node in onnx.load(DIGITS).graph.node)
    found = explained(DIGITS)
    assert (found.made_of, found.is_linked) == ("operators", True)
    assert Counter(part.kind for part in found.parts) == found.written
    assert all(part.seconds is not None for part in found.parts)
    assert found.weights == 9612
    assert sum(found.share(part.seconds) for part in found.parts) == pytest.approx(1)
    gemms = [found.values[part.gives[0][1]].seen for part in found.parts if part.kind == "Gemm"]
    assert sorted(gemms) == ["float32[1, 10]", "float32[1, 128]"]
    ends = [(found.values[i].name, found.values[i].declared) for i in (*found.inputs, *found.outputs)]
    assert ends == [("pixels", "float32[n, 64]"), ("label", "int64[n]"), ("probabilities", "float32[n, 10]")]


def test_what_goes_between_operators_leads_from_one_to_the_next():
    found = explained(DIGITS)
    given = {place for part in found.parts for _, place in part.gives}
    for part in found.parts:
        assert part.takes, part  # weights are not among them, and something is
        assert {place for _, place in part.takes} <= given | set(found.inputs)
    assert set(found.outputs) <= given


def test_operators_that_were_made_one_are_shown_as_they_are_run(tmp_path):
    """A MatMul and an Add become a Gemm when the file is loaded."""
    weights = [
        numpy_helper.from_array(np.ones((8, 4), np.float32), "w"), numpy_helper.from_array(np.ones(4, np.float32), "b"),
    ]  # fmt: skip
    path = save(
        tmp_path / "linear.onnx",
        [helper.make_node("MatMul", ["x", "w"], ["xw"], name="times"),
         helper.make_node("Add", ["xw", "b"], ["y"], name="plus")],
        [("x", FLOAT, [2, 8])], [("y", FLOAT, [2, 4])], weights,
    )  # fmt: skip
    found = explained(path)
    assert found.written == {"MatMul": 1, "Add": 1}
    assert [part.kind for part in found.parts] == ["Gemm"]
    assert [(kind.name, kind.written, kind.run) for kind in found.kinds()] == [
        ("Gemm", 0, 1), ("Add", 1, 0), ("MatMul", 1, 0),
    ]  # fmt: skip


def test_weights_beside_a_file_are_found(tmp_path):
    weights = [numpy_helper.from_array(np.ones((64, 64), np.float32), "w")]
    path = save(
        tmp_path / "large.onnx", [helper.make_node("MatMul", ["x", "w"], ["y"])], [("x", FLOAT, ["n", 64])],
        [("y", FLOAT, ["n", 64])], weights, save_as_external_data=True, size_threshold=0, location="large.data",
    )  # fmt: skip
    found = explained(path)
    assert (found.weights, [part.kind for part in found.parts]) == (4096, ["MatMul"])
    assert found.parts[0].seconds is not None


def test_what_runs_inside_of_a_loop_counts_as_the_loop(tmp_path):
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["go_on"]), helper.make_node("Mul", ["v", "v"], ["squared"])],
        "body",
        [
            helper.make_tensor_value_info(*each)
            for each in (("i", INT64, []), ("go", BOOL, []), ("v", FLOAT, [400, 400]))
        ],
        [helper.make_tensor_value_info(*each) for each in (("go_on", BOOL, []), ("squared", FLOAT, [400, 400]))],
    )
    constants = [numpy_helper.from_array(np.array(20), "times"), numpy_helper.from_array(np.array(True), "yes")]
    path = save(
        tmp_path / "loop.onnx", [helper.make_node("Loop", ["times", "yes", "x"], ["y"], body=body)],
        [("x", FLOAT, [400, 400])], [("y", FLOAT, [400, 400])], constants,
    )  # fmt: skip
    found = explained(path)
    assert [part.kind for part in found.parts] == ["Loop"]
    assert found.kinds()[0].seconds > 0


def test_a_model_of_texts_is_measured_too(tmp_path):
    found = explained(passing(tmp_path / "texts.onnx", STRING, ["n"]))
    assert [(part.kind, part.seconds is not None) for part in found.parts] == [("Identity", True)]
    assert found.values[found.outputs[0]].seen == "string[1]"


def test_a_graph_of_many_operators_is_summed_up_in_the_picture(tmp_path):
    nodes = [helper.make_node("Sin" if i % 2 else "Cos", [f"v{i}"], [f"v{i + 1}"], name=f"n{i}") for i in range(60)]
    path = save(tmp_path / "long.onnx", nodes, [("v0", FLOAT, ["n"])], [("v60", FLOAT, ["n"])])
    drawn = svg(explained(path))
    assert ">30 Sin<" in drawn
    assert ">30 Cos<" in drawn
    assert "v33" not in drawn


def test_a_model_whose_names_are_others_in_front_is_explained_without_its_operators():
    problem = graphpipe.Problem.of({"digit": "float32[n, 64]"}, {"kind": "int64[n]"})
    with graphpipe.load(str(DIGITS)) as model:
        posed = problem.posed(model.model, {"digit": "pixels", "kind": "label"})
        with graphpipe.load(posed) as loaded:
            found = explain(loaded, synthetic(loaded.signature.inputs, 1, {}, 0), 2)
    assert (found.made_of, found.seconds is not None) == ("", True)
    assert "its operators cannot be measured" in found.notes[0]
