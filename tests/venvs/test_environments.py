"""Environments that a name stands for: which count, which will do, and what is said of others. Nothing is fetched here."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from graphpipe.errors import LoadError
from graphpipe.venvs.environment import (
    environment_at,
    environment_for,
    environments,
    folder_of,
    here,
    interpreter,
    named,
)
from graphpipe.venvs.making import create, remove

Made = Callable[..., Path]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GRAPHPIPE_VENVS", str(tmp_path / "venvs"))
    return tmp_path / "venvs"


@pytest.fixture
def made(home: Path) -> Made:
    """An environment as it lies there, with what its record says."""

    def make(name: str, version: str = "3.11.7", record: str | None = None, **packages: str) -> Path:
        (home / name / "bin").mkdir(parents=True)
        python = home / name / "bin" / "python"
        python.symlink_to(sys.executable)
        said = {"schema": 1, "python": version, "packages": packages}
        (home / name / "graphpipe-venv.json").write_text(json.dumps(said) if record is None else record)
        return python

    return make


def program(path: Path, text: str) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def venv(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [Path(sys.executable).with_name("graphpipe"), "venv", *arguments],
        capture_output=True, text=True, timeout=100, check=False, env={**os.environ, **variables},
    )  # fmt: skip


# --- what a name stands for -------------------------------------------------------------------------------------------


def test_a_name_stands_for_the_interpreter_in_its_environment(made):
    python = made("old", numpy="1.26.4")
    assert interpreter("old", "m") == str(python)
    assert named("old").packages == {"numpy": "1.26.4"}


def test_a_path_is_that_interpreter_and_a_folder_the_one_in_it(made, monkeypatch):
    python = made("old")
    assert interpreter(str(python), "m") == str(python)
    assert interpreter(str(python.parent.parent), "m") == str(python)
    monkeypatch.chdir(python.parent)
    assert interpreter("./python", "m") == str(python)


@pytest.mark.parametrize(
    "said", ["nothing", "../old", "/nowhere/python", "~/nowhere", "old/", "", "a\x1b[31m", "x" * 5000]
)
def test_what_is_neither_is_refused_in_words(made, said):
    made("other")
    with pytest.raises(LoadError, match=r"^m: --python ") as refused:
        interpreter(said, "m")
    assert str(refused.value).isprintable()


def test_a_name_that_is_nobodys_is_answered_with_those_that_there_are(made):
    made("torch22")
    made("numpy1")
    with pytest.raises(LoadError, match="there are numpy1, torch22; `graphpipe venv create` makes one"):
        interpreter("torch23", "m")


def test_what_is_half_made_does_not_count(made, home):
    made("whole", numpy="2.0")
    (made("half").parent.parent / "graphpipe-venv.json").unlink()
    made("torn", record='{"schema": 1, "pyth')
    made("odd", record='{"schema": 1, "python": "3.11", "packages": ["numpy"]}')
    made("list", record="[]")
    (home / ".hidden").mkdir()
    (home / "a file").touch()
    assert [each.name for each in environments()] == ["whole"]
    assert named("half") is named("torn") is named("odd") is None


def test_without_a_folder_of_environments_there_are_none(home):
    assert not home.exists()
    assert list(environments()) == []
    assert venv("list").stdout == ""


# --- which will do ----------------------------------------------------------------------------------------------------


def test_ours_comes_first_where_it_will_do(made):
    made("other", numpy="99.0")
    assert environment_for(f"numpy=={np.__version__}").python == sys.executable
    assert environment_for("numpy>=1").python == sys.executable


def test_else_the_newest_that_will_do(made):
    made("a", tensorflow="2.9.1")
    made("b", **{"tensorflow-cpu": "2.15.1"})
    made("c", "3.10.9", tensorflow_cpu="2.15.1")
    made("d", tensorflow="2.10.0rc1")
    assert environment_for("tensorflow>=2.9,<2.16").name == "b"
    assert environment_for("tensorflow<2.10").name == "a"
    assert environment_for("tensorflow>=2.15,<2.16", "python<3.11").name == "c"
    assert environment_for("tensorflow==2.8.*") is None
    assert environment_for("no-such-package") is None


def test_a_build_of_a_framework_is_that_framework(made):
    made("gpu", **{"onnxruntime-gpu": "1.17.0"})
    assert environment_for("onnxruntime==1.17.*").name == "gpu"
    assert named("gpu").frameworks == {"onnxruntime": "1.17.0"}


def test_an_interpreter_is_asked_what_it_is():
    found = environment_at(sys.executable)
    assert found.version == here().version
    assert found.packages["numpy"] == np.__version__
    assert found.packages == here().packages


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("echo hello", "does not answer as a Python does"),
        ("echo '{}'", "does not answer as a Python does"),
        ("echo oh no >&2; exit 3", "no Python that runs: oh no"),
        ("kill -9 $$", "no Python that runs: status -9"),
        ("yes", "no Python that runs: y"),
        ("sleep 1000", "said nothing of itself in 0.5 s"),
        ("sleep 1000 & exit 3", "no Python that runs|said nothing"),
    ],
)
def test_what_is_no_python_is_refused(tmp_path, monkeypatch, text, words):
    if "sleep" in text:
        monkeypatch.setattr("graphpipe.venvs.environment._ANSWER_S_MAX", 0.5)
    with pytest.raises(LoadError, match=words):
        environment_at(program(tmp_path / "python", text))


# --- making and taking away -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["", ".", "..", ".hidden", "a/b", "-rf", "a b", "x" * 65, "ä", "a\nb"])
def test_a_name_is_a_name(home, name):
    (home / "other").mkdir(parents=True)
    for act in (create, remove):
        with pytest.raises(ValueError, match="is no name"):
            act(name)
    assert os.listdir(home) == ["other"]


@pytest.mark.parametrize("requirement", ["", "  ", "--index-url=http://evil", "-e .", "numpy\nother"])
def test_options_are_no_requirements(home, requirement):
    with pytest.raises(ValueError, match="is no requirement"):
        create("x", [requirement])
    assert not home.exists()


def test_what_cannot_be_made_leaves_nothing_and_says_why(home, monkeypatch, tmp_path):
    # An index that is a closed port of this machine.
    done = venv(
        "create", "x", "--requirements", "numpy==1.26.4", "--index-url", "http://127.0.0.1:9/simple",
        UV_NO_CACHE="1", UV_HTTP_RETRIES="0", PIP_RETRIES="0",
    )  # fmt: skip
    assert done.returncode == 1
    assert "graphpipe: it cannot be installed:\n" in done.stderr
    assert "127.0.0.1:9" in done.stderr.partition("it cannot be installed")[2]
    assert [each for each in os.listdir(home) if not each.startswith(".")] == []


def test_a_python_that_is_not_there_is_said(home):
    done = venv("create", "x", "--python", "/nowhere/python")
    assert done.returncode == 1
    assert "/nowhere/python" in done.stderr
    assert venv("list").stdout == ""


def test_an_installer_that_hangs_is_ended_with_all_it_started(home, tmp_path, monkeypatch):
    uv = program(tmp_path / "uv", f"echo begun\nsleep 1000 & echo $! > {tmp_path}/pid\nwait")
    monkeypatch.setattr("graphpipe.venvs.making._uv", lambda: uv)
    said: list[str] = []
    with pytest.raises(LoadError, match="not installed within 1 s"):
        create("x", say=said.append, limit_s=1)
    assert said == ["begun"]
    status = Path(f"/proc/{(tmp_path / 'pid').read_text().strip()}/status")
    assert not status.exists() or "(zombie)" in status.read_text()
    assert not (home / "x").exists()


def test_ctrl_c_leaves_nothing_half_made(home):
    with socket.create_server(("127.0.0.1", 0)) as index:  # takes connections, and never answers
        process = subprocess.Popen(
            [Path(sys.executable).with_name("graphpipe"), "venv", "create", "x", "--requirements", "numpy==1.26.4",
             "--index-url", f"http://127.0.0.1:{index.getsockname()[1]}/simple"],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env={**os.environ, "UV_NO_CACHE": "1"},
        )  # fmt: skip
        try:
            index.settimeout(60)
            connection, _ = index.accept()
            assert (home / "x" / "bin" / "python").exists()
            process.send_signal(signal.SIGINT)
            said, _ = process.communicate(timeout=60)
        finally:
            process.kill()
        connection.close()
    assert process.returncode == 130, said
    assert b"Traceback" not in said
    assert [each for each in os.listdir(home) if not each.startswith(".")] == []


def test_one_that_is_there_is_not_made_again(made):
    made("old")
    with pytest.raises(ValueError, match="there is an environment old already; graphpipe venv remove old"):
        create("old", ["numpy"])
    assert named("old")


def test_what_was_left_half_made_is_made_anew(home, tmp_path, monkeypatch):
    (home / "x" / "lib").mkdir(parents=True)
    (home / "x" / "lib" / "left").touch()
    # An installer that takes this interpreter for the new one.
    python = program(tmp_path / "python", f'exec {sys.executable} "$@"')
    uv = program(tmp_path / "uv", f"mkdir -p {home}/x/bin && cp {python} {home}/x/bin/python")
    monkeypatch.setattr("graphpipe.venvs.making._uv", lambda: uv)
    made = create("x")
    assert named("x") == made
    assert made.packages["numpy"] == np.__version__
    assert not (home / "x" / "lib").exists()


def test_two_do_not_make_one_at_the_same_time(home):
    home.mkdir()
    with (home / ".x.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(ValueError, match="being made, or taken away, by somebody else"):
            create("x", ["numpy"])


def test_removed_is_gone(made, home):
    made("old", numpy="1.26.4")
    (made("half").parent.parent / "graphpipe-venv.json").unlink()
    assert venv("remove", "old").stdout == "old is gone.\n"
    remove("half")
    assert [each for each in os.listdir(home) if not each.startswith(".")] == []
    gone = venv("remove", "old")
    assert gone.returncode == 1
    assert "there is no environment old" in gone.stderr


def test_a_link_is_taken_away_and_not_what_it_leads_to(home, tmp_path):
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "graphpipe-venv.json").touch()
    home.mkdir()
    (home / "x").symlink_to(tmp_path / "theirs")
    remove("x")
    assert (tmp_path / "theirs" / "graphpipe-venv.json").exists()
    assert not os.path.lexists(home / "x")


def test_the_list_shows_pythons_and_frameworks(made):
    made("tf", "3.10.13", **{"tensorflow-cpu": "2.15.1", "numpy": "1.26.4", "six": "1.0"})
    assert venv("list").stdout == "tf: Python 3.10.13, tensorflow 2.15.1, numpy 1.26.4\n"
    listed = json.loads(venv("list", "--json").stdout)
    assert listed == [
        {
            "name": "tf",
            "python": "3.10.13",
            "interpreter": str(folder_of("tf") / "bin" / "python"),
            "packages": {"tensorflow-cpu": "2.15.1", "numpy": "1.26.4", "six": "1.0"},
        }
    ]
