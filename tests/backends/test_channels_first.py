"""TensorFlow on a CPU: models whose channels come first, as GPUs like them, give what their channels-last twins give."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import numpy as np
import pytest

import graphpipe
from graphpipe.errors import ModelFailed

RANDOM = np.random.default_rng(15)
KERNEL, DEPTHWISE = RANDOM.normal(size=(3, 3, 4, 6)), RANDOM.normal(size=(3, 3, 4, 2))
TRANSPOSED, GROUPED = RANDOM.normal(size=(3, 3, 5, 4)), RANDOM.normal(size=(3, 3, 2, 6))
SCALE, OFFSET, MEAN = RANDOM.normal(size=(3, 4))
VARIANCE = RANDOM.uniform(0.5, 1, 4)
IMAGE = RANDOM.normal(size=(2, 4, 8, 8)).astype(np.float32)


@pytest.fixture(scope="module")
def tf():
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    import tensorflow

    return tensorflow


def constant(tf, array):
    return tf.constant(array, tf.float32)


def strides(layout, step):
    return [1, 1, step, step] if layout == "NCHW" else [1, step, step, 1]


def padding(layout, *space):
    return [[0, 0], [0, 0], *space] if layout == "NCHW" else [[0, 0], *space, [0, 0]]


def whole(tf, x, layout):
    """What a trained network has in a row."""
    x = tf.nn.conv2d(x, constant(tf, KERNEL[..., :4]), 1, "SAME", data_format=layout)
    x = tf.nn.bias_add(x, constant(tf, OFFSET), data_format=layout)
    x = OPERATIONS["batch norm"](tf, x, layout)
    return tf.nn.max_pool2d(tf.nn.relu(x), 2, 2, "VALID", data_format=layout)


# Of TensorFlow, a tensor and the place of its channels, NCHW or NHWC.
OPERATIONS = {
    "convolution": lambda tf, x, layout: tf.nn.conv2d(
        x, constant(tf, KERNEL), strides(layout, 2), "SAME", data_format=layout
    ),
    "explicit padding": lambda tf, x, layout: tf.nn.conv2d(
        x, constant(tf, KERNEL), 1, padding(layout, [1, 2], [2, 1]), data_format=layout
    ),
    "dilation": lambda tf, x, layout: tf.nn.conv2d(x, constant(tf, KERNEL), 1, "SAME", data_format=layout, dilations=2),
    "groups": lambda tf, x, layout: tf.nn.conv2d(x, constant(tf, GROUPED), 1, "SAME", data_format=layout),
    "depthwise": lambda tf, x, layout: tf.nn.depthwise_conv2d(
        x, constant(tf, DEPTHWISE), strides(layout, 1), "SAME", data_format=layout
    ),
    "transposed": lambda tf, x, layout: tf.nn.conv2d_transpose(
        x,
        constant(tf, TRANSPOSED),
        tf.concat([tf.shape(x)[:1], [5, 16, 16] if layout == "NCHW" else [16, 16, 5]], 0),
        2,
        "SAME",
        data_format=layout,
    ),
    "bias": lambda tf, x, layout: tf.nn.bias_add(x, constant(tf, OFFSET), data_format=layout),
    "batch norm": lambda tf, x, layout: tf.compat.v1.nn.fused_batch_norm(
        x,
        *(constant(tf, each) for each in (SCALE, OFFSET, MEAN, VARIANCE)),
        is_training=False,
        data_format=layout,
    )[0],
    "max pool": lambda tf, x, layout: tf.nn.max_pool2d(x, 3, 2, "SAME", data_format=layout),
    "average pool": lambda tf, x, layout: tf.nn.avg_pool2d(x, 3, 2, "SAME", data_format=layout),
    "whole network": whole,
}


def both(tf, x):
    """The outputs of all operations, channels first, and those of their twins brought into the same order."""
    found = {}
    for name, operation in OPERATIONS.items():
        key = name.replace(" ", "_")
        found[f"own_{key}"] = operation(tf, x, "NCHW")
        twin = operation(tf, tf.transpose(x, [0, 2, 3, 1]), "NHWC")
        found[f"twin_of_{key}"] = tf.transpose(twin, [0, 3, 1, 2])
    return found


@pytest.fixture(scope="module")
def saved(tf, tmp_path_factory):
    @tf.function(input_signature=[tf.TensorSpec([None, 4, 8, 8], tf.float32, "x")])
    def function(x):
        return both(tf, x)

    module = tf.Module()
    module.function = function
    path = tmp_path_factory.mktemp("saved") / "model"
    tf.saved_model.save(module, str(path), signatures=function)
    return path


@pytest.fixture(scope="module")
def frozen(tf, tmp_path_factory):
    built = tf.Graph()
    with built.as_default():
        for name, tensor in both(tf, tf.compat.v1.placeholder(tf.float32, [None, 4, 8, 8], "x")).items():
            tf.identity(tensor, name)
    path = tmp_path_factory.mktemp("graph") / "model.pb"
    path.write_bytes(built.as_graph_def().SerializeToString())
    return path


@pytest.mark.parametrize("kind", ["saved", "frozen"])
def test_each_channels_first_operation_gives_what_its_twin_gives(request, kind):
    with graphpipe.load(request.getfixturevalue(kind)) as model:
        got = {name.removesuffix(":0"): value for name, value in model.infer({"x": IMAGE}).items()}
    assert len(got) == 2 * len(OPERATIONS)
    for name in OPERATIONS:
        key = name.replace(" ", "_")
        own = got[f"own_{key}"]
        assert np.ptp(own) > 0
        np.testing.assert_allclose(own, got[f"twin_of_{key}"], rtol=1e-4, atol=1e-5, err_msg=name)


@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")
def test_a_keras_model_with_channels_first_layers_gives_what_its_twin_gives(tf, tmp_path):
    import keras

    def network(layout):
        layers, channels_first = keras.layers, layout == "channels_first"
        x = given = keras.Input((4, 8, 8) if channels_first else (8, 8, 4))
        x = layers.Conv2D(6, 3, padding="same", data_format=layout)(x)
        x = layers.BatchNormalization(axis=1 if channels_first else -1)(x)
        x = layers.MaxPooling2D(data_format=layout)(layers.ReLU()(x))
        return keras.Model(given, layers.GlobalAveragePooling2D(data_format=layout)(x))

    first, last = network("channels_first"), network("channels_last")
    last.set_weights(first.get_weights())
    first.save(tmp_path / "first.keras")
    last.save(tmp_path / "last.keras")
    with graphpipe.load(tmp_path / "first.keras") as model, graphpipe.load(tmp_path / "last.keras") as twin:
        (got,) = model.infer({model.signature.inputs[0].name: IMAGE}).values()
        (wanted,) = twin.infer({twin.signature.inputs[0].name: IMAGE.transpose(0, 2, 3, 1).copy()}).values()
    assert got.shape == (2, 6)
    np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-5)


PROGRAM = """
import sys, numpy as np, graphpipe
with graphpipe.load(sys.argv[1]) as model:
    model.infer({"x": np.ones((1, 4, 8, 8), np.float32)}, ["own_whole_network"])
"""


@pytest.mark.slow
def test_its_convolutions_are_onednns_without_being_asked_for(saved):
    environment = {name: value for name, value in os.environ.items() if name != "TF_ENABLE_ONEDNN_OPTS"}
    log = subprocess.run(
        [sys.executable, "-c", PROGRAM, saved],
        env={**environment, "ONEDNN_VERBOSE": "1"},
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    for kind in ("convolution", "pooling"):
        assert re.search(rf"exec,cpu,{kind},", log), f"no {kind} in {log[-1000:]}"


def test_channels_first_that_no_kernel_has_are_the_models_failure_and_not_the_callers(tf, tmp_path):
    # Of 64-bit numbers oneDNN has none.
    built = tf.Graph()
    with built.as_default():
        x = tf.compat.v1.placeholder(tf.float64, [None, 4, 8, 8], "x")
        tf.nn.max_pool2d(x, 2, 2, "VALID", data_format="NCHW", name="y")
    path = tmp_path / "model.pb"
    path.write_bytes(built.as_graph_def().SerializeToString())
    with graphpipe.load(path) as model, pytest.raises(ModelFailed):
        model.infer({"x": IMAGE.astype(np.float64)})
