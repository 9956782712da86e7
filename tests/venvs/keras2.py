"""The contract's model as Keras 2 has it, which has no operations of its own. Run by a Python that has Keras 2."""

from pathlib import Path

from tests.contract.samples import Sample


def build(folder: Path) -> Sample:
    import keras
    import tensorflow as tf

    x = keras.Input((4,), name="x")
    k = keras.Input((), name="k", dtype="int64")
    flags = keras.Input((), name="flags", dtype="bool")
    outputs = {
        "y": x + tf.expand_dims(tf.cast(k, "float32"), 1),
        "total": tf.reduce_sum(x, 1),
        "no": tf.logical_not(flags),
    }
    path = folder / "sample.keras"
    keras.Model({"x": x, "k": k, "flags": flags}, outputs).save(path)
    return Sample(str(path), has_symbols=False)
