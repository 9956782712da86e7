"""ONNX files whose tensors, or whose compiled parts, are to come from elsewhere, however that is written down: refused, with
nothing read.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import graphpipe
from graphpipe.errors import LoadError
from tests import onnx_graphs


def field(number: int, content: bytes, more: int = 0) -> bytes:
    """One field of a protobuf message; ``more`` is added to its key."""
    return varint((number << 3 | 2) + more) + varint(len(content)) + content


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def pulled(place: str, key: int = 0, flag: int = 1, parts: bool = False) -> bytes:
    """The attribute of a Constant whose tensor lies at a place."""
    entry = field(1, b"location") + field(2, place.encode("utf-8", "surrogateescape"))
    head = b"\x08\x04" + varint(2 << 3) + varint(TensorProto.FLOAT)  # dims 4, float
    outside = field(13, entry, key)
    says = varint(14 << 3) + varint(flag)
    tensors = [head + outside, says] if parts else [head + outside + says]
    return field(1, b"value") + b"".join(field(5, each) for each in tensors) + varint(20 << 3) + b"\x04"


def evil(path: Path, attribute: bytes) -> Path:
    """A model that gives the values of a Constant with this attribute."""
    node = field(2, b"y") + field(4, b"Constant") + field(5, attribute)
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, [4]).SerializeToString()
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1]).SerializeToString()
    graph = field(1, node) + field(2, b"g") + field(11, x) + field(12, output)
    path.write_bytes(b"\x08\x08" + field(7, graph) + field(8, b"\x0a\x00\x10\x12"))
    return path


@pytest.fixture
def secret(tmp_path):
    path = tmp_path / "secret.bin"
    path.write_bytes(np.arange(4, dtype=np.float32).tobytes())
    (tmp_path / "model").mkdir()
    return path


@pytest.mark.parametrize(
    "how",
    [
        {}, {"parts": True}, {"flag": 1 + (1 << 32)}, {"key": 1 << 32},
    ],
    ids=["plainly", "in two parts", "by a flag of 33 bits", "by a field of 33 bits"],
)  # fmt: skip
@pytest.mark.parametrize("suffix", [".onnx", ".ort", ".ORT", ".ONNX"])
def test_tensors_come_from_nowhere_else_however_it_is_written(tmp_path, secret, how, suffix):
    for place in ("../secret.bin", str(secret), "./../secret.bin", "a/../../secret.bin"):
        with pytest.raises(graphpipe.LoadError, match="outside its folder|no whole ONNX file|cannot load") as refused:
            graphpipe.load(evil(tmp_path / "model" / f"m{suffix}", pulled(place, **how)))
        assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", ["w\0.bin", "w" * 5000, ".", ""])
def test_a_name_that_is_none_is_refused(tmp_path, secret, name):
    with pytest.raises(graphpipe.LoadError) as refused:
        graphpipe.load(evil(tmp_path / "model" / "m.onnx", pulled(name)))
    assert "\n" not in str(refused.value)


def test_links_lead_out_of_the_folder_neither_as_a_file_nor_as_a_folder(tmp_path, secret):
    (tmp_path / "model" / "w.bin").symlink_to(secret)
    (tmp_path / "model" / "sub").symlink_to(tmp_path)
    for place in ("w.bin", "sub/secret.bin"):
        with pytest.raises(graphpipe.LoadError, match="outside its folder"):
            graphpipe.load(evil(tmp_path / "model" / "m.onnx", pulled(place)))
    os.mkfifo(tmp_path / "model" / "pipe")
    with pytest.raises(graphpipe.LoadError, match="not a plain file"):
        graphpipe.load(evil(tmp_path / "model" / "m.onnx", pulled("pipe")))


def test_in_its_folder_they_are_found(tmp_path, secret):
    (tmp_path / "model" / "w.bin").write_bytes(secret.read_bytes())
    with graphpipe.load(evil(tmp_path / "model" / "m.onnx", pulled("w.bin"))) as model:
        assert model.infer({"x": np.zeros(1, np.float32)})["y"].tolist() == [0, 1, 2, 3]


def test_a_location_that_a_tensor_no_longer_needs_may_be_missing(tmp_path):
    path = onnx_graphs.scaled(tmp_path / "m.onnx", 2)
    model = onnx.load(path)
    model.graph.initializer[0].external_data.add(key="location", value="gone.bin")
    path.write_bytes(model.SerializeToString())
    with graphpipe.load(path) as loaded:
        assert loaded.infer({"x": np.ones((1, 4), np.float32)})["y"].tolist() == [[2] * 4]


def compiled(where: str, name: str = "EPContext") -> onnx.ModelProto:
    """A model with a node that names a file of another program's, in its graph, in a branch, or in a function."""
    node = helper.make_node(
        name, ["x"], ["y"], domain="com.microsoft", embed_mode=0, ep_cache_context="../secret.bin", main_context=1,
        source="OpenVINOExecutionProvider",
    )  # fmt: skip
    x, y = (helper.make_tensor_value_info(each, TensorProto.FLOAT, [4]) for each in "xy")
    opsets = [helper.make_opsetid(domain, 1 if domain else 18) for domain in ("", "com.microsoft", "own")]
    nodes, functions = [node], []
    if where == "branch":
        branch = helper.make_graph([node], "branch", [], [y])
        true = helper.make_node("Constant", [], ["true"], value=helper.make_tensor("", TensorProto.BOOL, [], [True]))
        nodes = [true, helper.make_node("If", ["true"], ["y"], then_branch=branch, else_branch=branch)]
    elif where == "function":
        functions = [helper.make_function("own", "f", ["x"], ["y"], [node], opsets[:2])]
        nodes = [helper.make_node("f", ["x"], ["y"], domain="own")]
    graph = helper.make_graph(nodes, "g", [x], [y])
    return helper.make_model(graph, opset_imports=opsets, functions=functions, ir_version=8)


@pytest.mark.parametrize("where", ["graph", "branch", "function"])
def test_what_was_compiled_for_a_device_is_not_loaded_wherever_it_is(tmp_path, secret, where):
    path = tmp_path / "model" / "evil.onnx"
    path.write_bytes(compiled(where).SerializeToString())
    with pytest.raises(LoadError, match=r"compiled for a device \(EPContext\).*--trust-model"):
        graphpipe.load(path)
    with pytest.raises(LoadError, match="EPContext") as refused:  # by ONNX Runtime, which has no such device here
        graphpipe.load(path, trust_model=True)
    assert "--trust-model" not in str(refused.value)


def test_what_was_compiled_is_not_loaded_from_the_runtimes_own_format(tmp_path):
    path = tmp_path / "evil.ort"
    path.write_bytes(b"\x20\0\0\0ORTM" + bytes(24) + b"\x09\0\0\0EPContext\0")
    with pytest.raises(LoadError, match=r"compiled for a device \(EPContext\)"):
        graphpipe.load(path)


def test_a_word_that_stands_elsewhere_is_no_such_node(tmp_path):
    model = onnx.load(onnx_graphs.scaled(tmp_path / "good.onnx", 2))
    model.graph.node[0].name = model.doc_string = "EPContext"
    onnx.save(model, tmp_path / "good.onnx")
    with graphpipe.load(tmp_path / "good.onnx") as loaded:
        assert loaded.infer({"x": np.ones((1, 4), np.float32)})["y"].tolist() == [[2.0] * 4]
