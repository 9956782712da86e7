"""The benchmark beside other servers: what it asks with, and what it makes of the answers."""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from benchmarks import peers
from benchmarks.harness import forms
from benchmarks.harness.household import Household
from benchmarks.harness.question import answer
from benchmarks.harness.result import Result
from benchmarks.harness.turns import Answer, Failed, Generator, pooled
from benchmarks.peering.roster import PEERS, Peer, Started
from tests.serving import ROOT, environment

HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
IN_CHUNKS = CHUNKED + b"3\r\nabc\r\n10;x=y\r\n" + b"\r\n" * 8 + b"\r\n0\r\n\r\n"


@pytest.mark.parametrize("message", [HEAD + b"\r\n\r\n5", IN_CHUNKS], ids=["length", "chunks"])
@pytest.mark.parametrize("step", [1, 2, 7, 1000])
def test_the_end_of_an_answer_is_found_wherever_it_is_cut(message: bytes, step: int) -> None:
    answered = Answer()
    for _ in range(3):  # the next answer on the connection begins where the last ended
        ends = [answered.take(message[place : place + step]) for place in range(0, len(message), step)]
        assert ends == [False] * (len(ends) - 1) + [True]


def test_an_answer_with_another_head_than_the_last_is_read_anew() -> None:
    answered = Answer()
    assert answered.take(HEAD + b"12345")
    longer = b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n"
    assert not answered.take(longer + b"12345")
    assert answered.take(b"67")
    assert answered.take(IN_CHUNKS)
    assert answered.take(HEAD + b"12345")


