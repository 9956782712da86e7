"""The very bytes that foreign clients sent, sent again: scripts/record_clients.py wrote them down.

They stand for clients that `make test` does not install, which tests/clients/test_matrix.py runs as they are.
"""

from __future__ import annotations

import base64
import contextlib
import gzip
import json
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trustme

from tests.certificates import Files
from tests.clients import answers
from tests.clients.models import MODELS
from tests.clients.programs.asking import BY_NAME
from tests.clients.roster import ROSTER, Program
from tests.clients.served import ARGUMENTS
from tests.clients.streams import Replay
from tests.raw_http import Wire
from tests.serving import serving

RECORDED = Path(__file__).with_name("recorded")
# What mistakes come to that are no inferences of asking.py.
REFUSED = {
    "classification": (501, "UNIMPLEMENTED"),
    "input-twice": (400, "INVALID_ARGUMENT"),
}
CODES = {"OK": 0, "INVALID_ARGUMENT": 3, "NOT_FOUND": 5, "RESOURCE_EXHAUSTED": 8, "UNIMPLEMENTED": 12, "INTERNAL": 13}
OF_HTTP = [program for program in ROSTER if program.speaks == "http"]
OF_GRPC = [program for program in ROSTER if program.speaks != "http"]


@dataclass(frozen=True)
class Way:
    """A server, and how to come in."""

    url: str
    authority: trustme.CA | None = None

    def tls(self, *protocols: str) -> ssl.SSLContext | None:
        if self.authority is None:
            return None
        context = ssl.create_default_context()
        self.authority.configure_trust(context)
        context.set_alpn_protocols(protocols)
        return context


@pytest.fixture(scope="module", params=["tcp", "unix", "tls"])
def way(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Way]:
    folder = tmp_path_factory.mktemp("way")
    listen = f"unix:{folder}/s" if request.param == "unix" else "127.0.0.1:0"
    flags: tuple[str, ...] = ()
    authority = None
    if request.param == "tls":
        authority, files = trustme.CA(), Files(folder)
        files.rename(authority.issue_cert("127.0.0.1"))
        flags = files.flags
    with serving(*ARGUMENTS, *flags, listen=listen, tracebacks=True) as server:
        yield Way(server.url, authority)


def recorded(program: Program, folder: Path = RECORDED) -> list[dict[str, Any]]:
    path = folder / f"{program.name}.jsonl.gz"
    return [json.loads(line) for line in gzip.decompress(path.read_bytes()).decode().splitlines()]


def the_answer_is_right(question: dict[str, Any], got: answers.Tensors) -> None:
    """Each tensor is what the model's function makes of the inputs, to the byte."""
    ask = BY_NAME[question["subject"], question["name"]]
    served = MODELS[ask.model]
    names = list(served.outputs) if question["way"] == "unnamed" else list(ask.outputs)
    computed = dict(zip(served.outputs, served.function(*(ask.inputs[name] for name in served.inputs)), strict=True))
    assert sorted(got) == sorted(names)
    for name, (datatype, array) in got.items():
        assert datatype == served.outputs[name][0]
        assert array.shape == computed[name].shape
        if datatype == "BYTES":
            assert array.tolist() == computed[name].tolist()
        else:
            assert array.tobytes() == np.ascontiguousarray(computed[name]).tobytes()


def is_refused(question: dict[str, Any]) -> tuple[int, str] | None:
    ask = BY_NAME.get((question["subject"], question["name"]))
    return ask.error if ask is not None else REFUSED.get(question["name"])


@pytest.mark.parametrize("program", OF_HTTP, ids=lambda program: program.name)
def test_what_clients_sent_over_http_is_answered(program: Program, way: Way) -> None:
    questions = recorded(program)
    assert len(questions) > 50
    with contextlib.ExitStack() as stack:
        wires: dict[int, Wire] = {}
        for question in questions:
            what = f"{question['subject']} {question['name']} ({question['way']})"
            for number, data in question["sent"]:
                if number not in wires:
                    wires[number] = stack.enter_context(Wire(way.url, tls=way.tls("http/1.1")))
                wire = wires[number]
                wire.send(base64.b64decode(data))
                answer = wire.answer()
            refused = is_refused(question)
            if question["name"] == "huge-shape":
                assert answer.status in (400, 413), what
            elif refused is not None:
                assert answer.status == refused[0], (what, answer)
            elif question["subject"] == "pages":
                assert answer.status in (200, 400, 404, 501), (what, answer)
            else:
                assert answer.status == 200, (what, answer)
                the_answer_is_right(question, answers.of_http(answer))
            if answer.status != 200 and answer.body:
                assert json.loads(answer.body)["error"], what


@pytest.mark.parametrize("program", OF_GRPC, ids=lambda program: program.name)
def test_what_clients_sent_over_grpc_is_answered(program: Program, way: Way) -> None:
    questions = recorded(program)
    assert len(questions) > 50
    of_message = answers.of_tensorflow if program.speaks == "tf" else answers.of_grpc
    with contextlib.ExitStack() as stack:
        replays: dict[int, Replay] = {}
        for question in questions:
            what = f"{question['subject']} {question['name']} ({question['way']})"
            streams = []
            for number, data in question["sent"]:
                if number not in replays:
                    replays[number] = stack.enter_context(Replay(way.url, way.tls("h2")))
                streams += replays[number].send(base64.b64decode(data))
            (stream,) = streams
            assert stream.fields[":status"] == "200", (what, stream)
            refused = is_refused(question)
            if question["name"] == "huge-shape":
                assert stream.status in (CODES["INVALID_ARGUMENT"], CODES["RESOURCE_EXHAUSTED"]), what
            elif refused is not None:
                assert stream.status == CODES[refused[1]], (what, stream)
            elif question["subject"] == "pages":
                assert stream.status in (CODES["OK"], CODES["NOT_FOUND"], CODES["UNIMPLEMENTED"]), (what, stream)
            else:
                assert stream.status == 0, (what, stream)
                the_answer_is_right(question, of_message(stream.message))
            if stream.status:
                assert stream.fields["grpc-message"], what
