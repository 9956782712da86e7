"""TensorFlow: what is particular to each of its formats. What all backends promise is in tests/contract."""

from __future__ import annotations

import logging
import os

import numpy as np
import pytest

import graphpipe
from graphpipe.errors import InvalidRequest, LoadError, ModelFailed
from tests.serving import serving


@pytest.fixture(scope="module")
def tf():
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    import tensorflow

    return tensorflow


@pytest.fixture(scope="module")
def graph(tf, tmp_path_factory):
    """Writes a frozen graph of what a function adds to it: ``graph(build)`` gives the file."""

    def write(build, name="graph.pb"):
        built = tf.Graph()
        with built.as_default():
            build(tf, tf.compat.v1.placeholder)
        path = tmp_path_factory.mktemp("graph") / name
        path.write_bytes(built.as_graph_def().SerializeToString())
        return path

    return write


@pytest.fixture(scope="module")
def saved(tf, tmp_path_factory):
    """A SavedModel with two signatures."""

    class Module(tf.Module):
        def __init__(self):
            super().__init__()
            self.weights = tf.Variable([[1.0], [2.0]])

        @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.float32, "x")])
        def linear(self, x):
            return {"y": x @ self.weights}

        @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.float32, "x"), tf.TensorSpec([], tf.float32, "by")])
        def scale(self, x, by):
            return {"scaled": x * by, "by": by}

    module = Module()
    path = tmp_path_factory.mktemp("saved") / "model"
    signatures = {"serving_default": module.linear, "scale": module.scale}
    tf.saved_model.save(module, str(path), signatures=signatures)
    return path


X = np.array([[1, 2], [3, 4]], np.float32)


# --- SavedModel -------------------------------------------------------------------------------------------------------


def test_a_saved_model_serves_its_default_signature_under_its_own_names(saved):
    with graphpipe.load(saved) as model:
        assert str(model.signature) == "(x float32 [?, 2]) -> (y float32 [?, 1])"
        assert model.infer({"x": X})["y"].tolist() == [[5.0], [11.0]]
        assert model.infer({"x:0": X}, ["y:0"])["y:0"].tolist() == [[5.0], [11.0]]
        assert len(model.version) == 64


def test_another_signature_is_had_by_its_key(saved):
    with graphpipe.load(saved, signature="scale") as model:
        assert model.signature.input_names == ("by", "x")
        got = model.infer({"x": X, "by": np.float32(3)})
        assert np.array_equal(got["scaled"], X * 3)
        assert got["by"].shape == ()


def test_an_unknown_signature_lists_those_that_there_are(saved):
    with pytest.raises(LoadError, match="no signature 'nonsense'; there are 'scale', 'serving_default'"):
        graphpipe.load(saved, signature="nonsense")


def test_a_saved_model_is_found_by_its_file_and_in_numbered_versions(saved, tmp_path):
    assert graphpipe.load(saved / "saved_model.pb").signature.output_names == ("y",)
    for version in ("1", "10", "9"):
        (tmp_path / "served").mkdir(exist_ok=True)
        (tmp_path / "served" / version).symlink_to(saved)
    assert graphpipe.load(tmp_path / "served").signature.output_names == ("y",)


def test_a_saved_model_without_signatures_says_what_is_missing(tf, tmp_path):
    tf.saved_model.save(tf.Module(), str(tmp_path / "bare"))
    with pytest.raises(LoadError, match="has no signatures"):
        graphpipe.load(tmp_path / "bare")


def test_a_broken_saved_model_is_refused_in_one_line(tmp_path):
    (tmp_path / "saved_model.pb").write_bytes(b"nonsense")
    with pytest.raises(LoadError, match="TensorFlow cannot load it") as caught:
        graphpipe.load(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_saved_model_of_tensorflow_1_serves_too(tf, tmp_path):
    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, [None, 2], name="inner_x")
        weight = v1.get_variable("weight", initializer=3.0, use_resource=True)
        y = tf.multiply(x, weight, name="inner_y")
        session.run(v1.global_variables_initializer())
        logging.getLogger("tensorflow").setLevel(logging.ERROR)
        v1.saved_model.simple_save(session, str(tmp_path / "old"), {"features": x}, {"scores": y})
    with graphpipe.load(tmp_path / "old") as model:
        assert str(model.signature) == "(features float32 [?, 2]) -> (scores float32 [?, 2])"
        assert np.array_equal(model.infer({"features": X})["scores"], X * 3)


