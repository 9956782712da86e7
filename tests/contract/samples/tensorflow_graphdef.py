"""A frozen TensorFlow graph."""

from pathlib import Path

from tests.contract.samples import Sample


def build(folder: Path) -> Sample:
    import tensorflow as tf

    v1 = tf.compat.v1
    graph = tf.Graph()
    with graph.as_default():
        x = v1.placeholder(tf.float32, [None, 4], name="x")
        k = v1.placeholder(tf.int64, [None], name="k")
        flags = v1.placeholder(tf.bool, [None], name="flags")
        s = v1.placeholder(tf.string, [None], name="s")
        tf.add(x, tf.cast(k, tf.float32)[:, None], name="y")
        tf.reduce_sum(x, 1, name="total")
        tf.logical_not(flags, name="no")
        tf.strings.join([s, "!"], name="t")
    path = folder / "frozen.pb"
    path.write_bytes(graph.as_graph_def().SerializeToString())
    return Sample(str(path), strings=True, has_symbols=False)
