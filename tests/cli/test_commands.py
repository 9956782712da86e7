"""What the commands print and write, and what they say when something is wrong."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest

from graphpipe.wire import IOMetadata, MetadataResponse, Type, decode_request
from graphpipe.wire.messages import InferRequest, encode_metadata_response
from tests.canned import answer, canned, outputs
from tests.serving import environment


def test_metadata_is_a_table_with_names_types_and_shapes(graphpipe, url, folder):
    for model in (f"{url}/models/digits", "digits.onnx"):
        status, out, err = graphpipe("metadata", model)
        assert (status, err) == (0, "")
        lines = [line.split() for line in out.splitlines()]
        assert lines[0][0] == "digits"
        assert ["input", "pixels", "float32"] in [line[:3] for line in lines]
        assert ["output", "label", "int64"] in [line[:3] for line in lines]


def test_metadata_is_json_if_asked_for_and_the_same_here_and_there(graphpipe, url, folder):
    there, here = (json.loads(graphpipe("metadata", model, "--json")[1]) for model in (url, "digits.onnx"))
    assert there["inputs"][0] | {"description": ""} == here["inputs"][0]
    assert there["inputs"][0]["shape"] == [None, 64]
    assert there["version"] == here["version"]
    assert there["server"].startswith("graphpipe/")


def test_a_model_answers_the_same_here_and_there(graphpipe, url, folder):
    asked = ("--input", "digit.npy", "--json")
    there, here = graphpipe("execute", url, *asked), graphpipe("run", "digits.onnx", *asked)
    assert there == here
    assert json.loads(there[1])["label"] == {"type": "int64", "shape": [1], "data": [7]}


def test_outputs_are_summed_up_in_words(graphpipe, url, folder):
    status, out, _ = graphpipe("execute", url, "--input", "digit.npy")
    assert status == 0
    assert "label  int64 [1]\n  [7]\n" in out
    assert "probabilities  float32 [1, 10]  from " in out
    assert re.search(r"highest: 0\.99\d* at 7, ", out)


def test_outputs_go_to_files_by_name(graphpipe, url, folder):
    status, out, err = graphpipe(
        "execute", url, "-i", "digit.npy", "-o", "label=label.npy", "-o", "all.npz", "-o", "probabilities=p.npy"
    )
    assert (status, out, err) == (0, "", "")
    assert np.load("label.npy") == [7]
    with np.load("all.npz") as arrays:
        assert sorted(arrays) == ["label", "probabilities"]
        np.testing.assert_array_equal(arrays["probabilities"], np.load("p.npy"))


def test_only_what_has_somewhere_to_go_is_asked_for(graphpipe, url, folder):
    assert graphpipe("execute", url, "-i", "digit.npy", "-o", "label=label.npy")[0] == 0
    assert graphpipe("execute", url, "-i", "digit.npy", "--ask", "label", "-o", "one.npy")[0] == 0
    assert np.load("one.npy") == [7]


def test_arrays_pass_through_pipes(shell, url):
    done = shell(f"cat digit.npy | graphpipe execute {url}/models/echo -i - -o - | graphpipe run echo -i - -o out.npy")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert shell("cmp out.npy digit.npy").returncode == 0


def test_a_reader_that_has_seen_enough_is_no_disaster(shell, folder):
    np.save("numbers.npy", np.arange(100_000))
    done = shell("graphpipe run echo -i numbers.npy --json | head -c 10")
    assert done.stdout == b'{"input": '
    assert done.stderr == b""


def test_text_comes_and_goes(graphpipe, url, folder):
    out = graphpipe("execute", f"{url}/models/echo", "-i", "text:Grüße", "--json")[1]
    assert json.loads(out)["output"]["data"] == "Grüße"
    assert graphpipe("run", "echo", "-i", "text:hello", "-o", "out.npy")[0] == 0
    assert np.load("out.npy") == b"hello"
    assert "hello" in graphpipe("run", "echo", "-i", "text:hello")[1]


def test_what_is_not_a_number_is_null_in_json(graphpipe, folder):
    np.save("x.npy", np.array([1, np.nan, np.inf], np.float32))
    assert json.loads(graphpipe("run", "echo", "-i", "x.npy", "--json")[1])["input"]["data"] == [1, None, None]


def test_lists_take_the_models_type_and_arrays_only_if_asked(graphpipe, url, folder):
    zeros = json.dumps([[0] * 64])
    np.save("ints.npy", np.zeros((1, 64), np.int16))
    for command, model in (("execute", url), ("run", "digits.onnx")):
        assert graphpipe(command, model, "-i", zeros)[0] == 0
        status, out, err = graphpipe(command, model, "-i", "ints.npy")
        assert (status, out) == (1, "")
        assert "int16, but the model takes float32" in err
        assert graphpipe(command, model, "-i", "ints.npy", "--cast")[0] == 0


def test_config_reaches_the_model(graphpipe, folder):
    (folder / "configured.py").write_text("def shout(x, config):\n    return x * len(config)\n")
    assert json.loads(graphpipe("run", "configured:shout", "-i", "[1.0]", "--config", "abc", "--json")[1])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["metadata", "http://127.0.0.1:1"], "is a server running there"),
        (["metadata", "none.onnx"], "none.onnx"),
        (["execute", "nonsense"], "not a server's URL"),
        (["execute", "localhost:9000", "-i", "1"], "'localhost:9000' has no scheme; write http://localhost:9000"),
        (["metadata", "[::1]:9000/models/m"], "has no scheme; write http://[::1]:9000/models/m"),
        (["run", "model-server:9000"], "has no scheme; write http://model-server:9000"),
        (["metadata", "localhost"], "write http://localhost:9000, if that is its port"),
        (["metadata", "s3://key:secret@bucket/m.onnx"], "'s3://bucket/m.onnx': nothing here reads s3://; expected"),
        (["run", "gs://bucket/m.onnx"], "nothing here reads gs://"),
        (["execute", "hf://bert"], "nothing here reads hf://"),
        (["execute", "grpc://h:8001"], "GraphPipe is spoken over HTTP; write http://h:8001"),
        (
            ["execute", "digits.onnx"],
            "digits.onnx is a file, and no server's URL; to run it here: graphpipe run digits.onnx",
        ),
        (["execute", "URL", "-i", "none.npy"], "none.npy"),
        (["execute", "URL", "-i", "digit.npy", "--ask", "labels"], "did you mean 'label'"),
        (["execute", "URL", "-i", "picture=digit.npy"], "there is no input 'picture'"),
        (["execute", "URL", "-i", "digit.npy", "-o", "o.npy"], "there are 2 outputs; name one (--output label=o.npy)"),
        (["execute", "URL", "-i", "digit.npy", "-o", "out.txt"], "expected a file .npy or .npz"),
        (["execute", "URL", "-i", "digit.npy", "--ask", "label", "-o", "x=out.npy"], "no output 'x'; there is label"),
        (["execute", "URL", "-i", "digit.npy", "--timeout-s", "0"], "positive number of seconds"),
        (["execute", "URL"], "missing input"),
        (["execute", "", "-i", "1"], "'' is not a server's URL; expected http://HOST:PORT"),
        (["run", "echo", "-i", "none.npy"], "graphpipe: none.npy: No such file or directory"),
        (["run", "echo", "-i", "1", "-o", "-", "--json"], "standard output takes one array and no more"),
        (["run", "echo", "-i", "1", "-o", "a=-", "-o", "b=-"], "standard output takes one array and no more"),
        (["run", "digits.onnx"], "missing input"),
    ],
)
def test_what_is_wrong_is_one_line_and_status_1(graphpipe, url, folder, arguments, message):
    status, out, err = graphpipe(*(url if argument == "URL" else argument for argument in arguments))
    assert (status, out) == (1, "")
    assert message in err
    assert err.startswith("graphpipe: ")
    assert err.count("\n") == 1


def test_an_address_is_no_function_and_a_function_no_address(graphpipe, folder):
    (folder / "nine.py").write_text("def f9000(x):\n    return x\n")
    assert graphpipe("run", "nine:f9000", "-i", "1")[0] == 0
    assert "nine has no 'f'" in graphpipe("run", "nine:f", "-i", "1")[2]


@pytest.mark.parametrize("arguments", [[], ["no-such-command"], ["execute"], ["metadata", "x", "--no-such-flag"]])
def test_a_command_line_that_makes_no_sense_is_status_2(graphpipe, arguments):
    assert graphpipe(*arguments)[0] == 2


def test_the_base_install_is_enough_to_ask_a_server(url, folder):
    """An interpreter in which nothing but numpy and click can be imported besides the standard library and the package."""
    allowed = {"numpy", "click", "graphpipe"}
    code = f"""