@pytest.fixture(scope="module")
def tagged(tf, tmp_path_factory):
    """Writes a SavedModel with a graph for each of some sets of tags; graph i adds 1,000 i: ``tagged(["serve"])``."""
    v1 = tf.compat.v1

    def write(*tag_sets):
        path = str(tmp_path_factory.mktemp("tagged") / "model")
        builder = v1.saved_model.Builder(path)
        for i, tags in enumerate(tag_sets):
            with tf.Graph().as_default(), v1.Session() as session:
                x = v1.placeholder(tf.float32, [None], "x")
                weight = v1.get_variable("weight", [], initializer=v1.ones_initializer())
                signature = v1.saved_model.predict_signature_def({"x": x}, {"y": x * weight + 1000.0 * i})
                session.run(v1.global_variables_initializer())
                if i == 0:
                    builder.add_meta_graph_and_variables(session, tags, {"serving_default": signature})
                else:
                    builder.add_meta_graph(tags, {"serving_default": signature})
        builder.save()
        return path

    return write


def answer_of(path, **options):
    with graphpipe.load(path, **options) as model:
        return model.infer({"x": np.ones(1, np.float32)})["y"].tolist()


@pytest.fixture(scope="module")
def several(tagged):
    return tagged(["serve", "gpu"], ["serve"], [])


@pytest.fixture(scope="module")
def served(several, graph):
    """The URL of a server with ``several``, of which it takes the graph for GPUs, and the graph ``chain``."""
    models = ("--model", f"several={several}", "--model", f"chain={graph(chain)}")
    with serving(*models, "--tags", "several=serve,gpu") as server:
        yield server.url


def test_of_several_graphs_the_one_tagged_serve_alone_is_served_and_others_by_their_tags(several, served):
    path = several
    assert answer_of(path) == [1001.0]
    assert answer_of(path, tags=["gpu", "serve"]) == [1.0]
    assert answer_of(path, tags=[]) == [2001.0]
    with pytest.raises(LoadError, match="no graph with exactly the tags 'gpu'; it has graphs with .*; serve; no tags"):
        graphpipe.load(path, tags=["gpu"])
    assert graphpipe.remote.execute(f"{served}/models/several", np.ones(1, np.float32)).tolist() == [1.0]


@pytest.mark.parametrize("tags", [["serve", "gpu"], ["train"], []], ids=str)
def test_a_single_graph_is_served_whatever_its_tags(tagged, tags):
    path = tagged(tags)
    assert answer_of(path) == answer_of(path, tags=tags) == [1.0]
    with pytest.raises(LoadError, match="no graph with exactly the tags 'other'"):
        graphpipe.load(path, tags=["other"])


def test_several_graphs_of_which_none_is_tagged_serve_alone_want_to_be_told(tagged):
    with pytest.raises(
        LoadError, match="'serve'; it has graphs with train; (serve,tpu|tpu,serve): choose one with --tags"
    ):
        graphpipe.load(tagged(["train"], ["serve", "tpu"]))


