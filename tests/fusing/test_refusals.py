"""What cannot be fused is refused in words, with both sides of it, and what was fused is held against its parts."""

from __future__ import annotations

import contextlib
import subprocess
import sys

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import graphpipe
from graphpipe.errors import LoadError
from tests.fusing.graphs import graph, saved
from tests.fusing.test_fusing import SCALE, SHIFT, X, run


@pytest.mark.parametrize(
    ("takes", "words"),
    [
        ("float[n, 5]", r"gives 'h' float32 \[n, 4\], but part 2 \(other\) takes 'h' float32 \[n, 5\]"),
        ("float[n]", r"gives 'h' float32 \[n, 4\], but .* takes 'h' float32 \[n\]"),
        ("int64[n, 4]", r"gives 'h' float32 \[n, 4\], but .* takes 'h' int64 \[n, 4\]"),
    ],
)
def test_a_value_of_another_type_or_shape_is_refused_with_both(takes, words):
    other = graph(f"other ({takes} h) => ({takes} y) {{ y = Neg (h) }}")
    with pytest.raises(LoadError, match=words):
        graphpipe.fuse(graph(SCALE), other)


def test_what_the_parts_do_not_say_of_themselves_is_found_out():
    # It says [a, b], and is [n, 4] by what it does.
    vague = graph("vague (float[n, 4] x) => (float[a, b] h) { h = Neg (x) }")
    five = graph("five (float[n, 5] h) => (float[n, 5] y) { y = Neg (h) }")
    with pytest.raises(LoadError, match=r"vague\) gives 'h' float32 \[.*4\], but .*five\) takes 'h' float32 \[n, 5\]"):
        graphpipe.fuse(vague, five)


def test_shapes_that_fit_one_by_one_but_not_together_are_refused_with_what_the_node_takes():
    # Each of the two goes in by itself; only a symbol says that they are of one size.
    one = graph("one (float[4] a, float[5] b) => (float[4] p, float[5] q) { p = Neg (a)  q = Neg (b) }")
    both = graph("both (float[k] p, float[k] q) => (float[k] y) { y = Add (p, q) }")
    with pytest.raises(
        LoadError, match=r"do not go together: .*both/Add_0 takes 'one/p' float32 \[4\], 'one/q' float32 \[5\]"
    ):
        graphpipe.fuse(one, both)


def test_a_part_that_contradicts_itself_is_refused():
    wrong = graph("wrong (float[n, 4] x) => (float[n, 7] h) { h = Neg (x) }")
    with pytest.raises(LoadError, match=r"part 1 \(wrong\): its shapes contradict one another: .*4.*7|.*7.*4"):
        graphpipe.fuse(wrong, graph("after (float[n, 7] h) => (float[n, 7] y) { y = Neg (h) }"))


def test_names_that_lead_nowhere_are_refused_with_those_that_there_are():
    with pytest.raises(
        LoadError, match=r"nothing that .*scale\) gives is used: it gives 'h', .*'neg.x'.*\{'neg.x': 'h'\}"
    ):
        graphpipe.fuse(graph(SCALE), graph("neg (float[n, 4] x) => (float[n, 4] y) { y = Neg (x) }"))
    with pytest.raises(LoadError, match=r"no part takes 'q', .* they take 'x', 'h'"):
        graphpipe.fuse(graph(SCALE), graph(SHIFT), name_map={"q": "h"})
    with pytest.raises(LoadError, match=r"no part gives 'yy'; did you mean 'y'\?; they give 'h', 'y'"):
        graphpipe.fuse(graph(SCALE), graph(SHIFT), outputs=["yy"])
    with pytest.raises(LoadError, match=r"'x' would be an input and an output.*outputs=\{'new_x': 'x'\}"):
        graphpipe.fuse(graph(SCALE), graph("neg (float[n, 4] h) => (float[n, 4] x) { x = Neg (h) }"))


def test_inputs_from_outside_that_differ_are_refused():
    one = graph("one (float[n] x, int64[n] side) => (float[n] h) { h = Neg (x) }")
    two = graph("two (float[n] h, float[n] side) => (float[n] y) { y = Add (h, side) }")
    with pytest.raises(LoadError, match=r"one\) takes 'side' int64 \[n\], and .*two\) takes 'side' float32 \[n\]"):
        graphpipe.fuse(one, two)
    a, b = (graph(f"{name} (float[n] x, float k) => (float[n] x_{name}) {{ x_{name} = Mul (x, k) }}") for name in "ab")
    for model, value in ((a, 1), (b, 2)):
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(value, np.float32), "k"))
    with pytest.raises(LoadError, match=r"part 1 \(a\) and part 2 \(b\) have different defaults for the input 'k'"):
        graphpipe.fuse(a, b, name_map={"b.x": "x_a"})


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"<html>", "is a web page"),
        (b"\x08\x09" + b"\x3a\xff\xff\x03" + b"x" * 50, "is no ONNX file|whole ONNX file"),
        (b"some words", "is no ONNX file"),
    ],
)
def test_what_is_no_onnx_file_is_refused(tmp_path, content, words):
    (tmp_path / "bad.onnx").write_bytes(content)
    with pytest.raises(LoadError, match=words):
        graphpipe.fuse(tmp_path / "bad.onnx", graph(SHIFT))


