"""`graphpipe-serve` as it is typed: what fails says why in one line, and what is asked for is what is served."""

from __future__ import annotations

import socket
from pathlib import Path

import numpy as np
import pytest

import graphpipe
from tests import onnx_graphs
from tests.raw_http import call
from tests.serving import run_to_end


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return onnx_graphs.pair_sum(tmp_path_factory.mktemp("models") / "pair.onnx")


ROW = np.array([[1, 2, 3]], np.float32)


def fails(*args: object, env: dict[str, str] | None = None) -> str:
    """The line on which the command ends."""
    ended = run_to_end(*map(str, args), env=env)
    assert ended.returncode in (1, 2), ended
    assert ended.stdout == ""
    assert "Traceback" not in ended.stderr, ended.stderr
    lines = ended.stderr.strip().splitlines()
    if ended.returncode == 1:
        assert len(lines) == 1, ended.stderr
    return lines[-1]


FREE = ("--listen", "127.0.0.1:0")


def test_a_missing_model_file(tmp_path: Path) -> None:
    assert "missing.onnx: no such file" in fails(*FREE, "-m", tmp_path / "missing.onnx")
    assert "no such file" in fails(*FREE, "-m", tmp_path / "missing.bin")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"not a model", "is no whole ONNX file"),
        (b"\x08\x07" + bytes(100), "is no whole ONNX file"),
        (bytes(range(256)) * 8, "is no whole ONNX file"),
    ],
)
def test_a_broken_model_file(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "broken.onnx"
    path.write_bytes(content)
    assert f"{path}: {words}" in fails(*FREE, "-m", path)


def test_a_model_file_cut_off_in_the_middle(tmp_path: Path, pair: Path) -> None:
    path = tmp_path / "cut.onnx"
    path.write_bytes(pair.read_bytes()[:-40])
    assert "cut.onnx" in fails(*FREE, "-m", path)


def test_a_folder_with_a_model_files_name(tmp_path: Path) -> None:
    path = tmp_path / "folder.onnx"
    path.mkdir()
    assert "is a folder, not a file" in fails(*FREE, "-m", path)


def test_a_kind_of_file_that_nobody_knows(tmp_path: Path) -> None:
    path = tmp_path / "model.xyz"
    path.write_bytes(b"?")
    assert "not a kind of model that is known here; known kinds: echo, " in fails(*FREE, "-m", path)


def test_a_file_that_may_not_be_read(tmp_path: Path, pair: Path) -> None:
    path = tmp_path / "secret.onnx"
    path.symlink_to(path)  # for root, who may read everything
    assert "secret.onnx" in fails(*FREE, "-m", path)


def test_a_port_in_use(pair: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        line = fails("--listen", address, "-m", pair)
    assert (
        line == f"graphpipe-serve: {address} is already in use; stop the other server or choose another with --listen"
    )


def test_a_port_in_use_by_a_server_of_ours(serve, pair: Path) -> None:
    server = serve("-m", "echo")
    assert "already in use" in fails("--listen", f"127.0.0.1:{server.port}", "-m", pair)


@pytest.mark.parametrize(
    "listen", ["no/sense", "127.0.0.1:", "127.0.0.1:70000", "127.0.0.1:http", "::1:9000", "unix:", ":", ""]
)
def test_an_address_that_is_none(listen: str) -> None:
    assert f"cannot listen on {listen!r}" in fails("--listen", listen, "-m", "echo")


@pytest.mark.parametrize(
    "listen", ["192.0.2.1:0", "no-such-host.invalid:0", "unix:/no/such/folder/socket", f"unix:/tmp/{'x' * 200}"]
)
def test_an_address_that_is_not_ours(listen: str) -> None:
    assert f"cannot listen on {listen}" in fails("--listen", listen, "-m", "echo")


def test_a_unix_socket_in_use_and_a_file_in_its_place(serve, tmp_path: Path) -> None:
    serve("-m", "echo", listen=f"unix:{tmp_path / 'taken'}")
    assert "already in use" in fails("--listen", f"unix:{tmp_path / 'taken'}", "-m", "echo")
    (tmp_path / "file").write_text("precious")
    assert "already in use" in fails("--listen", f"unix:{tmp_path / 'file'}", "-m", "echo")
    assert (tmp_path / "file").read_text() == "precious"


def test_an_unknown_provider(pair: Path) -> None:
    line = fails(*FREE, "-m", pair, "--providers", "quantum")
    assert "there is no execution provider 'quantum' here; there are" in line
    assert "CPUExecutionProvider" in line


def test_an_unknown_output_or_input(pair: Path) -> None:
    assert "there is no output 'total'; the model's outputs are 'sum', 'twice'" in fails(
        *FREE, "-m", pair, "-o", "total"
    )
    assert "there is no input 'c'; the model's inputs are 'a', 'b'" in fails(*FREE, "-m", pair, "-i", "a,c")


def test_two_models_of_one_name(pair: Path) -> None:
    assert "two models are called 'pair'" in fails(*FREE, "-m", pair, "-m", pair)


def test_no_model_and_an_unknown_flag(pair: Path) -> None:
    assert "--model" in fails(*FREE)
    assert "--modle" in fails(*FREE, "--modle", pair)
    assert "--threads" in fails(*FREE, "-m", pair, "--threads", "many")
    assert "--body-bytes-max" in fails(*FREE, "-m", pair, "--body-bytes-max", "0")


def test_help_explains_and_version_is_one_line() -> None:
    for flag in ("-h", "--help"):
        ended = run_to_end(flag)
        assert (ended.returncode, ended.stderr) == (0, "")
        for words in ("--model", "--listen", "GP_MODEL", "/models/NAME", "graphpipe.remote.execute"):
            assert words in ended.stdout
    for flag in ("-V", "--version"):
        ended = run_to_end(flag)
        assert (ended.returncode, ended.stdout, ended.stderr) == (0, f"graphpipe-serve {graphpipe.__version__}\n", "")


# --- what is asked for is what is served ------------------------------------------------------------------------------


def test_the_originals_environment_variables_are_honoured(serve, pair: Path) -> None:
    server = serve(env={"GP_MODEL": str(pair), "GP_INPUTS": "b,a", "GP_OUTPUTS": "twice"})
    assert graphpipe.remote.get_input_names(server.url) == ["b", "a"]
    assert graphpipe.remote.get_output_names(server.url) == ["twice"]
    (twice,) = graphpipe.remote.execute_multi(server.url, [ROW, 10 * ROW])  # b, then a
    assert twice.tolist() == (20 * ROW).tolist()


def test_a_flag_beats_the_environment(serve, pair: Path) -> None:
    server = serve("-m", pair, "-o", "sum", env={"GP_MODEL": "/no/such/model.onnx", "GP_OUTPUTS": "twice"})
    assert graphpipe.remote.get_output_names(server.url) == ["sum"]


def test_value_inputs_name_the_inputs_their_types_and_shapes(serve, tmp_path: Path, pair: Path) -> None:
    path = tmp_path / "value_inputs.json"
    path.write_text('{"b": [1, [1, 3]], "a": [1, [1, 3]]}')
    for server in (serve("-m", pair, "--value-inputs", path), serve("-m", pair, env={"GP_VALUE_INPUTS": str(path)})):
        assert graphpipe.remote.get_input_names(server.url) == ["b", "a"]
        assert graphpipe.remote.get_input_shapes(server.url) == [[1, 3], [1, 3]]
        assert graphpipe.remote.execute_multi(server.url, [ROW, 10 * ROW])[1].tolist() == (20 * ROW).tolist()
        with pytest.raises(graphpipe.InvalidRequest, match="takes 1 there"):
            graphpipe.remote.execute_multi(server.url, [np.zeros((2, 3), np.float32)] * 2)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"c": [1, [1, 3]]}', "has no input 'c'"),
        ('{"a": [99, [1, 3]]}', "expected"),
        ('{"a": [1]}', "expected"),
        ("[1, 2]", "expected"),
        ("{", "expected"),
        (None, "No such file"),
    ],
)
def test_value_inputs_that_are_wrong(tmp_path: Path, pair: Path, content: str | None, words: str) -> None:
    path = tmp_path / "value_inputs.json"
    if content is not None:
        path.write_text(content)
    line = fails(*FREE, "-m", pair, "--value-inputs", path)
    assert words in line
    assert "value_inputs.json" in line


