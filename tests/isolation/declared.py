"""Models that say much of themselves."""

import importlib.util

import numpy as np

import graphpipe


class Declared:
    """A model with a version, a description, and a number of threads."""

    version = "seven"
    description = "says much"
    threads = 3
    kind = "example"
    signature = graphpipe.Signature(
        (
            graphpipe.TensorSpec("x", np.dtype("f4"), ("n", 4), "rows"),
            graphpipe.TensorSpec("extra", np.dtype(object), None),
        ),
        (graphpipe.TensorSpec("y", np.dtype("f4"), ("n",)), graphpipe.TensorSpec("z", np.dtype(bool), ("a b", None))),
        default_inputs=("x",),
        default_outputs=("y",),
    )

    def infer(self, inputs, outputs=None, *, config="", timeout_s=None):
        factor = 2 if config == "doubled" and 90 < timeout_s <= 100 else 1
        given = {"y": inputs["x"].sum(axis=1) * np.float32(factor), "z": np.ones((1, 1), bool)}
        return {name: given[name] for name in outputs or ["y"]}

    def close(self):
        pass


class Tested(Declared):
    """One that knows that it is wrong, and how many processes have tested it."""

    def self_test(self):
        raise ArithmeticError("two and two are five")


def installed(x):
    there = [name for name in ("numpy", "click", "pytest") if importlib.util.find_spec(name) is not None]
    return {"there": np.array(there, object)}