import sys
class Only:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] not in sys.stdlib_module_names | {allowed!r}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Only())
from graphpipe.server.start import main
main()
"""
    for arguments in (["metadata", url], ["execute", url, "-i", "digit.npy"], ["run", "echo", "-i", "1"], ["--help"]):
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments], env=environment(), capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stderr) == (0, ""), done.stderr


def on_a_terminal(code, **env):
    """What a program writes to a terminal."""
    ours, theirs = os.openpty()
    env = {"TERM": "xterm", **env}
    inherited = {name: value for name, value in environment().items() if name != "NO_COLOR"}
    with subprocess.Popen([sys.executable, "-c", code], env=inherited | env, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        shown = b""
        while True:
            try:
                if not (piece := os.read(ours, 65536)):
                    break
            except OSError:  # how a pty says that the other side is gone
                break
            shown += piece
        process.wait(timeout=60)
    os.close(ours)
    return shown.decode()


def test_help_and_errors_have_colour_on_a_terminal_and_only_there(shell):
    command = "from graphpipe.cli import main; main({!r}.split())"
    assert "\x1b[1mUsage:\x1b[0m graphpipe execute [OPTIONS] URL" in on_a_terminal(command.format("execute --help"))
    assert "\x1b[31mError:\x1b[0m there is no command 'exeute'" in on_a_terminal(command.format("exeute"))
    assert "\x1b[31mgraphpipe:\x1b[0m 'h:9' has no scheme" in on_a_terminal(command.format("metadata h:9"))
    serve = "from graphpipe.server.cli import main; main(prog_name='graphpipe-serve')"
    assert "\x1b[31mError:\x1b[0m no model is given" in on_a_terminal(serve)
    assert "\x1b" not in on_a_terminal(command.format("exeute"), NO_COLOR="1")
    for line in (
        "graphpipe execute --help",
        "graphpipe exeute || true",
        "graphpipe metadata h:9 || true",
        "graphpipe-serve || :",
    ):
        done = shell(line)
        assert done.returncode == 0
        assert done.stdout + done.stderr
        assert b"\x1b" not in done.stdout + done.stderr


def test_a_model_without_its_flag_is_answered_with_the_command_that_serves_it(shell):
    for command in ("graphpipe-serve", "graphpipe serve"):
        ended = shell(f"{command} --workers 2 'my model.onnx'")
        assert ended.returncode == 2
        assert f"a model is named with --model: {command} --model 'my model.onnx'\n" in ended.stderr.decode()


def test_graphpipe_serve_calls_itself_so(shell):
    shown = shell("graphpipe serve --help").stdout.decode()
    assert shown.startswith("Usage: graphpipe serve [OPTIONS]")
    assert "\n  graphpipe serve --model model.onnx\n" in shown
    assert "graphpipe-serve" not in shown.partition("Examples:")[2]
    assert "\n  graphpipe-serve --model model.onnx\n" in shell("graphpipe-serve --help").stdout.decode()


def test_large_bodies_show_how_far_they_are_on_a_terminal_and_only_there(url, folder, commands):
    np.save("large.npy", np.zeros(40 << 20, np.uint8))
    ours, theirs = os.openpty()
    code = "import graphpipe.progress as p; p._REDRAW_S = 0; from graphpipe.cli import main; main()"
    # The bar comes after 0.3 s; here at once, since loopback is quick.
    code = code.replace("from graphpipe.cli", "p.Progress.__init__.__defaults__ = (None, 0); from graphpipe.cli")
    with subprocess.Popen(
        [sys.executable, "-c", code, "execute", f"{url}/models/echo", "-i", "large.npy", "-o", "back.npy"],
        env=environment(), stderr=theirs, stdout=subprocess.PIPE,
    ) as process:  # fmt: skip
        os.close(theirs)
        shown = b""
        while True:
            try:
                if not (piece := os.read(ours, 65536)):
                    break
            except OSError:  # how a pty says that the other side is gone
                break
            shown += piece
        assert process.wait(timeout=60) == 0
        assert process.stdout.read() == b""
    os.close(ours)
    assert b"sending [" in shown
    assert b"% of 41.9 MB" in shown
    assert b"receiving [" in shown
    # The line is gone at the end.
    assert shown.rstrip(b" ").endswith(b"\r")
    np.testing.assert_array_equal(np.load("back.npy"), np.load("large.npy"))


def test_what_a_server_says_does_not_move_the_cursor_of_a_terminal(graphpipe, folder):
    """Names, descriptions and refusals are a stranger's words."""
    evil = "x\x1b[2J\x9b1A\u202e"
    description = encode_metadata_response(
        MetadataResponse(
            evil,
            evil,
            evil,
            evil,
            (IOMetadata(evil, evil, (-1,), Type.FLOAT32),),
            (IOMetadata(evil, evil, (-1,), Type.FLOAT32),),
        )
    )

    def talk(caller):
        while body := caller.read_request():
            if not isinstance(decode_request(body), InferRequest):
                caller.send(answer(description))
            elif b"refuse" in body:
                caller.send(answer(evil.encode(), "400 Bad Request", "Content-Type: text/plain"))
            else:
                caller.send(answer(outputs(np.zeros(2, np.float32))))

    with canned(talk) as server:
        said = [
            graphpipe("metadata", server.url),
            graphpipe("metadata", server.url, "--json"),
            graphpipe("execute", server.url, "-i", "[1.0]"),
            graphpipe("execute", server.url, "-i", "[1.0]", "--json"),
            graphpipe("execute", server.url, "-i", "[1.0]", "--config", "refuse"),
        ]
    assert [status for status, _, _ in said] == [0, 0, 0, 0, 1]
    for _, out, err in said:
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]", out + err)
        assert "x" in out + err