def test_a_file_that_wants_tensors_from_elsewhere_is_refused(tmp_path):
    model = graph(SCALE)
    model.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(np.array(2, np.float32), "two"))
    onnx.external_data_helper.set_external_data(model.graph.initializer[0], "../secret")
    (tmp_path / "inside").mkdir()
    (tmp_path / "secret").write_bytes(b"\0\0\0\0")
    (tmp_path / "inside" / "one.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(LoadError, match="outside its folder"):
        graphpipe.fuse(tmp_path / "inside" / "one.onnx", graph(SHIFT))


BYTES = graph(SCALE).SerializeToString()
CHANGES = st.lists(st.tuples(st.integers(0, len(BYTES) - 1), st.integers(0, 255)), min_size=1, max_size=3)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(CHANGES)
def test_a_file_with_a_few_other_bytes_is_fused_or_refused_and_nothing_else_happens(tmp_path, changes):
    content = bytearray(BYTES)
    for place, byte in changes:
        content[place] = byte
    (tmp_path / "changed.onnx").write_bytes(content)
    with contextlib.suppress(LoadError):
        graphpipe.fuse(tmp_path / "changed.onnx", graph(SHIFT, onnx=18), trial=False)


def test_a_name_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "odd.onnx").write_bytes(BYTES.replace(b"two", b"tw\xff"))
    with pytest.raises(LoadError, match="has names or words that are no UTF-8"):
        graphpipe.fuse(tmp_path / "odd.onnx", graph(SHIFT))


def test_what_is_no_graph_is_refused():
    with pytest.raises(LoadError, match="part 1 is a function; graphs of ONNX can be fused"):
        graphpipe.fuse(len, graph(SHIFT))
    with pytest.raises(LoadError, match="part 2 is a dict"):
        graphpipe.fuse(graph(SCALE), {})
    with pytest.raises(LoadError, match="there is nothing to fuse"):
        graphpipe.fuse()


