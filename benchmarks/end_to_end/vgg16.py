"""Make VGG16's convolutions, whose answer of 7x7x512 is that of the 2018 project's charts, as a SavedModel.

    python vgg16.py FOLDER

The weights are random, from one seed: nothing is downloaded, and every folder made so holds the same model. It is in
FOLDER/1, where TF-Serving looks for it too (--model_name=vgg16 --model_base_path=FOLDER).
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import tensorflow as tf

BLOCKS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))  # a pooling behind each


class Convolutions(tf.Module):  # type: ignore[misc,unused-ignore]
    def __init__(self) -> None:
        super().__init__()
        rng = np.random.default_rng(0)
        self.kernels, channels = [], 3
        for filters in (filters for block in BLOCKS for filters in block):
            spread = np.float32((2 / (9 * channels)) ** 0.5)
            self.kernels.append(tf.Variable(rng.standard_normal((3, 3, channels, filters), np.float32) * spread))
            channels = filters
        self.biases = [tf.Variable(tf.zeros(kernel.shape[-1])) for kernel in self.kernels]

    @tf.function(input_signature=[tf.TensorSpec([None, 224, 224, 3], tf.float32, "x")])  # type: ignore[misc,unused-ignore]
    def serve(self, x: Any) -> dict[str, Any]:
        layers = iter(zip(self.kernels, self.biases, strict=True))
        for block in BLOCKS:
            for _ in block:
                kernel, bias = next(layers)
                x = tf.nn.relu(tf.nn.bias_add(tf.nn.conv2d(x, kernel, 1, "SAME"), bias))
            x = tf.nn.max_pool2d(x, 2, 2, "VALID")
        return {"y": x}


if __name__ == "__main__":
    made = Convolutions()
    tf.saved_model.save(made, str(Path(sys.argv[1], "1")), signatures={"serving_default": made.serve})