@pytest.fixture(scope="module")
def odd(tf, tmp_path_factory):
    """A SavedModel with outputs that cannot travel, an input that may be left out, and values that may be wrong."""
    two = tf.constant(2.0)

    class Module(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, "x"), tf.TensorSpec([], tf.float32, "by")])
        def odd(self, x, by=two):
            return {
                "y": x * by,
                "complex": tf.cast(x, tf.complex64),
                "half": tf.cast(x, tf.bfloat16),
                "handle": tf.raw_ops.EmptyTensorList(element_shape=[1], max_num_elements=1, element_dtype=tf.float32),
                "ragged": tf.RaggedTensor.from_row_lengths(x, tf.ones_like(x, tf.int64)),
                "sparse": tf.sparse.from_dense(x),
            }

        @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, "x")])
        def nothing(self, x):
            return {"ragged": tf.RaggedTensor.from_row_lengths(x, tf.ones_like(x, tf.int64))}

        @tf.function(input_signature=[tf.TensorSpec([None], tf.complex64, "x")])
        def complex(self, x):
            return {"y": tf.abs(x)}

        @tf.function(input_signature=[tf.TensorSpec([None, None], tf.int64, "ids")])
        def tokens(self, ids):
            return {"y": tf.gather(tf.constant([1.0, 2.0, 3.0]), ids), "folded": tf.reshape(ids, [-1, 2])}

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "text")])
        def numbers(self, text):
            return {"y": tf.strings.to_number(text)}

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "text")])
        def examples(self, text):
            return {"y": tf.io.parse_example(text, {"a": tf.io.FixedLenFeature([2], tf.float32)})["a"]}

        @tf.function(input_signature=[tf.TensorSpec([], tf.string, "text")])
        def image(self, text):
            return {"y": tf.io.decode_image(text)}

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "text")])
        def compressed(self, text):
            return {"y": tf.io.decode_compressed(text, "ZLIB")}

        @tf.function(input_signature=[tf.TensorSpec([None, None], tf.float32, "x")])
        def product(self, x):
            return {"y": x @ tf.ones([tf.shape(x)[0], 1])}

        @tf.function(input_signature=[tf.TensorSpec([], tf.int64, "rows")])
        def memory(self, rows):
            return {"y": tf.zeros([rows, rows])}

    module = Module()
    path = tmp_path_factory.mktemp("odd") / "model"
    names = ["nothing", "complex", "tokens", "numbers", "examples", "image", "compressed", "product", "memory"]
    signatures = {"serving_default": module.odd, **{name: getattr(module, name) for name in names}}
    tf.saved_model.save(module, str(path), signatures=signatures)
    return path


def test_outputs_that_cannot_travel_are_in_nobodys_way_unless_they_are_asked_for(odd):
    with graphpipe.load(odd) as model:
        assert model.signature.output_names == ("y",)
        assert list(model.infer({"x": X[0]})) == ["y"]
        for name, what in {
            "complex": "complex64, which has no type on the wire",
            "half": "bfloat16",
            "handle": "variant",
            "ragged": "a RaggedTensor, which has no form on the wire",
            "sparse": "a SparseTensor",
        }.items():
            with pytest.raises(InvalidRequest, match=f"output '{name}' is {what}"):
                model.infer({"x": X[0]}, [name])
            with pytest.raises(LoadError, match=f"output '{name}' is {what}"):
                graphpipe.load(odd, outputs=[name])
        with pytest.raises(InvalidRequest, match="there is no output 'nonsense'; there are 'y'"):
            model.infer({"x": X[0]}, ["nonsense"])
    with pytest.raises(LoadError, match="there is no output 'nonsense'"):
        graphpipe.load(odd, outputs=["nonsense"])
    with pytest.raises(LoadError, match="output 'ragged' is a RaggedTensor"):
        graphpipe.load(odd, signature="nothing")
    with pytest.raises(LoadError, match="input 'x' is complex64, which has no type on the wire"):
        graphpipe.load(odd, signature="complex")


def test_an_input_with_a_value_of_its_own_may_be_left_out(odd):
    with graphpipe.load(odd) as model:
        assert model.signature.input_names == ("x",)
        assert model.infer({"x": X[0]})["y"].tolist() == [2.0, 4.0]
        assert model.infer({"x": X[0], "by": np.float32(5)})["y"].tolist() == [5.0, 10.0]