@pytest.mark.parametrize("head", [b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n"])
def test_an_answer_that_is_none_fails_the_turn(head: bytes) -> None:
    with pytest.raises(Failed, match="it answered"):
        Answer().take(head)


@pytest.mark.parametrize("form", forms.FORMS.values(), ids=list(forms.FORMS))
def test_a_form_writes_a_whole_request(form: forms.Form) -> None:
    array = np.linspace(0, 1, 6, dtype=np.float32).reshape(2, 3)
    head, _, body = forms.request(form, "/m", array).partition(b"\r\n\r\n")
    assert head.startswith(b"POST /m HTTP/1.1\r\n")
    assert f"Content-Length: {len(body)}".encode() in head.split(b"\r\n")


def test_forms_read_the_floats_of_an_answer() -> None:
    floats = np.array([1.5, -2], np.float32)
    assert forms.BYTES.read({}, floats.tobytes()).tolist() == [1.5, -2]
    assert forms.JSON.read({}, b'{"y": [[1.5, -2]]}').tolist() == [1.5, -2]
    assert forms.JSON.read({}, b"[[1.5, -2]]").tolist() == [1.5, -2]
    assert forms.BASE64.read({}, b'{"y": "AADAPwAAAMA="}').tolist() == [1.5, -2]
    assert forms.OIP_JSON.read({}, b'{"outputs": [{"data": [1.5, -2]}]}').tolist() == [1.5, -2]
    head = {"inference-header-content-length": "2"}
    assert forms.OIP_BINARY.read(head, b"{}" + floats.tobytes()).tolist() == [1.5, -2]


def test_quantiles_are_of_all_turns_together() -> None:
    turns = [{"latencies": [0.001] * 98}, {"latencies": [0.002, 0.003]}]
    assert pooled(turns, 0.5) == 1
    assert pooled(turns, 0.99) == 3


def test_a_generator_says_what_went_wrong_and_goes_on(tmp_path: Path) -> None:
    with Generator(tmp_path) as generator, socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(Failed, match="Connect"):
            generator.turn(1, 1, 0.1, b"x", "nobody")
        for reply, expected in ((b"HTTP/1.1 500 No\r\n\r\n", "500"), (b"", "closed")):
            serving = threading.Thread(target=lambda reply=reply: _reply(listener, reply))
            serving.start()
            with pytest.raises(Failed, match=expected):
                generator.turn(port, 1, 0.1, b"x", "wrong")
            serving.join()


def test_a_turn_with_a_slow_server_lasts_for_some_answers_of_each_caller(tmp_path: Path) -> None:
    def serve(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection:
            while connection.recv(100):
                time.sleep(0.1)
                connection.sendall(HEAD + b"12345")

    with Generator(tmp_path) as generator, socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, args=(listener,), daemon=True).start()
        found = generator.turn(listener.getsockname()[1], 1, 0.15, b"x", "slow", warm_s=0)
    assert found["requests"] >= 3
    assert found["per_second"] < 10


def _reply(listener: socket.socket, reply: bytes) -> None:
    connection, _ = listener.accept()
    with connection:
        connection.recv(100)
        connection.sendall(reply)


MEASURED = f"PEERS_MEASURED_BY={os.getpid()}".encode()
# A child in a session of its own, with a grandchild that nobody waits for; neither minds SIGTERM.
CHILDREN = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
sleep = [sys.executable, "-c", "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"]
subprocess.Popen(["sh", "-c", '"$@" & exec "$@"', "sh", *sleep], start_new_session=True)
print("said", flush=True)
time.sleep(60)
"""


def test_a_household_is_held_up_and_ended_whole_however_far_its_children_went(tmp_path: Path) -> None:
    with Household([sys.executable, "-c", CHILDREN], tmp_path) as household:
        _until(lambda: len(household.members()) == 3)
        members = household.members()
        household.hold()
        _until(lambda: {_state(member) for member in members} == {"T"})
        household.go_on()
        _until(lambda: "T" not in {_state(member) for member in members})
        assert household.megabytes() > 1
        household.end(patience_s=0)
        assert household.said() == "said"
    assert not household.members()


def _state(process: int) -> str:
    return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]


def _until(is_so: Any) -> None:
    limit = time.monotonic() + 20
    while not is_so():
        assert time.monotonic() < limit
        time.sleep(0.02)


SECLUDED = """
import socket, sys
from benchmarks.harness.secluded import is_secluded, seclude
seclude()
print(is_secluded(), [name for _, name in socket.if_nameindex()], sys.argv[1:])
with socket.create_server(("127.0.0.1", 0)) as listener:
    socket.create_connection(listener.getsockname()).close()
"""


def test_servers_that_listen_everywhere_are_measured_where_there_is_only_the_loopback(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SECLUDED)
    done = subprocess.run(
        [sys.executable, str(script), "a b", "--c"], cwd=ROOT, env={**environment(), "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    if done.stdout.startswith("False"):
        pytest.skip("no network of its own can be made here")
    assert done.stdout.split("] [")[0] == "True ['lo'"
    assert done.stdout.strip().endswith("['a b', '--c']")


SERVER = """
import http.server, sys
class Echo(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        data = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/squeezenet":
            sys.path[:0] = [{here!r}]
            from models import Model
            data = Model("squeezenet").of_bytes(data)
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data{cut})
    def log_message(self, *_):
        pass
http.server.ThreadingHTTPServer(("127.0.0.1", {port}), Echo).serve_forever()
"""


def _peer(name: str, cut: str = "", begins: str = "") -> Peer:
    """A server of the standard library, as a peer, in the environment that tests have."""

    def command(started: Started) -> list[str]:
        here = str(ROOT / "benchmarks" / "peering")
        return [str(started.python), "-c", begins + SERVER.format(here=here, cut=cut, port=started.port)]

    made = SimpleNamespace(
        make=lambda: Path(sys.executable), versions=lambda package: {package: "1.0"}, megabytes=lambda: 5.0
    )
    peer = Peer(name, name, forms.BYTES, "/{}", command, "requests_bytes", "requests", patience_s=20)
    object.__setattr__(peer, "made", lambda: made)
    return peer


@pytest.fixture(scope="module")
def found() -> Result:
    options = argparse.Namespace(
        full=False, callers=[2], rounds=2, turn_s={"identity": 0.05, "squeezenet": 0.2},
        only=[_peer("good"), _peer("wrong", cut="[::-1]"), _peer("broken", begins="raise SystemExit('no licence')\n")],
    )  # fmt: skip
    name, _, value = MEASURED.decode().partition("=")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv(name, value)  # what all that it starts can be told by
        return peers.measure(options)


def test_a_peer_is_measured_beside_ours_and_the_limit(found: Result) -> None:
    row = found.tables["identity"].row(peer="good", callers=2)
    assert row["x"] > 0
    assert row["between"][0] <= row["x"] <= row["between"][1]
    row = found.tables["squeezenet"].row(peer="good")
    assert 0 < row["theirs_share"] < row["ours_share"] * 50
    assert found.tables["clients"].row(peer="good")["client"] == "requests"
    servers = found.tables["servers"]
    assert servers.row(peer="good")["installed_mb"] == 5
    assert servers.row(peer="GraphPipe")["start_s"] > 0
    assert "GraphPipe" in servers.markdown()


def test_a_peer_that_does_not_start_or_answers_wrong_is_left_out_with_the_reason(found: Result) -> None:
    for table in found.tables.values():
        assert not [row for row in table.rows if row["peer"] in ("wrong", "broken")]
        wrong, broken = table.notes
        assert wrong.startswith("wrong is left out: its answer is not what the model says")
        assert broken == "broken is left out: it ended as it started: no licence"


def test_the_chart_is_drawn_of_the_result_alone(found: Result) -> None:
    pytest.importorskip("matplotlib")
    from benchmarks.charting.peers import draw

    first, second = draw(found).axes
    assert "2 callers" in first.get_title(loc="left")
    assert [label.get_text() for label in first.get_yticklabels()] == ["GraphPipe", "good"]
    assert "x" in "".join(text.get_text() for text in second.texts)


def test_nobody_of_a_benchmark_is_left(found: Result) -> None:
    assert not [entry for entry in Path("/proc").glob("[0-9]*/environ") if MEASURED in _bytes(entry)]


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def test_a_peer_that_will_not_install_is_said_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(peers.NOT_INSTALLED, '{"good": "no such package"}')
    result = peers.measure(argparse.Namespace(full=False, callers=[], rounds=1, only=[_peer("good")]))
    assert [table.notes for table in result.tables.values()] == [["good is left out: no such package"]] * len(
        result.tables
    )


def test_only_takes_names_of_peers(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["peers.py", "--only", "mosec,nobody"])
    with pytest.raises(SystemExit):
        answer(peers.measure, "", peers.flags)
    assert "there is no peer 'nobody'; there are aiohttp, mosec" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("name", PEERS)
def test_every_peer_answers_right(name: str) -> None:
    done = subprocess.run(
        [sys.executable, "benchmarks/peers.py", "--only", name, "--rounds", "1"], cwd=ROOT, env=environment(),
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "is left out" not in done.stdout
    assert f"| {name} |" in done.stdout