def test_a_file_is_not_touched_by_what_fails(tmp_path):
    (tmp_path / "whole.onnx").write_text("as it was")
    random = graph("random (float[n, 4] h) => (float[n, 4] y) { r = RandomNormalLike (h)  y = Add (h, r) }")
    with pytest.raises(LoadError, match="does not answer as its parts do, in 'y'"):
        # ONNX Runtime draws other numbers for a node in another place.
        graphpipe.fuse(graph(SCALE), random, path=tmp_path / "whole.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["whole.onnx"]
    assert (tmp_path / "whole.onnx").read_text() == "as it was"
    graphpipe.fuse(random, path=tmp_path / "whole.onnx", trial=False)
    assert onnx.load(tmp_path / "whole.onnx").graph.name == "random"
    with pytest.raises(LoadError, match="cannot be written: No such file or directory"):
        graphpipe.fuse(random, path=tmp_path / "no" / "folder" / "whole.onnx", trial=False)


def test_parts_that_take_nothing_made_up_need_an_example():
    # Only multiples of seven can be laid out so.
    seven = graph("seven (float[n] x) => (float[m, 7] h) <int64[2] shape = {-1, 7}> { h = Reshape (x, shape) }")
    after = graph("after (float[m, 7] h) => (float[m, 7] y) { y = Neg (h) }")
    with pytest.raises(
        LoadError, match=r"take none of the inputs that were made up .*cannot be reshaped.*give an example"
    ):
        graphpipe.fuse(seven, after)
    with pytest.raises(LoadError, match="the parts do not take the example"):
        graphpipe.fuse(seven, after, examples=[{"x": np.zeros(8, np.float32)}])
    model = graphpipe.fuse(seven, after, examples=[{"x": np.ones(14, np.float32)}])
    assert run(model, x=np.ones(7, np.float32))["y"].tolist() == [[-1.0] * 7]


def test_operators_that_the_runtime_does_not_have_are_named():
    own = graph("own (float[n, 4] x) => (float[n, 4] h) { h = my.own.Op (x) }", my_own=1)
    with pytest.raises(LoadError, match=r"own\): ONNX Runtime does not take it: .*my.own.*custom_ops"):
        graphpipe.fuse(own, graph(SHIFT))
    model = graphpipe.fuse(own, graph(SHIFT), trial=False)
    assert {each.domain: each.version for each in model.opset_import} == {"": 17, "my.own": 1}


def test_weights_may_lie_beside_the_file_and_are_read_from_beside_a_part(tmp_path):
    wide = graph("wide (float[n, 2000] x) => (float[n, 2000] h) { h = Mul (x, w) }")
    wide.graph.initializer.append(onnx.numpy_helper.from_array(np.arange(2000, dtype=np.float32), "w"))
    onnx.save(wide, tmp_path / "wide.onnx", save_as_external_data=True, location="weights", size_threshold=0)
    after = graph("after (float[n, 2000] h) => (float[n, 2000] y) { y = Neg (h) }")
    x = np.ones((1, 2000), np.float32)
    inside = graphpipe.fuse(tmp_path / "wide.onnx", after, path=tmp_path / "inside.onnx")
    assert np.array_equal(run(inside, x=x)["y"][0], -np.arange(2000))
    beside = graphpipe.fuse(tmp_path / "wide.onnx", after, path=tmp_path / "beside.onnx", external_data=True)
    assert np.array_equal(run(beside, x=x)["y"][0], -np.arange(2000))
    assert (tmp_path / "beside.onnx").stat().st_size < 1000
    assert (tmp_path / "beside.onnx.data").stat().st_size >= 8000
    with graphpipe.load(tmp_path / "beside.onnx") as model:
        assert np.array_equal(model.infer({"x": x})["y"][0], -np.arange(2000))
    with pytest.raises(LoadError, match="need to know where: path="):
        graphpipe.fuse(tmp_path / "wide.onnx", after, external_data=True)


def test_without_onnx_the_extra_is_named(tmp_path):
    saved(tmp_path / "one.onnx", SCALE)
    code = (
        "import sys; sys.modules['onnx'] = None; import graphpipe\n"
        f"try: graphpipe.fuse({str(tmp_path / 'one.onnx')!r})\n"
        "except graphpipe.LoadError as error: print(error)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "pip install 'graphpipe-rpc[fuse]'" in said


# --- the command ------------------------------------------------------------------------------------------------------


def fuse(*arguments, cwd):
    command = [sys.executable, "-m", "graphpipe.server.start", "fuse", *arguments]
    code = "import sys; from graphpipe.server.start import main; sys.argv[0] = 'graphpipe'; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *command[3:]], cwd=cwd, capture_output=True, text=True, check=False
    )


def test_the_command_writes_the_file_and_says_what_it_takes_and_gives(tmp_path):
    saved(tmp_path / "one.onnx", SCALE)
    saved(tmp_path / "two.onnx", SHIFT.replace("h)", "p)").replace("(h,", "(p,"))
    np.savez(tmp_path / "example.npz", x=X)
    done = fuse(
        "one.onnx", "two.onnx", "-o", "whole.onnx", "--name-map", "two.p=h", "--outputs", "y,first=one.h",
        "--example", "example.npz", "--name", "w", cwd=tmp_path,
    )  # fmt: skip
    size = (tmp_path / "whole.onnx").stat().st_size
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (
        f"whole.onnx: 2 graphs in one, {size} B; opsets ai.onnx 17\n"
        "  takes x: float32 [n, 4]\n  gives y: float32 [n, 4]\n  gives first: float32 [n, 4]\n"
    )
    assert onnx.load(tmp_path / "whole.onnx").graph.name == "w"


def test_the_command_refuses_in_one_line(tmp_path):
    saved(tmp_path / "one.onnx", SCALE)
    saved(tmp_path / "two.onnx", SHIFT)
    (tmp_path / "bad.npz").write_text("no arrays")
    for arguments, words in (
        (("one.onnx", "none.onnx"), "none.onnx: no such file; did you mean one.onnx?"),
        (("one.onnx", "two.onnx", "--example", "bad.npz"), "bad.npz: is no .npz file of numbers and texts"),
    ):
        done = fuse(*arguments, "-o", "whole.onnx", cwd=tmp_path)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith(f"graphpipe: {words}")
        assert done.stderr.count("\n") == 1
    assert fuse("one.onnx", "two.onnx", "-o", "w.onnx", "--name-map", "h", cwd=tmp_path).returncode == 2
    assert not (tmp_path / "whole.onnx").exists()