@pytest.mark.parametrize(
    ("signature", "inputs", "words"),
    [
        ("tokens", {"ids": [[99, 0]]}, r"indices\[0,0\] = 99 is not in \[0, 3\)"),
        ("tokens", {"ids": [[1]]}, "a multiple of 2"),
        ("numbers", {"text": ["1", "/srv/someone/file"]}, "could not correctly convert string"),
        ("numbers", {"text": ["x" * 100_000]}, r"could not correctly convert string: x+\.\.\."),
        ("examples", {"text": [b"junk"]}, "Feature: a"),
        ("image", {"text": b"junk"}, "Unknown image file format"),
        ("compressed", {"text": [b"junk"]}, "inflate"),
        ("product", {"x": np.ones((2, 3), np.float32)}, r"In\[0\]: \[2,3\]"),
    ],
)
def test_what_tensorflow_calls_invalid_is_the_callers_and_told_in_one_line(odd, signature, inputs, words):
    with graphpipe.load(odd, signature=signature) as model, pytest.raises(InvalidRequest, match=words) as caught:
        model.infer(inputs)
    message = str(caught.value)
    assert len(message) < 400
    for noise in ("\n", "{{", "[[", "__inference", "/srv/"):
        assert noise not in message


@pytest.mark.slow
def test_what_nobody_knows_is_the_models(tf, odd):
    with graphpipe.load(odd, signature="memory") as model, pytest.raises(ModelFailed):
        model.infer({"rows": np.int64(1 << 30)})

    def build(tf, placeholder):
        def fail(x):
            raise ValueError("a bug")

        tf.numpy_function(fail, [placeholder(tf.float32, [], name="x")], tf.float32, name="y")

    from graphpipe.backends.tensorflow.runtime import refuse

    built = tf.Graph()
    with built.as_default():
        build(tf, tf.compat.v1.placeholder)
        with tf.compat.v1.Session() as session, pytest.raises(tf.errors.InvalidArgumentError) as caught:
            session.run("y:0", {"x:0": 1.0})
    refuse(caught.value)  # Python code in a model raised it, whatever TensorFlow calls it


def test_an_operator_that_is_not_there_and_missing_files_are_named(tf, saved, tmp_path):
    import shutil

    for name in ("operator", "variables", "data", "whole", "empty"):
        shutil.copytree(saved, tmp_path / name)
    file = tmp_path / "operator" / "saved_model.pb"
    file.write_bytes(file.read_bytes().replace(b"\x06MatMul", b"\x06MyMult"))
    shutil.rmtree(tmp_path / "variables" / "variables")
    (tmp_path / "data" / "variables" / "variables.data-00000-of-00001").write_bytes(b"1")
    file = tmp_path / "whole" / "saved_model.pb"
    file.write_bytes(file.read_bytes()[:1000])
    (tmp_path / "empty" / "saved_model.pb").write_bytes(b"")
    for name, words in {
        "operator": "Op type not registered 'MyMult'.* --custom-ops",
        "variables": "Failed to find any matching files",
        "data": "TensorFlow cannot load it: .*bytes",
        "whole": "Cannot parse file",
        "empty": "this SavedModel is empty",
    }.items():
        with pytest.raises(LoadError, match=words) as caught:
            graphpipe.load(tmp_path / name)
        assert "\n" not in str(caught.value)


# --- frozen graphs ----------------------------------------------------------------------------------------------------


def chain(tf, placeholder):
    x = placeholder(tf.float32, [None, 2], name="x")
    by = tf.compat.v1.placeholder_with_default(2.0, [], name="by")
    middle = tf.multiply(x, by, name="middle")
    tf.add(middle, 1.0, name="y")
    tf.split(x, 2, 1, name="halves")


def test_a_graph_takes_its_placeholders_and_gives_what_nothing_consumes(graph):
    with graphpipe.load(graph(chain)) as model:
        assert model.signature.input_names == ("x:0",)
        assert model.signature.output_names == ("y:0", "halves:0", "halves:1")
        assert np.array_equal(model.infer({"x": X}, ["y"])["y"], X * 2 + 1)
        assert [spec.name for spec in model.signature.inputs] == ["x:0", "by:0"]
        assert np.array_equal(model.infer({"x": X, "by": np.float32(5)}, ["y"])["y"], X * 5 + 1)