def test_cast_and_ignore_extra_inputs_are_off_unless_asked_for(serve, pair: Path) -> None:
    strict, lenient = serve("-m", pair), serve("-m", pair, "--cast", "--ignore-extra-inputs")
    inputs = {"a": ROW.astype(np.float64), "b": ROW}
    with graphpipe.Client(strict.url) as client:
        with pytest.raises(graphpipe.InvalidRequest, match="--cast on the server"):
            client.infer(inputs, ["sum"])
        with pytest.raises(graphpipe.InvalidRequest, match="--ignore-extra-inputs"):
            client.infer({"a": ROW, "b": ROW, "c": ROW}, ["sum"])
        assert client.infer(inputs, ["sum"], cast=True)["sum"].tolist() == (2 * ROW).tolist()
    with graphpipe.Client(lenient.url) as client:
        assert client.infer({**inputs, "c": ROW}, ["sum"])["sum"].tolist() == (2 * ROW).tolist()
        with pytest.raises(graphpipe.InvalidRequest, match="values that float32 cannot hold"):
            client.infer({"a": np.full((1, 3), 1e300), "b": ROW}, ["sum"])


@pytest.mark.parametrize("threads", ["1", "4"])
def test_threads_and_intra_threads_change_no_answer(serve, pair: Path, threads: str) -> None:
    server = serve("-m", pair, "--threads", threads, "--intra-threads", threads, "--providers", "cpu")
    assert graphpipe.remote.execute_multi(server.url, [ROW, ROW])[0].tolist() == (2 * ROW).tolist()


def test_listening_on_a_unix_socket(serve, tmp_path: Path, pair: Path) -> None:
    path = tmp_path / "graphpipe.sock"
    server = serve("-m", pair, "-m", "echo", listen=f"unix:{path}")
    assert server.url == f"unix:{path}"
    assert graphpipe.remote.execute_multi(server.url, [ROW, ROW])[0].tolist() == (2 * ROW).tolist()
    assert graphpipe.remote.execute(f"{server.url}:/models/echo", ROW).tolist() == ROW.tolist()
    assert call(server.url, "GET", "/control/is_ready").text == "ok\n"


def test_a_unix_socket_left_behind_is_taken_over(serve, tmp_path: Path) -> None:
    path = tmp_path / "graphpipe.sock"
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(str(path))
    server = serve("-m", "echo", listen=f"unix:{path}")
    assert graphpipe.remote.execute(server.url, ROW).tolist() == ROW.tolist()


def test_listening_on_ipv6(serve) -> None:
    if not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    server = serve("-m", "echo", listen="[::1]:0")
    assert server.url.startswith("http://[::1]:")
    assert graphpipe.remote.execute(server.url, ROW).tolist() == ROW.tolist()


def test_verbose_says_more_but_never_what_is_in_a_tensor(serve, pair: Path) -> None:
    server = serve("-m", pair, "-vv")
    graphpipe.remote.execute_multi(server.url, [31415.5 * ROW, ROW])
    assert server.stop() == 0
    assert "31415" not in server.log
