"""A Keras file."""

from pathlib import Path

from tests.contract.samples import Sample


def build(folder: Path) -> Sample:
    import keras

    x = keras.Input((4,), name="x")
    k = keras.Input((), name="k", dtype="int64")
    flags = keras.Input((), name="flags", dtype="bool")
    outputs = {
        "y": x + keras.ops.expand_dims(keras.ops.cast(k, "float32"), 1),
        "total": keras.ops.sum(x, 1),
        "no": keras.ops.logical_not(flags),
    }
    path = folder / "sample.keras"
    keras.Model({"x": x, "k": k, "flags": flags}, outputs).save(path)
    return Sample(str(path), has_symbols=False)
