"""Isolated models in containers: what such a model sees, and what is left of its container."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

import graphpipe
from graphpipe.errors import DeadlineExceeded, ModelFailed
from tests.isolation.conftest import eventually, word
from tests.isolation.image import IMAGE, NoEngine, containers, storage
from tests.serving import environment, serving

X = np.ones(3, np.float32)
INMATES = Path(__file__).with_name("inmates.py")


@pytest.fixture
def inmates(tmp_path):
    """The models' file in a folder of its own, and something beside that folder."""
    (tmp_path / "private").write_text("nobody's")
    folder = tmp_path / "models"
    folder.mkdir()
    shutil.copy(INMATES, folder)
    return f"{folder / INMATES.name}:act"


# --- with an engine that runs no containers: a program that starts what it is told to start ---------------------------

ENGINE = """#!/bin/sh
if [ "$1" = image ]; then [ "$3" != absent ]; exit; fi
echo "$@" > "${0%/*}/told"
while [ "$1" != --entrypoint ]; do shift; done
python=$2
shift 3
exec "$python" "$@"
"""


@pytest.fixture
def engine(tmp_path, monkeypatch):
    """The folder of one, which is on the PATH alone."""
    folder = tmp_path / "engine"
    folder.mkdir()
    (folder / "podman").write_text(ENGINE)
    (folder / "podman").chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))
    return folder