def test_a_model_that_fails_here_says_why_and_where(graphpipe, folder):
    (folder / "failing.py").write_text("def boom(x):\n    raise KeyError('no such word')\n")
    assert graphpipe("run", "failing.py:boom", "-i", "1") == (
        1, "", "graphpipe: model 'boom' failed on this input: KeyError: 'no such word' (failing.py, line 2)\n"
    )  # fmt: skip


def test_standard_output_has_the_answer_and_nothing_that_the_model_prints(shell, folder):
    (folder / "noisy.py").write_text("print('loading')\n\ndef double(x):\n    print('working')\n    return 2 * x\n")
    ran = shell("graphpipe run noisy.py:double -i '[1]' --json")
    assert json.loads(ran.stdout) == {"output_0": {"type": "int64", "shape": [1], "data": [2]}}
    assert ran.stderr.split() == [b"loading", b"working"]
    assert np.load(io.BytesIO(shell("graphpipe run noisy.py:double -i '[1]' -o -").stdout)).tolist() == [2]
    assert json.loads(shell("graphpipe metadata noisy.py:double --json").stdout)["name"] == "double"


def test_an_old_locale_shows_other_letters_and_fails_at_nothing(shell):
    ran = shell("PYTHONIOENCODING=ascii graphpipe run echo -i 'text:Grüße'")
    assert (ran.returncode, ran.stdout) == (0, b"input  string []\n  'Gr\\xfc\\xdfe'\n")
