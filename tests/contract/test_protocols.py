"""A model of every framework answers other protocols as it answers ours, wherever its inputs lie in memory."""

from __future__ import annotations

from typing import Any

import pytest
from numpy.typing import NDArray

from tests.contract.samples import Sample
from tests.open_inference.oracle import Tensor, answered, request
from tests.raw_http import call
from tests.serving import Server

DATATYPES = {"float32": "FP32", "int64": "INT64", "bool": "BOOL", "object": "BYTES", "uint8": "UINT8"}


def tensor(name: str, array: NDArray[Any]) -> Tensor:
    return Tensor(name, DATATYPES[array.dtype.name], array.shape, tuple(array.reshape(-1).tolist()))


@pytest.mark.parametrize("as_bytes", [True, False])
def test_open_inference_gives_what_graphpipe_gives(name: str, sample: Sample, served: Server, as_bytes: bool) -> None:
    for shift in range(9):
        inputs = sample.inputs(3, seed=shift)
        expected = sample.expected(inputs)
        body, length = request(
            [tensor(called, array) for called, array in inputs.items()],
            set(inputs) if as_bytes else None,
            outputs=[{"name": called} for called in expected],
            parameters={"binary_data_output": as_bytes},
            id="i" * shift,  # the tensors begin so many bytes later
        )
        fields = {} if length is None else {"inference_header_content_length": str(length)}
        answer = call(served.url, "POST", f"/v2/models/{name}/infer", body, **fields)
        said, came = answered(answer)
        assert said["id"] == "i" * shift
        assert came == [tensor(called, array) for called, array in expected.items()]
