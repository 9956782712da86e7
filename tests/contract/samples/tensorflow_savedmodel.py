"""A TensorFlow SavedModel."""

from pathlib import Path

from tests.contract.samples import Sample


def build(folder: Path) -> Sample:
    import tensorflow as tf

    class Module(tf.Module):
        @tf.function(
            input_signature=[
                tf.TensorSpec([None, 4], tf.float32, "x"),
                tf.TensorSpec([None], tf.int64, "k"),
                tf.TensorSpec([None], tf.bool, "flags"),
                tf.TensorSpec([None], tf.string, "s"),
            ]
        )
        def __call__(self, x, k, flags, s):
            return {
                "y": x + tf.cast(k, tf.float32)[:, None],
                "total": tf.reduce_sum(x, 1),
                "no": tf.logical_not(flags),
                "t": tf.strings.join([s, "!"]),
            }

    module = Module()
    path = folder / "saved"
    tf.saved_model.save(module, str(path), signatures={"serving_default": module.__call__})
    return Sample(str(path), strings=True, has_symbols=False)