def test_any_tensor_of_a_graph_can_be_asked_for_by_name(graph, served):
    with graphpipe.load(graph(chain)) as model:
        got = model.infer({"x": X}, ["middle", "y:0", "halves:1", "x"])
        assert list(got) == ["middle", "y:0", "halves:1", "x"]
        assert np.array_equal(got["middle"], X * 2)
        assert np.array_equal(got["x"], X)
        with pytest.raises(InvalidRequest, match=r"no output 'midle' .*; did you mean 'middle'"):
            model.infer({"x": X}, ["midle"])
    assert np.array_equal(graphpipe.remote.execute(f"{served}/models/chain", X, "x", "middle"), X * 2)


def test_a_name_of_millions_of_letters_is_looked_for_at_once_and_told_in_short(graph):
    with graphpipe.load(graph(chain)) as model:
        for name in ("y" * 15_000_000, f"{'y' * 15_000_000}:0", "y:00", "y:-1", "^y", "y:"):
            with pytest.raises(InvalidRequest) as refused:
                model.infer({"x": X}, [name])
            assert len(refused.value.message) < 300
        assert np.array_equal(model.infer({"x": X}, ["y"])["y"], X * 2 + 1)


def test_other_inputs_and_outputs_can_be_made_the_defaults(graph):
    with graphpipe.load(graph(chain), inputs=["middle"], outputs=["y"]) as model:
        assert str(model.signature) == "(middle:0 float32 [?, 2]) -> (y:0 float32 [?, 2])"
        assert np.array_equal(model.infer({"middle": X})["y:0"], X + 1)
    with pytest.raises(LoadError, match="no tensor 'nonsense'"):
        graphpipe.load(graph(chain), outputs=["nonsense"])


def test_endlessly_many_questions_do_not_fill_the_memory(graph):
    def wide(tf, placeholder):
        x = placeholder(tf.float32, [None], name="x")
        for i in range(70):
            tf.add(x, float(i), name=f"y{i}")

    with graphpipe.load(graph(wide)) as model:
        for i in range(70):
            assert model.infer({"x": X[0]}, [f"y{i}"])[f"y{i}"].tolist() == [1.0 + i, 2.0 + i]
        assert len(model.model._callables) <= 64


def test_a_graph_wants_only_what_its_named_outputs_need(graph):
    def build(tf, placeholder):
        x = placeholder(tf.float32, [None], name="x")
        other = placeholder(tf.float32, [None], name="other")
        tf.identity(placeholder(tf.complex64, [None], name="odd"), name="odder")
        middle = tf.multiply(x, 2.0, name="middle")
        tf.add(middle, other, name="y")

    path = graph(build)
    for name in ("middle", "middle:0"):
        with graphpipe.load(path, outputs=[name]) as model:
            assert model.signature.input_names == ("x:0",)
            assert model.infer({"x": X[0]})["middle:0"].tolist() == [2.0, 4.0]
            assert model.infer({"x": X[0], "other": X[0]}, ["y"])["y"].tolist() == [3.0, 6.0]
            with pytest.raises(InvalidRequest, match="must feed a value for placeholder tensor 'other'"):
                model.infer({"x": X[0]}, ["y"])
    with graphpipe.load(path, outputs=["middle", "middle:0"]) as model:
        assert model.signature.output_names == ("middle:0",)
    with pytest.raises(LoadError, match="output 'odder:0' is complex64"):
        graphpipe.load(path, outputs=["odder"])
    with pytest.raises(LoadError, match="input 'odd:0' is complex64"):
        graphpipe.load(path)


