"""KServe's SDK in its first protocol, whose JSON says no types: what the model declares decides."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from benchmarks.harness.environment import Unavailable
from tests.clients.models import DTYPES, MODELS
from tests.clients.programs.asking import BY_NAME
from tests.clients.roster import Line, Program
from tests.clients.served import ARGUMENTS
from tests.serving import serving

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def told() -> Iterator[list[Line]]:
    with serving(*ARGUMENTS, tracebacks=True) as server:
        try:
            yield Program("kserve-v1", "kserve", "kserve_v1.py").run(server.url.removeprefix("http://"))
        except Unavailable as why:
            pytest.skip(str(why))


def as_computed(line: Line) -> dict[str, Any]:
    ask = BY_NAME[line["subject"], line["name"]]
    served = MODELS[ask.model]
    outputs = served.function(*(ask.inputs[name] for name in served.inputs))
    return dict(zip(served.outputs, outputs, strict=True))


def same(values: Any, array: Any, datatype: str) -> bool:
    if datatype == "BYTES":
        flat = np.array(values, object).reshape(array.shape)
        return [each.encode() for each in flat.ravel()] == array.ravel().tolist()
    return np.array(values, DTYPES[datatype]).reshape(array.shape).tobytes() == np.ascontiguousarray(array).tobytes()


def test_columns_and_rows_are_answered_with_the_values_of_the_model(told: list[Line]) -> None:
    wrong = []
    for line in told:
        if line["subject"] not in ("types", "shapes", "many") or line["name"] in ("no-rows", "no-words"):
            continue  # a list of nothing has one dimension, whatever is meant
        if "answer" not in line:
            wrong.append(line)
            continue
        computed = as_computed(line)
        types = {
            name: datatype
            for name, (datatype, _) in MODELS[BY_NAME[line["subject"], line["name"]].model].outputs.items()
        }
        if line["way"] == "rows":
            got = {name: [row[name] for row in line["answer"]["predictions"]] for name in computed}
        else:
            outputs = line["answer"]["outputs"]
            got = outputs if len(computed) > 1 else dict.fromkeys(computed, outputs)
        if got.keys() != computed.keys() or not all(same(got[name], computed[name], types[name]) for name in got):
            wrong.append(line)
    assert not wrong, "\n".join(str(line)[:400] for line in wrong)


def test_mistakes_are_refused_in_words(told: list[Line]) -> None:
    for line in told:
        if line["subject"] == "errors":
            error = BY_NAME["errors", line["name"]].error
            assert error is not None
            assert line.get("status") == str(error[0]), line
            assert not line["error"].startswith(","), line


def test_it_learns_whether_a_model_is_there(told: list[Line]) -> None:
    pages = {line["name"]: line for line in told if line["subject"] == "pages"}
    assert pages["model-ready simple"].get("answer") is True, pages["model-ready simple"]
    assert "404" in pages["model-ready nobody"]["error"]
    # It would ask at /, where the first model's metadata have always been.
    assert "answer" not in pages["live"]
