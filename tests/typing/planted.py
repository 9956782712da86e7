"""A user's program with five mistakes, one in each function, on the lines that end in `# planted`."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

import graphpipe


def double(x: NDArray[np.float32]) -> NDArray[np.float32]:
    return 2 * x


def a_text_where_a_number_is_meant() -> None:
    graphpipe.serve(double, threads="4")  # planted


def a_setting_that_does_not_exist() -> None:
    graphpipe.serve(double, nosuch=1)  # planted


def an_option_that_is_nearly_right() -> None:
    graphpipe.load("m.onnx", provider=["CPUExecutionProvider"])  # planted


def an_array_where_names_are_meant(client: graphpipe.Client, array: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
    return client.infer(array)  # planted


def several_outputs_taken_for_one(client: graphpipe.Client, array: NDArray[np.float32]) -> float:
    answer = client.execute(array, output_name=["a", "b"])
    return float(answer.sum())  # planted