def test_without_an_engine_it_is_a_load_error(inmates, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(graphpipe.LoadError, match=r"takes podman.*none on the PATH; docker cannot"):
        graphpipe.load(inmates, isolate_container="an/image")


@pytest.mark.parametrize(
    ("image", "words"), [("absent", "has no such image.*podman pull absent"), ("--privileged", "no name of an image")]
)
def test_without_an_image_it_is_a_load_error(inmates, engine, image, words):
    with pytest.raises(graphpipe.LoadError, match=words):
        graphpipe.load(inmates, isolate_container=image)


def test_a_folder_with_all_that_somebody_has_is_not_shown(engine):
    with (
        tempfile.NamedTemporaryFile(suffix=".py") as file,
        pytest.raises(graphpipe.LoadError, match="folder of its own"),
    ):
        graphpipe.load(f"{file.name}:act", isolate_container="image")


def test_another_server_is_not_reached_from_a_container(engine):
    with pytest.raises(graphpipe.LoadError, match="no network"):
        graphpipe.load("unix:/run/models/socket", isolate_container="image")


def test_what_is_in_this_program_does_not_run_in_a_container():
    with pytest.raises(graphpipe.LoadError, match="module:function"):
        graphpipe.load(lambda x: x, isolate_container="image")


def test_the_engine_is_told_to_show_the_models_files_alone_and_its_end_is_told_as_any(inmates, engine, nothing_left):
    with graphpipe.load(inmates, isolate_container="image", python=sys.executable, isolate_cpus=1) as model:
        told = (engine / "told").read_text()
        with pytest.raises(ModelFailed, match=r"signal 6 \(SIGABRT\) while it worked on this"):
            model.infer({"what": word("abort"), "x": X})
        assert model.infer({"what": word("nothing"), "x": X})["output_1"].tolist() == X.tolist()
    assert told.count("type=bind") == 2
    ours = Path(graphpipe.__file__).parent
    for folder in (Path(inmates).parent, ours):
        assert f"--mount type=bind,src={folder},dst={folder},ro " in told
    for words in ("--network none", "--cap-drop all", "--read-only", "--pull never", "--cpus 1", "no-new-privileges"):
        assert words in told


# --- in containers ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    """The variables by which podman finds the image."""
    try:
        with storage(tmp_path_factory.mktemp("containers")) as said:
            yield said
    except NoEngine as error:
        pytest.skip(str(error))


@pytest.fixture
def contained(image, monkeypatch):
    for name, value in image.items():
        monkeypatch.setenv(name, value)
    yield IMAGE
    eventually(lambda: not containers(image), "a container is left")


def ask(model, deed, x=X):
    return model.infer({"what": word(deed), "x": x})["output_0"].item().decode()


@pytest.mark.slow
def test_a_model_in_a_container_answers_and_has_nothing_but_its_files(inmates, contained, tmp_path):
    with (
        graphpipe.load(inmates, isolate_container=contained) as model,
        socket.create_server(("127.0.0.1", 0)) as server,
    ):
        large = np.arange(1_000_000, dtype=np.float32)
        for x in (X, large, large):  # the second large one goes into memory that was seen before
            np.testing.assert_array_equal(model.infer({"what": word("nothing"), "x": x})["output_1"], x)
        folder = np.frombuffer(str(tmp_path).encode(), np.uint8)
        assert ask(model, "see", folder) == "['models']"
        assert ask(model, "rights") == "['0000000000000000']"
        assert ask(model, "writes") == "['/tmp']"
        assert not (tmp_path / "models" / "written").exists()
        assert ask(model, "reaches", np.array([server.getsockname()[1]])) == "ConnectionRefusedError"
        assert set(os.environ) & {"USER", "LOGNAME", "PYTEST_CURRENT_TEST"}
        assert "PYTEST_CURRENT_TEST" not in ask(model, "environment")


@pytest.mark.slow
def test_a_container_that_ends_is_an_error_of_its_calls_and_another_one_starts(inmates, contained, nothing_left):
    with graphpipe.load(inmates, isolate_container=contained) as model:
        assert ask(model, "kill the first") == "-1"
        for deed, words in (
            ("abort", r"signal 6 \(SIGABRT\) while"),
            ("leave", "status 3 while"),
            ("exit", "failed on this input"),
        ):
            with pytest.raises(ModelFailed, match=words):
                ask(model, deed)
            assert ask(model, "nothing") == ""


@pytest.mark.slow
def test_one_that_holds_its_interpreter_is_ended(inmates, contained, nothing_left):
    with graphpipe.load(inmates, isolate_container=contained, isolate_timeout_s=8) as model:
        with pytest.raises(DeadlineExceeded):
            ask(model, "hold")
        assert ask(model, "nothing") == ""


@pytest.mark.slow
def test_its_memory_is_the_containers_limit(inmates, contained, nothing_left):
    with (
        graphpipe.load(inmates, isolate_container=contained, isolate_memory_bytes="256MiB") as model,
        pytest.raises(ModelFailed, match=r"SIGKILL.*held more than 268,435,456 bytes"),
    ):
        ask(model, "grow")


@pytest.mark.slow
def test_without_a_python_in_the_image_it_is_a_load_error(inmates, contained, nothing_left):
    with pytest.raises(graphpipe.LoadError, match="its image has no /opt/none"):
        graphpipe.load(inmates, isolate_container=contained, python="/opt/none")


@pytest.mark.slow
def test_no_container_is_left_by_a_program_that_is_killed(inmates, contained, image):
    program = (
        "import graphpipe, sys, threading, numpy as np\n"
        "model = graphpipe.load(sys.argv[1], isolate=2, isolate_container=sys.argv[2])\n"
        "for _ in range(2):\n"
        "    inputs = {'what': np.array(b'hold', object), 'x': np.ones(3)}\n"
        "    threading.Thread(target=model.infer, args=[inputs], daemon=True).start()\n"
        "print(flush=True)\n"
        "input()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, inmates, contained],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment(**image),
    ) as process:  # fmt: skip
        process.stdout.readline()
        assert len(containers(image)) == 2
        process.send_signal(signal.SIGKILL)
    # The fixture holds that none is left.


@pytest.mark.slow
def test_a_server_has_a_model_in_a_container(inmates, contained, image):
    with serving("--model", inmates, "--isolate-container", contained, env=image) as server:
        said = graphpipe.Client(server.url).infer({"what": word("writes"), "x": X})
    assert said["output_0"].item() == b"['/tmp']"
