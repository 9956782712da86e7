"""The console scripts: what they say where the server extra is not installed, and where it is; how light they are."""

import json
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import graphpipe
from graphpipe.server.extra import SERVER_MODULES
from tests.serving import environment

# An interpreter that can import nothing beside the standard library and what the base install brings.
BASE_INSTALL = """
import sys
class Only:
    def __init__(self, finder):
        self.finder = finder
    def find_spec(self, name, path=None, target=None):
        is_there = name.partition(".")[0] in sys.stdlib_module_names | {"numpy", "click", "graphpipe"}
        return self.finder.find_spec(name, path, target) if is_there else None
sys.meta_path[:] = map(Only, sys.meta_path)
from graphpipe.server.start import main, serve_main
"""


@pytest.mark.parametrize("call", ["serve_main()", "sys.argv.insert(1, 'serve'); main()"])
def test_a_missing_extra_is_named_in_one_line_and_what_needs_none_works(call):
    def base(*arguments):
        code = f"{BASE_INSTALL}{call}"
        return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)

    refused = base("--model", "echo")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr == "graphpipe-serve needs the server extra: pip install 'graphpipe-rpc[server]'\n"
    for arguments in (["--help"], ["--version"], ["--model", "echo", "--print-config"]):
        done = base(*arguments)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout


