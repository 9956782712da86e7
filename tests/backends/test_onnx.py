"""ONNX models in process: what the file says is what is taken and given."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import graphpipe
from tests import onnx_graphs

TYPES = {
    "float32": TensorProto.FLOAT, "float64": TensorProto.DOUBLE, "float16": TensorProto.FLOAT16,
    "bool": TensorProto.BOOL,
    "uint8": TensorProto.UINT8, "int8": TensorProto.INT8, "uint16": TensorProto.UINT16, "int16": TensorProto.INT16,
    "uint32": TensorProto.UINT32, "int32": TensorProto.INT32, "uint64": TensorProto.UINT64, "int64": TensorProto.INT64,
}  # fmt: skip


@pytest.mark.parametrize("name", TYPES)
@pytest.mark.parametrize("shape", [(), (1,), (0, 3), (2, 3)], ids=str)
def test_every_number_type_passes_through_as_it_is(tmp_path: Path, name: str, shape: tuple[int, ...]) -> None:
    dims = [f"d{i}" for i in range(len(shape))]
    with graphpipe.load(onnx_graphs.passing(tmp_path / "m.onnx", TYPES[name], dims)) as model:
        array = np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(name)
        answer = model.infer({"x": array})["y"]
        assert (answer.dtype, answer.shape, answer.tolist()) == (array.dtype, array.shape, array.tolist())


def test_a_bool_may_be_sent_as_it_travels(tmp_path: Path) -> None:
    with graphpipe.load(onnx_graphs.passing(tmp_path / "m.onnx", TensorProto.BOOL, ["n"])) as model:
        for given in (np.array([True, False]), np.array([1, 0], np.uint8), np.array([200, 0], np.uint8)):
            assert model.infer({"x": given})["y"].tolist() == [True, False]


STRINGS = np.array([["", "a"], ["zwölf", "\0nul\0"]], object)


def test_strings_come_back_as_the_bytes_they_were(tmp_path: Path) -> None:
    path = onnx_graphs.passing(tmp_path / "m.onnx", onnx_graphs.STRING, ["n", 2])
    expected = [[item.encode() for item in row] for row in STRINGS.tolist()]
    with graphpipe.load(path) as model:
        as_bytes = np.array(expected, object)
        for given in (STRINGS, as_bytes, STRINGS.astype("U")):
            if given.dtype.kind == "U":  # numpy's own text drops trailing NULs
                given, wanted = given[:1], expected[:1]
            else:
                wanted = expected
            assert model.infer({"x": given})["y"].tolist() == wanted
        with pytest.raises(graphpipe.InvalidRequest, match="'x' has text that is not UTF-8"):
            model.infer({"x": np.array([[b"\xff", b""]], object)})


def test_arrays_of_any_layout_mean_their_values(tmp_path: Path) -> None:
    with graphpipe.load(onnx_graphs.passing(tmp_path / "m.onnx", onnx_graphs.FLOAT, ["a", "b"])) as model:
        array = np.arange(12, dtype=np.float32).reshape(3, 4)
        for given in (array.T, array[::2, ::-1], np.asfortranarray(array), array.astype(">f4")):
            assert model.infer({"x": given})["y"].tolist() == given.tolist()


def test_fixed_named_and_unknown_dimensions_are_told_apart(tmp_path: Path) -> None:
    path = onnx_graphs.passing(tmp_path / "m.onnx", onnx_graphs.FLOAT, ["batch", 3, None, -1])
    with graphpipe.load(path) as model:
        assert str(model.signature) == "(x float32 [batch, 3, ?, ?]) -> (y float32 [batch, 3, ?, ?])"
        assert model.infer({"x": np.zeros((5, 3, 1, 2), np.float32)})["y"].shape == (5, 3, 1, 2)
        with pytest.raises(graphpipe.InvalidRequest, match="2 along axis 1, but the model takes 3 there"):
            model.infer({"x": np.zeros((5, 2, 1, 2), np.float32)})


def test_outputs_come_in_the_order_asked_for(tmp_path: Path) -> None:
    with graphpipe.load(onnx_graphs.pair_sum(tmp_path / "m.onnx")) as model:
        a = np.ones((1, 3), np.float32)
        assert list(model.infer({"b": a, "a": 2 * a})) == ["sum", "twice"]
        asked = model.infer({"b": a, "a": 2 * a}, ["twice", "sum"])
        assert [(name, array[0, 0]) for name, array in asked.items()] == [("twice", 4), ("sum", 3)]


def test_chosen_outputs_are_the_defaults_and_the_others_can_be_asked_for(tmp_path: Path) -> None:
    with graphpipe.load(onnx_graphs.pair_sum(tmp_path / "m.onnx"), outputs=["twice"], inputs=["b", "a"]) as model:
        a = np.ones((1, 3), np.float32)
        assert list(model.infer({"a": a, "b": a})) == ["twice"]
        assert list(model.infer({"a": a, "b": a}, ["sum"])) == ["sum"]
        assert model.signature.input_names == ("b", "a")


def test_an_initializer_listed_as_input_is_not_asked_for(tmp_path: Path) -> None:
    """As exporters of the time before IR version 4 wrote them."""
    weights = helper.make_tensor("w", TensorProto.FLOAT, [3], [1, 2, 3])
    path = onnx_graphs.save(
        tmp_path / "m.onnx", [helper.make_node("Mul", ["x", "w"], ["y"])],
        [("x", TensorProto.FLOAT, ["n", 3]), ("w", TensorProto.FLOAT, [3])],
        [("y", TensorProto.FLOAT, ["n", 3])], [weights],
    )  # fmt: skip
    with graphpipe.load(path) as model:
        assert model.signature.input_names == ("x",)
        assert model.infer({"x": np.ones((1, 3), np.float32)})["y"].tolist() == [[1, 2, 3]]


def test_what_has_no_type_on_the_wire_is_refused_at_load_with_a_sentence(tmp_path: Path) -> None:
    sequence = helper.make_tensor_sequence_value_info("parts", TensorProto.FLOAT, None)
    tensor = helper.make_tensor_value_info("x", TensorProto.FLOAT, [4])
    total = helper.make_tensor_value_info("total", TensorProto.FLOAT, None)
    nodes = [
        helper.make_node("SplitToSequence", ["x"], ["parts"]),
        helper.make_node("ConcatFromSequence", ["parts"], ["total"], axis=0),
    ]

    def saved(name: str, nodes: list[onnx.NodeProto], inputs: list[object], outputs: list[object]) -> Path:
        graph = helper.make_graph(nodes, "g", inputs, outputs)
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), tmp_path / name)
        return tmp_path / name

    out = saved("out.onnx", nodes, [tensor], [sequence, total])
    with pytest.raises(
        graphpipe.LoadError, match=r"output 'parts' is a seq\(tensor\(float\)\), which has no type on the wire"
    ):
        graphpipe.load(out)
    with graphpipe.load(out, outputs=["total"]) as model:  # what the sentence advises
        assert model.infer({"x": np.arange(4, dtype=np.float32)})["total"].tolist() == [0, 1, 2, 3]
    with pytest.raises(graphpipe.LoadError, match="input 'parts' is a seq"):
        graphpipe.load(saved("in.onnx", nodes[1:], [sequence], [total]))
    with pytest.raises(graphpipe.LoadError, match=r"input 'x' is a tensor\(bfloat16\)"):
        graphpipe.load(onnx_graphs.passing(tmp_path / "bf16.onnx", TensorProto.BFLOAT16, [4]))


def test_the_version_is_a_digest_of_the_file_and_of_the_files_beside_it(tmp_path: Path) -> None:
    def version(folder: str, factor: float, **options: object) -> str:
        (tmp_path / folder).mkdir()
        path = onnx_graphs.scaled(tmp_path / folder / "m.onnx", factor, **options)
        with graphpipe.load(path) as model:
            assert model.infer({"x": np.ones((1, 4), np.float32)})["y"].tolist() == [[factor] * 4]
            return model.version

    beside = {"save_as_external_data": True, "location": "weights.bin", "size_threshold": 0}
    assert version("one", 2) == version("same", 2) != version("other", 3)
    assert version("one_beside", 2, **beside) == version("same_beside", 2, **beside)
    # The model's own file is the same byte for byte; only the file beside it differs.
    assert version("other_beside", 3, **beside) != version("third_beside", 2, **beside)
    assert (tmp_path / "one_beside/m.onnx").read_bytes() == (tmp_path / "other_beside/m.onnx").read_bytes()


def test_a_file_beside_the_model_with_a_long_name_counts_too(tmp_path: Path) -> None:
    versions = set()
    for factor in (2, 3):
        folder = tmp_path / str(factor)
        folder.mkdir()
        path = onnx_graphs.scaled(
            folder / "m.onnx", factor, save_as_external_data=True, location="w" * 200, size_threshold=0
        )
        with graphpipe.load(path) as model:
            versions.add(model.version)
    assert len(versions) == 2


def test_a_missing_file_beside_the_model_is_named(tmp_path: Path) -> None:
    path = onnx_graphs.scaled(
        tmp_path / "m.onnx", 2, save_as_external_data=True, location="weights.bin", size_threshold=0
    )
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(graphpipe.LoadError, match=r"weights\.bin"):
        graphpipe.load(path)


@pytest.mark.parametrize("name", ["CPUExecutionProvider", "cpu", "CPU"])
def test_providers_go_by_their_names_short_or_long(tmp_path: Path, name: str) -> None:
    with graphpipe.load(onnx_graphs.scaled(tmp_path / "m.onnx", 2), providers=[name]) as model:
        assert model.infer({"x": np.ones((1, 4), np.float32)})["y"][0, 0] == 2
    with pytest.raises(
        graphpipe.LoadError, match=r"no execution provider 'tpu' here; there are .*CPUExecutionProvider"
    ):
        graphpipe.load(tmp_path / "m.onnx", providers=["tpu", name])


def test_one_model_may_be_called_from_many_threads(tmp_path: Path) -> None:
    wrong: list[object] = []
    with graphpipe.load(onnx_graphs.scaled(tmp_path / "m.onnx", 2), intra_threads=2) as model:

        def work(start: int) -> None:
            for i in range(start, start + 100):
                answer = model.infer({"x": np.full((1, 4), i, np.float32)})["y"]
                if answer.tolist() != [[2 * i] * 4]:
                    wrong.append((i, answer))

        threads = [threading.Thread(target=work, args=(1000 * n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong


def test_a_failure_inside_the_runtime_is_a_failed_model_with_its_cause_attached(tmp_path: Path) -> None:
    path = onnx_graphs.save(
        tmp_path / "m.onnx", [helper.make_node("Mod", ["x", "x"], ["y"])],  # for floating point it lacks fmod=1
        [("x", TensorProto.FLOAT, ["n"])], [("y", TensorProto.FLOAT, ["n"])],
    )  # fmt: skip
    with graphpipe.load(path, name="broken") as model:
        with pytest.raises(graphpipe.ModelFailed, match="'broken' failed on this input") as failure:
            model.infer({"x": np.zeros(5, np.float32)})
        assert "fmod" in str(failure.value.__cause__)


def _gather(path: Path) -> Path:
    return onnx_graphs.save(
        path, [helper.make_node("Gather", ["w", "ids"], ["y"])], [("ids", TensorProto.INT64, ["n"])],
        [("y", TensorProto.FLOAT, ["n"])], [helper.make_tensor("w", TensorProto.FLOAT, [3], [1, 2, 3])],
    )  # fmt: skip


def _number(path: Path) -> Path:
    return onnx_graphs.save(
        path, [helper.make_node("Cast", ["s"], ["y"], to=TensorProto.FLOAT)],
        [("s", TensorProto.STRING, ["n"])], [("y", TensorProto.FLOAT, ["n"])],
    )  # fmt: skip


def _split(path: Path) -> Path:
    return onnx_graphs.save(
        path, [helper.make_node("Split", ["x", "split"], ["y", "z"])],
        [("x", TensorProto.FLOAT, ["n"]), ("split", TensorProto.INT64, [2])],
        [("y", TensorProto.FLOAT, ["a"]), ("z", TensorProto.FLOAT, ["b"])],
    )  # fmt: skip


@pytest.mark.parametrize(
    ("make", "inputs", "words"),
    [
        (_split, {"x": np.zeros(3, "f4"), "split": np.array([1, 1])}, "Cannot split using values"),
        (_gather, {"ids": np.array([99])}, "out of data bounds, idx=99 must be within"),
        (_number, {"s": np.array(["abc"], object)}, "text that is no number"),
        (onnx_graphs.reshaping, {"x": np.zeros(5, np.float32)}, "cannot be reshaped to the requested shape"),
        (onnx_graphs.pair_sum, {"a": np.zeros((2, 3), "f4"), "b": np.zeros((4, 3), "f4")}, "broadcast"),
    ],
)
def test_a_value_that_the_runtime_refuses_is_the_callers(tmp_path: Path, capfd, make, inputs, words) -> None:
    with graphpipe.load(make(tmp_path / "m.onnx")) as model:
        with pytest.raises(graphpipe.InvalidRequest, match=words) as refused:
            model.infer(inputs)
        said = str(refused.value)
        assert "\n" not in said
        assert "onnxruntime" not in said
    assert "onnxruntime" not in capfd.readouterr().err  # nothing past our log


def test_equal_symbols_of_a_file_are_not_held_against_each_other(tmp_path: Path) -> None:
    """Exporters name what they do not know alike."""
    path = onnx_graphs.save(
        tmp_path / "m.onnx", [helper.make_node("Concat", ["a", "b"], ["y"], axis=0)],
        [("a", TensorProto.FLOAT, ["dim_0"]), ("b", TensorProto.FLOAT, ["dim_0"])], [("y", TensorProto.FLOAT, ["m"])],
    )  # fmt: skip
    with graphpipe.load(path) as model:
        assert model.infer({"a": np.ones(2, np.float32), "b": np.ones(3, np.float32)})["y"].shape == (5,)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "is a Git LFS pointer"),
        (b"<!DOCTYPE html><html></html>", "is a web page"),
        (None, "is no whole ONNX file"),
    ],
)
def test_a_file_that_is_no_model_is_told_what_it_is(tmp_path: Path, content, words) -> None:
    path = onnx_graphs.scaled(tmp_path / "m.onnx", 2)
    path.write_bytes(path.read_bytes()[:-3] if content is None else content)
    with pytest.raises(graphpipe.LoadError, match=words):
        graphpipe.load(path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda m: setattr(m, "ir_version", 99), r"IR version 99, and this ONNX Runtime takes \d+ at most"),
        (lambda m: setattr(m.opset_import[0], "version", 99), r"opset 99 of ai\.onnx.* takes \d+ at most"),
        (lambda m: setattr(m.graph.node[0], "op_type", "Blur"), "no operator Blur in opset 18.*--custom-ops"),
    ],
)
def test_why_a_model_cannot_be_loaded_and_how_to_mend_it_is_one_line(tmp_path: Path, change, words) -> None:
    path = onnx_graphs.scaled(tmp_path / "m.onnx", 2)
    model = onnx.load(path)
    change(model)
    onnx.save(model, path)
    with pytest.raises(graphpipe.LoadError, match=words) as refused:
        graphpipe.load(path)
    assert "\n" not in str(refused.value)


def test_text_that_looks_like_a_location_is_not_read(tmp_path: Path) -> None:
    """The digest reads files that tensors lie in, and no others."""
    path = onnx_graphs.scaled(tmp_path / "m.onnx", 2)
    model = onnx.load(path)
    model.metadata_props.add(key="location", value="other")
    model.doc_string = "\n\x08location\x12\x05other"
    onnx.save(model, path)
    versions = set()
    for content in "ab":
        (tmp_path / "other").write_text(content)
        with graphpipe.load(path) as loaded:
            versions.add(loaded.version)
    assert len(versions) == 1


@pytest.mark.parametrize("place", ["../w.bin", "/etc/hostname"])
def test_tensors_outside_the_models_folder_are_refused(tmp_path: Path, place: str) -> None:
    path = onnx_graphs.scaled(tmp_path / "m.onnx", 2)
    model = onnx.load(path)
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=place)
    path.write_bytes(model.SerializeToString())
    with pytest.raises(graphpipe.LoadError, match="outside its folder"):
        graphpipe.load(path)


def test_an_option_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="no setting 'thread'"):
        graphpipe.load(tmp_path / "m.onnx", thread=1)
    with pytest.raises(graphpipe.LoadError, match="there is no backend 'caffe'"):
        graphpipe.load(tmp_path / "m.onnx", backend="caffe")