def files(tf, placeholder, folder):
    """A graph with all that a training leaves behind, and what somebody may have put into it."""
    v1 = tf.compat.v1
    x = placeholder(tf.float32, [None, 2], name="x")
    tf.multiply(x, 2.0, name="y")
    content = tf.io.read_file(str(folder / "shape"), name="content")
    tf.reshape(x, tf.io.decode_raw(content, tf.int32), name="shaped")
    with tf.control_dependencies([tf.io.write_file(str(folder / "written"), "written")]):
        tf.identity(x, name="writes")
    v1.get_variable("weight", [2], use_resource=False)
    v1.train.Saver(filename=str(folder / "checkpoint"))
    v1.global_variables_initializer()

    @tf.function
    def hidden(name):
        return tf.io.read_file(name)

    tf.identity(hidden(str(folder / "shape")), name="called")
    tf.io.read_file(placeholder(tf.string, [], name="name"), name="any")


def test_a_graph_runs_no_node_that_touches_files_unless_it_is_on_the_way_to_a_named_output(graph, tmp_path):
    (tmp_path / "shape").write_bytes(np.array([2, 2], np.int32).tobytes())
    path = graph(lambda tf, placeholder: files(tf, placeholder, tmp_path))
    with graphpipe.load(path, outputs=["y"]) as model:
        assert model.signature.input_names == ("x:0",)
    with graphpipe.load(path, inputs=["x", "name"]) as model:
        assert not {"content:0", "shaped:0", "writes:0", "called:0", "any:0"} & set(model.signature.output_names)
        inputs = {"x": X, "name": np.array(str(tmp_path / "shape"), object)}
        for name in ("content", "shaped", "writes:0", "called", "any", "save/control_dependency"):
            with pytest.raises(InvalidRequest, match=rf"output '{name}' is not had: .* files; .*--outputs"):
                model.infer(inputs, [name])
        assert not any("Assign" in name for name in model.signature.output_names)
    assert not (tmp_path / "written").exists()
    with graphpipe.load(path, outputs=["shaped", "any"]) as model:
        got = model.infer({"x": X, "name": np.array(str(tmp_path / "shape"), object)})
        assert got["shaped:0"].tolist() == X.tolist()
        assert len(got["any:0"].item()) == 8
        with pytest.raises(InvalidRequest, match="'writes' is not had"):
            model.infer({"x": X, "name": np.array(b"", object)}, ["writes"])


def test_a_graph_that_only_reads_files_says_how_it_is_served(graph):
    path = graph(lambda tf, placeholder: tf.io.read_file(placeholder(tf.string, [], name="name"), name="y"))
    with pytest.raises(LoadError, match=r"no output is left: 'y' \(ReadFile\) reads or writes files; .*--outputs"):
        graphpipe.load(path)
    with graphpipe.load(path, outputs=["y"]) as model:
        assert model.infer({"name": np.array(str(path), object)})["y:0"].item() == path.read_bytes()


def test_a_value_that_a_graph_refuses_is_the_callers(graph):
    def build(tf, placeholder):
        tf.gather(tf.constant([1.0, 2.0, 3.0]), placeholder(tf.int64, [None], name="ids"), name="y")

    with (
        graphpipe.load(graph(build)) as model,
        pytest.raises(InvalidRequest, match=r"the model cannot take this: indices\[0\] = 99 is not in \[0, 3\)$"),
    ):
        model.infer({"ids": [99]})


@pytest.mark.parametrize("content", [b"", b"nonsense", bytes(100)])
def test_a_file_that_is_no_graph_is_refused(tmp_path, content):
    path = tmp_path / "graph.pb"
    path.write_bytes(content)
    with pytest.raises(LoadError, match="not a frozen TensorFlow graph"):
        graphpipe.load(path)


