"""A server that has the ONNX sample."""

from pathlib import Path

from tests.contract.samples import Sample, onnx
from tests.serving import serving


def build(folder: Path) -> Sample:
    upstream = serving("--model", onnx.build(folder).source)
    server = upstream.__enter__()
    return Sample(server.url, strings=True, has_symbols=False, close=lambda: upstream.__exit__(None, None, None))
