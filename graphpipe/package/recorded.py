"""The tests of a package: each is a request as any client would send it, and the answer to it, as messages of the wire.

    curl --data-binary @tests/0.request http://127.0.0.1:9000

A request names the outputs that it asks for, and the answer has them in that order. Messages hold every type exactly,
text and bool among them, and their reader is made for bytes of strangers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from graphpipe.errors import PackageError, ServiceError
from graphpipe.package.manifest import Manifest, Recorded
from graphpipe.problem import Case, Problem
from graphpipe.wire.messages import (
    MetadataRequest,
    decode_infer_response,
    decode_request,
    encode_infer_response,
    encode_request,
)
from graphpipe.wire.writer import Segment

__all__ = ["TESTS", "problem_of", "record"]

Array = NDArray[Any]

TESTS = "tests"


def record(cases: Sequence[Case], folder: Path) -> tuple[Recorded, ...]:
    """Write tests into a package in the making, which ``folder`` is of."""
    if cases:
        (folder / TESTS).mkdir()
    recorded = []
    for number, case in enumerate(cases):
        request, response = f"{TESTS}/{number}.request", f"{TESTS}/{number}.response" if case.outputs else ""
        _write(folder / request, encode_request([*case.inputs.values()], [*case.inputs], [*case.outputs]))
        if response:
            _write(folder / response, encode_infer_response([*case.outputs.values()]))
        recorded.append(Recorded(request, response, case.rtol, case.atol, case.name))
    return tuple(recorded)


def problem_of(manifest: Manifest, folder: Path) -> Problem:
    """The manifest's problem, with the tests that lie in the package. Raises PackageError for one that is none."""
    return replace(manifest.problem, tests=tuple(_case(each, folder) for each in manifest.tests))


def _write(path: Path, segments: Sequence[Segment]) -> None:
    with path.open("xb") as file:
        for segment in segments:
            file.write(segment)


def _case(test: Recorded, folder: Path) -> Case:
    try:
        request = decode_request((folder / test.request).read_bytes())
        if isinstance(request, MetadataRequest):
            raise PackageError(f"{test.request} asks for metadata, which is no test")
        inputs = _named(request.head.input_names, request.inputs, test.request)
        outputs: dict[str, Array] = {}
        if test.response:
            answer = decode_infer_response((folder / test.response).read_bytes())
            if answer.errors:
                raise PackageError(f"{test.response} has errors in the place of outputs")
            outputs = _named(request.head.output_names, answer.outputs, test.response)
    except ServiceError as error:
        raise PackageError(f"test {test.request} cannot be read: {error.message}") from None
    return Case(inputs, outputs, test.rtol, test.atol, test.name)


def _named(names: Sequence[str], arrays: Sequence[Array], place: str) -> dict[str, Array]:
    if len(names) != len(arrays) or len(set(names)) < len(names):
        raise PackageError(f"{place} has {len(arrays)} tensors under {len(names)} names, where each has its own")
    return dict(zip(names, arrays, strict=True))