@pytest.mark.parametrize(
    ("dtype", "shape", "value"),
    [
        ("float16", [None], np.array([1, 2], np.float16)),
        ("bool", [None], np.array([True, False])),
        ("uint8", [2], np.array([1, 255], np.uint8)),
        ("int8", [2], np.array([1, -1], np.int8)),
        ("uint16", [2], np.array([1, 65535], np.uint16)),
        ("int16", [2], np.array([1, -1], np.int16)),
        ("uint32", [2], np.array([1, 2**32 - 1], np.uint32)),
        ("int32", [2], np.array([1, -1], np.int32)),
        ("uint64", [2], np.array([1, 2**64 - 1], np.uint64)),
        ("int64", [2], np.array([1, -1], np.int64)),
        ("float64", [], np.float64(3)),
        ("string", [None, None, None], np.array([[[b"a", b""], [b"\xff\0", "\u00e4".encode()]]], object)),
        ("string", [], np.array(b"alone", object)),
        ("string", [None, 2], np.empty((0, 2), object)),
        ("float32", None, np.ones((1, 2, 1, 2), np.float32)),
    ],
    ids=str,
)
def test_every_type_comes_and_goes_with_any_rank(graph, dtype, shape, value):
    def identity(tf, placeholder):
        tf.identity(placeholder(dtype, shape, name="x"), name="y")

    with graphpipe.load(graph(identity)) as model:
        got = model.infer({"x": value}, ["y"])["y"]
    assert got.shape == np.shape(value)
    assert got.dtype == np.asarray(value).dtype
    assert np.array_equal(got, value)


def test_text_may_be_given_as_str(graph):
    def identity(tf, placeholder):
        tf.identity(placeholder(tf.string, [None], name="x"), name="y")

    with graphpipe.load(graph(identity)) as model:
        assert model.infer({"x": np.array(["a", "\u00e4"])})["y:0"].tolist() == [b"a", "\u00e4".encode()]


@pytest.mark.parametrize("dtype", ["bfloat16", "complex64", "qint8"])
def test_a_type_that_does_not_travel_is_refused_by_its_name(graph, dtype):
    def build(tf, placeholder):
        x = placeholder(tf.float32, [None], name="x")
        tf.identity(x, name="fine")
        placeholder(dtype, [None], name="odd")

    with pytest.raises(LoadError, match=f"input 'odd:0' is {dtype}"):
        graphpipe.load(graph(build))
    with graphpipe.load(graph(build), inputs=["x"], outputs=["fine"]) as model:
        assert model.infer({"x": X[0]})["fine:0"].tolist() == [1.0, 2.0]
        with pytest.raises(InvalidRequest, match=f"output 'odd' is {dtype}"):
            model.infer({"x": X[0]}, ["odd"])


def test_a_channels_first_convolution_runs_on_a_cpu(graph):
    def convolution(tf, placeholder):
        x = placeholder(tf.float32, [None, 3, 8, 8], name="x")
        tf.nn.conv2d(x, tf.ones([3, 3, 3, 5]), 1, "VALID", data_format="NCHW", name="y")

    image = np.ones((2, 3, 8, 8), np.float32)
    with graphpipe.load(graph(convolution)) as model:
        got = model.infer({"x": image})["y:0"]
    assert got.shape == (2, 5, 6, 6)
    assert np.allclose(got, 27)


def test_a_large_aligned_input_becomes_a_tensor_without_a_copy(tf):
    import mmap

    from graphpipe.backends.options import LoadOptions
    from graphpipe.backends.tensorflow.runtime import runtime

    array = np.frombuffer(memoryview(mmap.mmap(-1, 1 << 20)).toreadonly(), np.float32)
    backend = runtime("", LoadOptions())
    assert np.shares_memory(np.asarray(backend.tensor(array)), array)
    backend._eager = None  # as if a release of TensorFlow had moved it
    try:
        assert np.array_equal(np.asarray(backend.tensor(array)), array)
    finally:
        import graphpipe.backends.tensorflow.runtime as module

        module._runtime = None


def test_a_device_that_is_not_there_is_refused_with_those_that_are(saved):
    with pytest.raises(LoadError, match="no device 'cuda:7' here; it has CPU:0"):
        graphpipe.load(saved, device="cuda:7")
    with graphpipe.load(saved, device="cpu") as model:
        assert model.infer({"x": X})["y"].tolist() == [[5.0], [11.0]]


def test_operators_that_cannot_be_loaded_are_named(saved, tmp_path):
    with pytest.raises(LoadError, match=r"nowhere\.so: TensorFlow cannot load these operators"):
        graphpipe.load(saved, custom_ops=[str(tmp_path / "nowhere.so")])
