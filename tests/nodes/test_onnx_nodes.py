"""Every ONNX operator that ONNX Runtime can run comes through a server, whatever the types and shapes of its tensors."""

from __future__ import annotations

import re
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

import graphpipe
from tests import onnx_graphs
from tests.nodes import suite

PAGE = Path(__file__).parents[2] / "docs" / "conformance.md"
BLOCK = re.compile(r"<!-- onnx nodes: .*? -->\n\n(.*?)\n<!-- end of onnx nodes -->", re.DOTALL)

# The first test pays for all of them.
pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return suite.run(tmp_path_factory.mktemp("nodes"))


@pytest.mark.slow
def test_every_case_that_passes_in_process_passes_over_the_wire(results):
    assert results.wrong == {}
    assert results.run > 1000


@pytest.mark.slow
def test_it_is_the_same_to_the_last_bit(results):
    assert results.bit_equal == results.run


@pytest.mark.slow
def test_what_has_no_place_on_the_wire_is_refused_in_a_sentence_that_names_it(results):
    for name, message in results.refused.items():
        assert "\n" not in message, name
        assert re.search(r"(input|output) '.*' is an? .*, which has no type on the wire; ", message), message
        assert suite.kind_of(message) != "something else", message
    assert {"sequences", "optional values", "bfloat16", "float8", "integers of 2 and 4 bits"} <= set(
        results.refused_by_kind
    )


@pytest.mark.slow
def test_the_documented_numbers_are_those_of_this_run(results):
    (documented,) = BLOCK.findall(PAGE.read_text())
    now = suite.as_markdown(results)
    if documented.partition(":")[0] != now.partition(":")[0]:
        pytest.skip(f"the page is about other versions: {documented.partition(':')[0]}")
    # How many ONNX Runtime passes by a hair depends on the processor: those may trade places.
    assert comparable(documented) == comparable(now), f"docs/conformance.md should say:\n\n{now}"


def comparable(table):
    rows = {what: int(count) for what, count in re.findall(r"^\| (.+) \| (\d+) \|$", table, re.MULTILINE)}
    not_passed = rows.pop("that ONNX Runtime loads and does not pass")
    run, *of_these = (rows.pop(what) for what in list(rows) if what.startswith(("run ", "of these")))
    assert of_these == [run, run]
    return {**rows, "run or not passed": run + not_passed}


@pytest.mark.parametrize(
    ("element_type", "what"),
    [
        (TensorProto.COMPLEX64, "complex64|cannot load it"),
        (TensorProto.BFLOAT16, "tensor\\(bfloat16\\), which has no type on the wire"),
        (TensorProto.FLOAT8E4M3FN, "float8e4m3fn"),
        (TensorProto.INT4, "int4"),
    ],
)
def test_a_model_of_a_type_that_does_not_travel_is_refused_by_name(tmp_path, element_type, what):
    path = onnx_graphs.passing(tmp_path / "m.onnx", element_type, ["n"])
    with pytest.raises(graphpipe.LoadError, match=what):
        graphpipe.load(path)


def test_a_model_that_gives_maps_is_refused_by_name(tmp_path):
    node = helper.make_node("ZipMap", ["x"], ["y"], domain="ai.onnx.ml", classlabels_strings=["a", "b"])
    maps = helper.make_sequence_type_proto(
        helper.make_map_type_proto(TensorProto.STRING, helper.make_tensor_type_proto(TensorProto.FLOAT, []))
    )
    graph = helper.make_graph(
        [node],
        "maps",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2])],
        [helper.make_value_info("y", maps)],
    )
    domains = [helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", 1)]
    onnx.save(helper.make_model(graph, opset_imports=domains, ir_version=9), tmp_path / "m.onnx")
    with pytest.raises(graphpipe.LoadError, match=r"output 'y' is a seq\(map\(.*, which has no type"):
        graphpipe.load(tmp_path / "m.onnx")
