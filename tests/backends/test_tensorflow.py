"""TensorFlow: what is particular to each of its formats. What all backends promise is in tests/contract."""

from __future__ import annotations

import logging
import os

import numpy as np
import pytest

import graphpipe
from graphpipe.errors import InvalidRequest, LoadError


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


def test_any_tensor_of_a_graph_can_be_asked_for_by_name(graph, serve):
    path = graph(chain)
    with graphpipe.load(path) as model:
        got = model.infer({"x": X}, ["middle", "y:0", "halves:1", "x"])
        assert list(got) == ["middle", "y:0", "halves:1", "x"]
        assert np.array_equal(got["middle"], X * 2)
        assert np.array_equal(got["x"], X)
        with pytest.raises(InvalidRequest, match=r"no output 'midle' .*; did you mean 'middle'"):
            model.infer({"x": X}, ["midle"])
    server = serve("--model", path)
    assert np.array_equal(graphpipe.remote.execute(server.url, X, "x", "middle"), X * 2)


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

    from graphpipe.backends.load import LoadOptions
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


# --- Keras ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_a_keras_file_gives_what_the_model_gives(tf, tmp_path, suffix, recwarn):
    import keras

    keras.utils.set_random_seed(1)
    images = keras.Input((8, 8, 3), name="images")
    scale = keras.Input((1,), name="scale")
    flat = keras.layers.Flatten()(keras.layers.Conv2D(4, 3, activation="relu")(images))
    dropped = keras.layers.Dropout(0.5)(flat)
    outputs = [keras.layers.Dense(5, name="scores")(dropped), keras.layers.Multiply(name="scaled")([flat, scale])]
    made = keras.Model([images, scale], outputs)
    path = tmp_path / f"model{suffix}"
    made.save(path)
    recwarn.clear()  # .h5 is a format that Keras would rather not write
    inputs = {"images": np.random.default_rng(0).random((3, 8, 8, 3), np.float32), "scale": np.ones((3, 1), np.float32)}
    expected = made([inputs["images"], inputs["scale"]], training=False)
    with graphpipe.load(path) as model:
        assert model.signature.input_names == ("images", "scale")
        assert model.signature.output_names == ("scores", "scaled")
        got = model.infer({"scale": inputs["scale"], "images": inputs["images"]})
    for name, want in zip(("scores", "scaled"), expected, strict=True):
        assert np.allclose(got[name], want, atol=1e-4)


def test_a_file_that_keras_cannot_read_is_refused_in_one_line(tmp_path):
    path = tmp_path / "model.keras"
    path.write_bytes(b"nonsense")
    with pytest.raises(LoadError, match="Keras cannot load it") as caught:
        graphpipe.load(path)
    assert "\n" not in str(caught.value)


# --- the original project's model -------------------------------------------------------------------------------------


@pytest.mark.slow  # a minute of one CPU
def test_vgg16_answers_over_the_wire_as_in_process(tf, tmp_path, serve):
    import keras

    made = keras.applications.VGG16(weights=None, include_top=False, input_shape=(224, 224, 3))
    made.export(str(tmp_path / "vgg16"), verbose=False)
    images = np.random.default_rng(0).random((2, 224, 224, 3), np.float32)
    expected = np.asarray(made(images))
    del made
    with graphpipe.load(tmp_path / "vgg16") as model:
        [spec] = model.signature.inputs
        assert spec.shape == (None, 224, 224, 3)
        [(name, here)] = model.infer({spec.name: images}).items()
    assert here.shape == (2, 7, 7, 512)
    assert np.allclose(here, expected, atol=1e-4)
    server = serve("--model", tmp_path / "vgg16")
    with graphpipe.Client(server.url, timeout=100) as client:
        there = client.execute(images)
        assert client.metadata().outputs[0].shape == (-1, 7, 7, 512)
    assert there.shape == (2, 7, 7, 512)
    # One thread here, several there: the sums come in another order.
    assert np.allclose(there, here, atol=1e-4)
    assert name == model.signature.output_names[0]
