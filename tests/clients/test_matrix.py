"""The clients that people have, as they are installed from the registry, against our server: all they ask is answered as
our own client is answered.

The environments are made below .build once, by uv; where the registry is out of reach these tests are skipped.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import graphpipe
from benchmarks.harness.environment import Unavailable
from tests.clients.models import MODELS
from tests.clients.programs.asking import BY_NAME, Ask
from tests.clients.roster import ROSTER, Line, Program
from tests.clients.served import ARGUMENTS
from tests.serving import Server, serving

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving(*ARGUMENTS, tracebacks=True) as server:
        yield server


@pytest.fixture(scope="module", params=ROSTER, ids=lambda program: program.name)
def told(request: pytest.FixtureRequest, server: Server) -> tuple[Program, list[Line]]:
    try:
        return request.param, request.param.run(server.url.removeprefix("http://"))
    except Unavailable as why:
        pytest.skip(str(why))


def of_subject(told: tuple[Program, list[Line]], *subjects: str) -> list[Line]:
    lines = [line for line in told[1] if line["subject"] in subjects]
    assert lines, f"{told[0].name} said nothing of {subjects}"
    return lines


def as_we_get_it(server: Server, ask: Ask, names: list[str]) -> dict[str, Any]:
    """The same by our own client, in the words of a line."""
    with graphpipe.Client(f"{server.url}/models/{ask.model}") as client:
        answer = client.infer(dict(ask.inputs), outputs=names)
    outputs = {}
    for name, array in answer.items():
        datatype = MODELS[ask.model].outputs[name][0]
        if array.dtype == object:
            data: Any = [base64.b64encode(each).decode() for each in array.ravel().tolist()]
        else:
            data = base64.b64encode(array.tobytes()).decode()
        outputs[name] = {
            "dtype": "bool" if datatype == "BOOL" else array.dtype.name,  # which travels as 0 and 1
            "shape": list(array.shape),
            "data": data,
        }
    return outputs


def faults(told: tuple[Program, list[Line]], server: Server, lines: list[Line]) -> Iterator[str]:
    """What is otherwise than our client has it, a sentence each."""
    program = told[0]
    for line in lines:
        what = f"{line['subject']} {line['name']} ({line['way']})"
        ask = BY_NAME[line["subject"], line["name"]]
        if "outputs" not in line:
            yield f"{what}: {line.get('status')} {line.get('error')}"
            continue
        served = MODELS[ask.model]
        names = list(served.outputs) if line["way"] == "unnamed" else list(ask.outputs)
        expected = as_we_get_it(server, ask, names)
        if line["outputs"] != expected:
            yield f"{what}: {shortened(line['outputs'])}, not {shortened(expected)}"
        if program.speaks != "tf":
            if line["types"] != {name: served.outputs[name][0] for name in names}:
                yield f"{what}: types {line['types']}"
            if list(line["outputs"]) != names:
                yield f"{what}: in the order {list(line['outputs'])}"
            if ask.id and line["id"] != ask.id:
                yield f"{what}: id {line['id']!r}"
        if line["model_name"] != ask.model:
            yield f"{what}: model_name {line['model_name']!r}"
        # What KServe's client makes of JSON has no version.
        if line["model_version"] != "1" and program.name != "kserve-rest":
            yield f"{what}: model_version {line['model_version']!r}"


def shortened(outputs: object) -> str:
    text = str(outputs)
    return text if len(text) < 300 else f"{text[:300]}..."


def none_of(faults: Iterator[str]) -> None:
    found = list(faults)
    assert not found, "\n".join(found)


def test_every_element_type_comes_back_to_the_byte(told: tuple[Program, list[Line]], server: Server) -> None:
    none_of(faults(told, server, of_subject(told, "types")))


def test_shapes_come_back_with_nothing_in_them_and_with_megabytes(
    told: tuple[Program, list[Line]], server: Server
) -> None:
    none_of(faults(told, server, of_subject(told, "shapes")))


def test_several_inputs_and_outputs_go_by_their_names(told: tuple[Program, list[Line]], server: Server) -> None:
    none_of(faults(told, server, of_subject(told, "many")))


def test_a_mistake_is_refused_with_the_status_that_its_client_knows(told: tuple[Program, list[Line]]) -> None:
    program = told[0]

    def wrong() -> Iterator[str]:
        for line in of_subject(told, "errors"):
            what = f"{line['name']} ({line['way']})"
            ask = BY_NAME.get((line["subject"], line["name"]))
            status, code = (ask.error if ask else None) or (400, "INVALID_ARGUMENT")
            wanted = {str(status)} if program.speaks == "http" else {f"StatusCode.{code}"}
            if line["name"] == "classification":
                wanted = {"501", "StatusCode.UNIMPLEMENTED"}
            if line["name"] == "huge-shape":
                wanted |= {"413", "StatusCode.RESOURCE_EXHAUSTED"}
            if line.get("status") not in wanted:
                yield f"{what}: {line.get('status')}, not {' or '.join(sorted(wanted))}: {shortened(line)}"
            elif not line["error"].strip() or line["error"].startswith(","):
                yield f"{what}: without a word: {line}"

    none_of(wrong())


def test_who_gives_up_is_gone_and_the_next_is_answered(told: tuple[Program, list[Line]], server: Server) -> None:
    gives_up, after = of_subject(told, "deadlines")
    assert "outputs" not in gives_up
    if told[0].speaks != "http":
        assert gives_up["status"] == "StatusCode.DEADLINE_EXCEEDED"
    assert base64.b64decode(after["outputs"]["OUTPUT0"]["data"]) == (np.arange(16, dtype=np.int32) + 3).tobytes()


READY = {
    "is_server_live": True,
    "is_server_ready": True,
    "is_model_ready simple": True,
    "is_model_ready simple 1": True,
    "is_model_ready nobody": False,
    "is_model_ready simple 7": False,
    "live": True,
    "ready": True,
    "model-ready simple": True,
    "model-ready nobody": False,
}
REFUSED = (
    "load_model simple",
    "unload_model simple",
    "register_system_shared_memory region /nowhere 64",
)


def test_pages_of_health_say_what_their_client_reads(told: tuple[Program, list[Line]]) -> None:
    if told[0].speaks == "tf":
        pytest.skip("it has none")
    lines = {line["name"]: line for line in of_subject(told, "pages")}
    wrong = {
        name: lines[name] for name, is_so in READY.items() if name in lines and lines[name].get("answer") is not is_so
    }
    assert not wrong


def test_pages_of_models_name_their_tensors(told: tuple[Program, list[Line]]) -> None:
    lines = {line["name"]: line for line in of_subject(told, "pages")}
    if told[0].speaks == "tf":
        signature = lines["metadata mixed"]["answer"]["metadata"]["signature_def"]["signature_def"]["serving_default"]
        assert {name: each["dtype"] for name, each in signature["inputs"].items()} == {
            "NUMBERS": "DT_FLOAT", "FLAGS": "DT_BOOL", "WORDS": "DT_STRING",
        }  # fmt: skip
        (state,) = lines["status simple"]["answer"]["model_version_status"]
        assert state["state"] == "AVAILABLE"
        assert int(state["version"]) == 1
        assert {lines[f"{page} nobody"]["status"] for page in ("metadata", "status")} == {"StatusCode.NOT_FOUND"}
        return
    if told[0].environment == "kserve":
        pytest.skip("its client asks for none")
    for name in ("simple", "mixed"):
        page = lines[f"get_model_metadata {name}"]["answer"]
        served = MODELS[name]
        assert page["name"] == name
        assert page["versions"] == ["1"]
        for role, tensors in (("inputs", served.inputs), ("outputs", served.outputs)):
            got = {each["name"]: (each["datatype"], tuple(map(int, each["shape"]))) for each in page[role]}
            assert got == dict(tensors)
    assert lines["get_model_metadata nobody"]["status"] in ("404", "StatusCode.NOT_FOUND")
    assert lines["get_server_metadata"]["answer"]["name"]
    assert lines["get_server_metadata"]["answer"]["version"] == graphpipe.__version__
    index = lines["get_model_repository_index"]["answer"]
    index = index["models"] if isinstance(index, dict) else index
    assert {(each["name"], each["state"]) for each in index} == {(name, "READY") for name in MODELS}
    (statistics,) = lines["get_inference_statistics simple"]["answer"]["model_stats"]
    assert statistics["name"] == "simple"
    assert int(statistics["inference_count"]) > 0
    assert len(lines["get_inference_statistics"]["answer"]["model_stats"]) == len(MODELS)


def test_what_is_not_to_be_had_here_is_refused_in_words(told: tuple[Program, list[Line]]) -> None:
    if told[0].environment != "tritonclient":
        pytest.skip("its client asks for nothing that is not to be had")
    lines = {line["name"]: line for line in of_subject(told, "pages")}
    for name in REFUSED:
        assert lines[name].get("error", "").strip(), lines[name]
        assert lines[name]["status"] in ("400", "501", "StatusCode.UNIMPLEMENTED"), lines[name]
