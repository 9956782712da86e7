"""TensorFlow and Keras files that would run code, write files or read those of others: refused, unless they are trusted."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphpipe
from graphpipe.errors import LoadError
from tests.backends.test_keras import keras_writes

tf = pytest.importorskip("tensorflow")
X = np.ones((1, 2), np.float32)


def with_lambda(marker: Path) -> Any:
    import keras

    # A lambda's code travels, and with it the path that it holds as a constant.
    code = f"lambda x: (__import__('pathlib').Path({str(marker)!r}).touch(), x * 2)[1]"
    return keras.Sequential([keras.Input((2,)), keras.layers.Lambda(eval(code), output_shape=(2,))])


@keras_writes
@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_the_code_of_a_lambda_layer_is_not_run_even_where_keras_was_told_to(tmp_path, suffix):
    import keras
    from keras.src.saving import serialization_lib

    marker, path = tmp_path / "marker", tmp_path / f"m{suffix}"
    with_lambda(marker).save(path)
    marker.unlink(missing_ok=True)  # building it has run it
    with serialization_lib.SafeModeScope(None):
        keras.config.enable_unsafe_deserialization()  # somebody else's wish in this process
        with pytest.raises(LoadError, match="Lambda layer, and Python code in a file is not run.*--trust-model"):
            graphpipe.load(path)
    assert not marker.exists()
    # The attack is one: whoever trusts the file has it.
    with graphpipe.load(path, trust_model=True) as model:
        assert model.execute(X).tolist() == [[2.0, 2.0]]
    assert marker.exists()


@keras_writes
def test_a_keras_file_calls_no_function_of_python_and_reads_no_file(tmp_path):
    import keras

    keras.Sequential([keras.Input((2,)), keras.layers.Dense(2, activation="relu")]).save(tmp_path / "good.keras")
    marker = tmp_path / "marker"
    for module, name, config in (
        ("os", "system", {"command": f"touch {marker}"}),
        ("builtins", "eval", f"open({str(marker)!r}, 'w')"),
        ("keras.utils", "get_file", {"fname": str(marker), "origin": "file:///etc/hostname"}),
        ("subprocess", "Popen", {"args": ["touch", str(marker)]}),
    ):
        with zipfile.ZipFile(tmp_path / "good.keras") as good, zipfile.ZipFile(tmp_path / "evil.keras", "w") as evil:
            for member in good.namelist():
                content = good.read(member)
                if member == "config.json":
                    whole = json.loads(content)
                    layer = whole["config"]["layers"][1]["config"]
                    layer["activation"] = {
                        "module": module,
                        "class_name": name,
                        "config": config,
                        "registered_name": name,
                    }
                    content = json.dumps(whole).encode()
                evil.writestr(member, content)
        with pytest.raises(LoadError) as refused:
            graphpipe.load(tmp_path / "evil.keras")
        assert "\n" not in str(refused.value)
        assert not marker.exists()


@keras_writes
def test_an_h5_file_takes_no_weights_from_elsewhere(tmp_path):
    import h5py
    import keras

    path = tmp_path / "m.h5"
    keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)]).save(path)
    with h5py.File(tmp_path / "elsewhere.h5", "w") as other, h5py.File(path, "r") as good:
        good.copy("model_weights", other)
    with h5py.File(path, "r+") as file:
        del file["model_weights"]
        file["model_weights"] = h5py.ExternalLink(str(tmp_path / "elsewhere.h5"), "/model_weights")
    with pytest.raises(LoadError, match="ExternalLink"):
        graphpipe.load(path)


def test_a_saved_model_that_touches_files_is_refused_and_writes_nothing(tmp_path):
    marker = tmp_path / "marker"

    class Writes(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None], tf.float32)])
        def __call__(self, x):
            with tf.control_dependencies([tf.io.write_file(str(marker), "x")]):
                return tf.identity(x)

    module = Writes()
    tf.saved_model.save(module, str(tmp_path / "evil"), signatures=module.__call__)
    with pytest.raises(LoadError, match=r"\(WriteFile\) reads or writes files.*--trust-model"):
        graphpipe.load(tmp_path / "evil")
    assert not marker.exists()
    with graphpipe.load(tmp_path / "evil", trust_model=True) as model:
        model.execute(np.ones(1, np.float32))
    assert marker.exists()
