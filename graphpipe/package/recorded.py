"""The tests of a package: each is a request as any client would send it, and the answer to it, as messages of the wire.

    curl --data-binary @tests/0.request http://127.0.0.1:9000

A request names the outputs that it asks for, and the answer has them in that order. Messages hold every type exactly,
text and bool among them, and their reader is made for bytes of strangers.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphpipe.errors import PackageError, ServiceError
from graphpipe.package.manifest import Manifest, Recorded
from graphpipe.problem import Case, Problem
from graphpipe.signature import TensorSpec
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


def record(problem: Problem, folder: Path) -> tuple[Recorded, ...]:
    """Write a problem's tests into a package in the making, which ``folder`` is of."""
    if problem.tests:
        (folder / TESTS).mkdir()
    untyped = {spec.name for spec in problem.outputs if spec.dtype is None}
    recorded = []
    for number, case in enumerate(problem.tests):
        if lost := [name for name, array in case.outputs.items() if name in untyped and array.dtype == np.bool_]:
            raise PackageError(
                f"output {lost[0]!r} of a test is bool, which an answer does not say by itself; say so in the problem"
            )
        request, response = f"{TESTS}/{number}.request", f"{TESTS}/{number}.response" if case.outputs else ""
        _write(folder / request, encode_request([*case.inputs.values()], [*case.inputs], [*case.outputs]))
        if response:
            _write(folder / response, encode_infer_response([*case.outputs.values()]))
        recorded.append(Recorded(request, response, case.rtol, case.atol, case.name))
    return tuple(recorded)


def problem_of(manifest: Manifest, folder: Path) -> Problem:
    """The manifest's problem, with the tests that lie in the package. Raises PackageError for one that is none."""
    problem = manifest.problem
    return replace(problem, tests=tuple(_case(each, folder, problem) for each in manifest.tests))


def _write(path: Path, segments: Sequence[Segment]) -> None:
    with path.open("xb") as file:
        for segment in segments:
            file.write(segment)


def _case(test: Recorded, folder: Path, problem: Problem) -> Case:
    try:
        request = decode_request((folder / test.request).read_bytes())
        if isinstance(request, MetadataRequest):
            raise PackageError(f"{test.request} asks for metadata, which is no test")
        marked = [name for place, name in enumerate(request.head.input_names) if place in request.head.bools]
        inputs = _named(request.head.input_names, request.inputs, test.request, {*marked, *_bools(problem.inputs)})
        outputs: dict[str, Array] = {}
        if test.response:
            answer = decode_infer_response((folder / test.response).read_bytes())
            if answer.errors:
                raise PackageError(f"{test.response} has errors in the place of outputs")
            outputs = _named(request.head.output_names, answer.outputs, test.response, _bools(problem.outputs))
    except ServiceError as error:
        raise PackageError(f"test {test.request} cannot be read: {error.message}") from None
    return Case(inputs, outputs, test.rtol, test.atol, test.name)


def _named(names: Sequence[str], arrays: Sequence[Array], place: str, bools: Collection[str]) -> dict[str, Array]:
    if len(names) != len(arrays) or len(set(names)) < len(names):
        raise PackageError(f"{place} has {len(arrays)} tensors under {len(names)} names, where each has its own")
    return {
        name: array != 0 if name in bools and array.dtype == np.uint8 else array
        for name, array in zip(names, arrays, strict=True)
    }


def _bools(specs: Sequence[TensorSpec]) -> set[str]:
    # They travel as uint8.
    return {spec.name for spec in specs if spec.dtype == np.bool_}