def test_whatever_the_base_install_lacks_is_one_line_with_what_to_install(tmp_path):
    (tmp_path / "function.py").write_text("def f(x):\n    return x\n")
    (tmp_path / "table.parquet").write_bytes(b"PAR1")
    (tmp_path / "photo.png").write_bytes(b"")
    (tmp_path / "savedmodel").mkdir()
    (tmp_path / "savedmodel" / "saved_model.pb").write_bytes(b"")
    with zipfile.ZipFile(tmp_path / "script.pt", "w") as file:
        for name in ("data.pkl", "version", "code/__torch__.py", "constants.pkl"):
            file.writestr(f"script/{name}", b"")
    onnx = str(Path(__file__).parents[1] / "examples" / "digits" / "digits.onnx")
    commands = [
        (["run", onnx, "-i", "[1]"], "'graphpipe-rpc[onnx]'"),
        (["metadata", onnx], "'graphpipe-rpc[onnx]'"),
        (["bench", onnx], "'graphpipe-rpc[onnx]'"),
        (["run", "savedmodel", "-i", "[1]"], "'graphpipe-rpc[tensorflow]'"),
        (["run", "script.pt", "-i", "[1]"], "'graphpipe-rpc[torch]'"),
        (["cache", "stats"], "'graphpipe-rpc[server]'"),
        (["cache", "clear"], "'graphpipe-rpc[server]'"),
        (["serve", "--model", "echo"], "'graphpipe-rpc[server]'"),
        (["run", "echo", "-i", "photo.png"], "pillow"),
        (["run", "echo", "-i", "table.parquet"], "pyarrow"),
        (["run", "function.py:f", "-i", "[1.5]"], ""),
        (["metadata", "function.py:f"], ""),
        (["bench", "function.py:f", "--seconds", "0.1", "--warm-up", "0"], ""),
        (["completion", "zsh"], ""),
    ]
    calls = [
        ("graphpipe.serve('echo', '127.0.0.1:0')", "'graphpipe-rpc[server]'"),
        (f"graphpipe.load({onnx!r})", "'graphpipe-rpc[onnx]'"),
        ("graphpipe.load('echo').infer({'x': [1]}, outputs_as='torch')", "'graphpipe-rpc[torch]'"),
    ]
    code = f"""{BASE_INSTALL}
import json, graphpipe, graphpipe.cli
said = []
sys.stdout = sys.stderr  # what the commands that work print
for arguments in {[arguments for arguments, _ in commands]!r}:
    try:
        graphpipe.cli.main(arguments)
    except SystemExit as ended:
        said.append(ended.code)
for call in {[call for call, _ in calls]!r}:
    try:
        eval(call)
    except Exception as error:
        said.append(str(error))
print(json.dumps(said), file=sys.__stdout__)
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path, env=environment(HOME=str(tmp_path)), capture_output=True, text=True, check=True,
    )  # fmt: skip
    for (_, install), said in zip(commands + calls, json.loads(done.stdout), strict=True):
        if install:
            assert f"pip install {install}" in said
            assert "\n" not in said
        else:
            assert said == 0
    assert "Traceback" not in done.stderr


def test_what_the_commands_look_for_is_what_the_extra_brings():
    project = tomllib.loads(Path(__file__).parent.with_name("pyproject.toml").read_text())["project"]
    names = [re.match(r"[\w-]+", requirement)[0] for requirement in project["optional-dependencies"]["server"]]
    assert sorted(SERVER_MODULES) == sorted(name.replace("-", "_") for name in names)


def test_the_base_install_is_numpy_and_click():
    project = tomllib.loads(Path(__file__).parent.with_name("pyproject.toml").read_text())["project"]
    assert [re.match(r"[\w-]+", requirement)[0] for requirement in project["dependencies"]] == ["click", "numpy"]


@pytest.mark.parametrize(
    "command",
    [
        "graphpipe --help", "graphpipe execute --help", "graphpipe bench --help", "graphpipe serve --help",
        "graphpipe-serve --help",
    ],
)  # fmt: skip
def test_help_waits_for_no_library_but_the_one_that_shows_it(command):
    first, *arguments = command.split()
    function = "main" if first == "graphpipe" else "serve_main"
    code = (
        f"import atexit, sys; from graphpipe.server.start import {function} as run; "
        "atexit.register(lambda: print(*{name.partition('.')[0] for name in sys.modules}, file=sys.stderr)); run()"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    loaded = set(done.stderr.split())
    assert "click" in loaded
    assert not loaded & {"numpy", "asyncio", *SERVER_MODULES}


def run(function, *arguments):
    code = f"import sys; from graphpipe.server.start import {function} as run; sys.argv[0] = ''; run()"
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(("function", "command"), [("serve_main", "graphpipe-serve"), ("main", "graphpipe")])
def test_with_the_extra_both_commands_know_their_version(function, command):
    process = run(function, "--version")
    assert (process.returncode, process.stderr) == (0, "")
    assert process.stdout == f"{command} {graphpipe.__version__}\n"


def test_graphpipe_serve_is_also_a_command_of_graphpipe():
    assert "--model" in run("main", "serve", "--help").stdout


@pytest.mark.parametrize("url", ["http://127.0.0.1:9", "nonsense"])
def test_no_metadata_is_one_line_and_status_1(url):
    process = run("main", "metadata", url)
    assert (process.returncode, process.stdout) == (1, "")
    assert process.stderr.count("\n") == 1
    assert url in process.stderr


@pytest.mark.parametrize(
    ("function", "arguments", "hint"),
    [
        ("main", ["exeute", "URL"], "there is no command 'exeute'; did you mean 'execute'?"),
        ("main", ["execute", "http://h", "--imput", "x"], "--input"),
        ("main", ["serve", "--modle", "x"], "--model"),
        ("serve_main", ["--modle", "x"], "--model"),
        ("main", ["run", "echo", "--intra-threads", "many"], "expected a whole number from 0 to 1024; 'many' came"),
        ("main", ["completion", "tcsh"], "bash"),
    ],
)
def test_what_is_nearly_right_is_met_with_what_was_meant_and_status_2(function, arguments, hint):
    done = run(function, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert hint in done.stderr


@pytest.mark.parametrize(("function", "arguments"), [("main", []), ("main", ["serve"]), ("serve_main", [])])
def test_a_command_without_what_it_needs_says_so_with_status_2(function, arguments):
    done = run(function, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Usage: " in done.stderr
