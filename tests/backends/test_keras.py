"""Keras files: what is particular to them. What all backends promise is in tests/contract."""

from __future__ import annotations

import os

import numpy as np
import pytest

import graphpipe
from graphpipe.errors import InvalidRequest, LoadError
from tests.serving import run_to_end


@pytest.fixture(scope="module")
def tf():
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    import tensorflow

    return tensorflow


X = np.array([[1, 2], [3, 4]], np.float32)
# Keras's own variables lack an argument that numpy 2 would like them to have.
keras_writes = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")


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


@keras_writes
@pytest.mark.filterwarnings("ignore:You are saving a model that has not yet been built")
@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_a_keras_model_is_served_in_every_form_in_which_people_build_it(tf, tmp_path, suffix):
    import keras

    layers = keras.layers

    def dense():
        return layers.Dense(3, kernel_initializer="ones", name="dense")

    declared = keras.Sequential([keras.Input((2,), name="x"), dense()])
    built, fitted = keras.Sequential([dense()]), keras.Sequential([dense()])
    built.build((None, 2))
    fitted.compile("sgd", "mse")
    fitted.fit(X, np.zeros((2, 3)), verbose=0)
    x = keras.Input((2,), name="x")
    nested = keras.Model(x, keras.Sequential([dense(), keras.Sequential([dense()])], name="inner")(x))
    y = layers.Dense(1)(x)
    twice = keras.Model(x, {"score": y, "probability": y})
    deep = keras.Model(x, {"a": {"b": y, "c": [y, x]}})
    left, right = keras.Input((2,), name="left"), keras.Input((2,), name="right")
    keyed = keras.Model({"right": right, "left": left}, layers.Subtract(name="less")([right, left]))
    text = keras.Input((), dtype="string", name="text")
    words = layers.TextVectorization(vocabulary=["a", "b"], output_sequence_length=3, name="words")
    normal = layers.Normalization(name="normal")
    normal.adapt(X)
    ids = keras.Input((None,), dtype="int64", name="ids")
    for made, inputs, names in (
        (declared, {"x": X}, ["dense"]),
        (built, X, ["dense"]),
        (fitted, X, ["dense"]),
        (nested, {"x": X}, ["inner"]),
        (twice, {"x": X}, ["probability", "score"]),
        (deep, {"x": X}, ["a_b", "a_c_0", "a_c_1"]),
        (keyed, {"left": X, "right": X * 3}, ["less"]),
        (keras.Sequential([text, words]), {"text": np.array(["a b", "b z"], object)}, ["words"]),
        (keras.Sequential([x, normal]), {"x": X}, ["normal"]),
        (keras.Model(ids, layers.Embedding(3, 1, name="found")(ids)), {"ids": np.array([[1, 2]])}, ["found"]),
    ):
        made.save(tmp_path / f"model{suffix}")
        given = inputs if isinstance(inputs, dict) else None
        wanted = made(
            {key: tf.constant(value) for key, value in given.items()}
            if given and len(given) > 1
            else tf.constant(next(iter(given.values())) if given else inputs)
        )
        with graphpipe.load(tmp_path / f"model{suffix}") as model:
            got = model.infer(given or {model.signature.input_names[0]: inputs})
            assert list(got) == names
            for array, want in zip(got.values(), keras.tree.flatten(wanted), strict=True):
                assert np.allclose(array, want, atol=1e-6)
            if names == ["found"]:
                with pytest.raises(InvalidRequest, match="99 is not in"):
                    model.infer({"ids": [[99]]})
    for made in (keras.Sequential([dense()]), keras.Sequential([])):
        made.save(tmp_path / f"model{suffix}")
        with pytest.raises(LoadError, match="does not know its own inputs, because it was never called"):
            graphpipe.load(tmp_path / f"model{suffix}")


@keras_writes
@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_what_a_keras_file_does_not_hold_is_named_with_the_way_out(tmp_path, suffix):
    import keras

    class Twice(keras.layers.Layer):
        def call(self, x):
            return x * 2

    class Whole(keras.Model):
        def __init__(self, **options):
            super().__init__(**options)
            self.dense = keras.layers.Dense(1)

        def call(self, x):
            return self.dense(x)

        def get_config(self):
            return super().get_config()

    def swish_of_ours(x):
        return x * 2

    x = keras.Input((2,))
    whole = Whole()
    whole(X)
    for made, words in (
        (keras.Sequential([x, Twice()]), "it needs 'Twice', .*model.export"),
        (keras.Model(x, Twice()(x)), "it needs 'Twice', .*model.export"),
        (keras.Model(x, keras.Sequential([Twice()])(x)), "it needs 'Twice', .*model.export"),
        (
            keras.Model(x, keras.layers.Dense(1, activation=swish_of_ours)(x)),
            "it needs 'swish_of_ours', .*model.export",
        ),
        (
            keras.Sequential([x, keras.layers.Lambda(lambda x: x * 2)]),
            "it has a Lambda layer, .* is not run; .*model.export",
        ),
        (whole, "it needs 'Whole', .*model.export"),
    ):
        made.save(tmp_path / f"model{suffix}")
        with pytest.raises(LoadError, match=f"Keras cannot load it: {words}") as caught:
            graphpipe.load(tmp_path / f"model{suffix}")
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 400


@keras_writes
def test_a_damaged_keras_file_is_refused_in_one_line(tmp_path):
    import h5py
    import keras

    made = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, name="dense")])
    made.save(tmp_path / "whole.keras")
    made.save(tmp_path / "whole.h5")
    made.save_weights(tmp_path / "only.weights.h5")
    for suffix in (".keras", ".h5"):
        content = (tmp_path / f"whole{suffix}").read_bytes()
        (tmp_path / f"half{suffix}").write_bytes(content[: len(content) // 2])
    with h5py.File(tmp_path / "whole.h5", "r+") as file:
        file.attrs["model_config"] = file.attrs["model_config"].replace('"units"', '"time_major": false, "units"')
    for name, words in {
        "half.keras": "it is no .keras file, or only a part of one",
        "half.h5": "truncated file",
        "only.weights.h5": "it holds weights alone",
        "whole.h5": "keyword arguments passed to Dense: {'time_major': False}; another version of Keras",
    }.items():
        with pytest.raises(LoadError, match=f"Keras cannot load it: .*{words}") as caught:
            graphpipe.load(tmp_path / name)
        assert "\n" not in str(caught.value)


@pytest.mark.slow
@keras_writes
def test_a_server_of_a_damaged_keras_file_ends_with_the_one_line(tmp_path):
    import keras

    keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]).save(tmp_path / "whole.keras")
    content = (tmp_path / "whole.keras").read_bytes()
    (tmp_path / "half.keras").write_bytes(content[: len(content) // 2])
    ended = run_to_end("--model", tmp_path / "half.keras", "-l", "127.0.0.1:0")
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr
    assert "only a part of one" in ended.stderr.strip().splitlines()[-1]


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
