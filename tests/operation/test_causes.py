"""Why a model failed: what the log says of it, what its caller hears, and who has to ask for more."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

import graphpipe
from graphpipe import errors
from graphpipe.server.stages.causes import Causes, cause
from graphpipe.server.stages.stage import Request
from tests.operation.conftest import Serve, until
from tests.serving import Server

WORDS = "Xylophone-4711"
TEXT = np.array([WORDS], object)
SAID = f"could not convert string to float: {WORDS.encode()!r}"
STAGES: dict[str, tuple[str, ...]] = {
    "plain": (),
    "batching": ("--batch-rows-max", "4"),
    "cache": ("--cache", "--cache-version", "1"),
    "workers": ("--workers", "2"),
}


def stages(how: str, folder: Path) -> Sequence[str]:
    return (*STAGES[how], "--cache-dir", str(folder / "cache")) if how == "cache" else STAGES[how]


def failure(server: Server, name: str = "text", value: object = TEXT, config: str = "") -> str:
    with graphpipe.Client(server.url) as client, pytest.raises(errors.ModelFailed) as failed:
        client.infer({name: value}, config=config)
    return failed.value.message


@pytest.mark.parametrize("how", STAGES)
def test_with_debug_a_caller_hears_kind_words_and_line_and_the_log_is_as_masked_as_ever(
    start: Serve, folder: Path, how: str
) -> None:
    server = start("quotes", "--debug", *stages(how, folder), tracebacks=True)
    said = failure(server)
    assert re.fullmatch(rf"model 'quotes' failed on this input: ValueError: {SAID} \(models\.py, line \d+\)", said)
    assert server.stop() == 0
    assert "ValueError: could not convert string to float: " in server.log
    assert "Xylo" not in server.log


def test_with_debug_a_caller_hears_what_led_to_it_too(start: Serve) -> None:
    server = start("quotes", "--debug", tracebacks=True)
    said = failure(server, config="chained")
    line = r"\(models\.py, line \d+\)"
    what = rf"LookupError: .*{WORDS}.* {line}, after ValueError: {re.escape(SAID)} {line}"
    assert re.fullmatch(f"model 'quotes' failed on this input: {what}", said)


@pytest.mark.parametrize("how", STAGES)
def test_with_log_values_the_log_has_the_words_as_they_are_and_the_caller_hears_where_they_are(
    start: Serve, folder: Path, how: str
) -> None:
    server = start("quotes", "--log-values", *stages(how, folder), tracebacks=True)
    assert failure(server) == "model 'quotes' failed on this input; the server's log has the cause"
    assert server.stop() == 0
    assert f"ValueError: {SAID}\n" in server.log
    assert "left out" not in server.log


def test_what_is_left_out_of_the_log_is_marked_and_how_to_see_it_is_said(start: Serve) -> None:
    server = start("quotes quotes_numbers", tracebacks=True)
    with graphpipe.Client(f"{server.url}/models/quotes_numbers") as client, pytest.raises(errors.ModelFailed):
        client.infer({"x": np.array([3.53125, 17.0], np.float32)})
    until(lambda: "--log-values shows it" in server.log)
    assert "is out of range" in server.log
    assert "3.53125" not in server.log
    assert "\n(what the request may have said is left out as ... and #; --log-values shows it)\n" in server.log


def test_from_python_both_are_settings_like_any_other(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "beside.py").write_text("\n\ndef fails(x):\n    raise ValueError(f'it is {x[0]}')\n")
    program = tmp_path / "program.py"
    program.write_text(
        "import beside, graphpipe\ngraphpipe.serve(beside.fails, '127.0.0.1:0', debug=True, log_values=True)\n"
    )
    code = f"import runpy, sys; sys.path.insert(0, {str(tmp_path)!r}); runpy.run_path({str(program)!r})"
    server = serve(code=code, tracebacks=True)
    said = failure(server, "x", np.array([1234.5]))
    assert said == "model 'fails' failed on this input: ValueError: it is 1234.5 (beside.py, line 4)"


def test_an_error_of_which_nothing_can_be_had_is_answered_all_the_same(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "odd.py").write_text(
        "class Odd(Exception):\n    def __str__(self): raise SystemExit\n"
        "def fails(x): raise Odd\n"
        "def long(x): raise ValueError('\\x1b[2J' + 'a' * 5000)\n"
    )
    models = ("-m", f"odd={tmp_path}/odd.py:fails", "-m", f"long={tmp_path}/odd.py:long")
    server = serve(*models, "--debug", tracebacks=True)
    for name, said in (
        ("odd", r"failed on this input.*Odd.*"),
        ("long", r"failed on this input: ValueError: \?\[2Ja{290,300}\.\.\. \(odd\.py, line 4\)"),
    ):
        with graphpipe.Client(f"{server.url}/models/{name}") as client, pytest.raises(errors.ModelFailed, match=said):
            client.infer({"x": [1.0]})


@pytest.mark.parametrize(
    ("value", "words", "leaks"),
    [
        (np.array(["HIV"], object), "b'HIV'", ["HIV"]),
        (np.array(["alice smith"], object), "ALICE SMITH", ["ALI", "SMI"]),
        (np.array([31337]), "no such user_31337", ["31337", "31", "37"]),
        (np.array([31337]), f"{31337}ms, {31337:x}, {31337:_}", ["313", "337", "7a69"]),
        (np.frombuffer(b"alice@example.com", np.uint8), "alice@example.com", ["alice", "example"]),
        (np.zeros(65537, np.uint8), "alice@example.com", ["alice", "example"]),
    ],
)
def test_by_default_no_value_of_a_request_is_in_the_log_however_a_model_writes_it(
    value: np.ndarray, words: str, leaks: list[str]
) -> None:
    said = cause(ValueError(f"cannot do: {words}"), Request({"x": value}, (), ""))
    assert not [leak for leak in leaks if leak in said]
    assert "left out" in said


@pytest.mark.parametrize(
    "words",
    [
        "[Errno 2] No such file or directory: '/data/models/vocab.txt'",
        "bad rows [[1, 2]] at /predict/v1 in x",
        "secret array([[1., 2.]], dtype=float32)",
    ],
)
def test_with_debug_a_caller_hears_the_words_of_the_model_with_their_paths_and_brackets(words: str) -> None:
    assert Causes(to_callers=True).to_caller(ValueError(words)) == f": ValueError: {words}"
