"""`graphpipe bench`: what it measures, prints, writes and ends with."""

from __future__ import annotations

import csv
import io
import json
import shlex
import signal
import socket
import ssl
import subprocess
import sys
import time
from xml.etree import ElementTree

import numpy as np
import pytest
import trustme

from graphpipe.machine import usable_cpus
from tests.canned import canned
from tests.cli.test_commands import on_a_terminal
from tests.cli.test_examples import examples
from tests.serving import environment, serving

SHORT = ("--seconds", "0.3", "--window", "0.1", "--warm-up", "0.05")
MODELS = """
import threading
import time
import graphpipe

def slow(x):
    time.sleep(0.02)
    return x

def fails(x):
    raise RuntimeError("inner words")

def together(x):
    global now, most
    with lock:
        now += 1
        most = max(most, now)
    time.sleep(0.02)
    with lock:
        now -= 1
    return x

now = most = 0
lock = threading.Lock()

def sometimes(x):
    sometimes.calls += 1
    if sometimes.calls % 3 == 0:
        raise graphpipe.InvalidRequest("not this time")
    return x

sometimes.calls = 0
"""


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A server with models of a bad kind, on a Unix socket too: its URL."""
    folder = tmp_path_factory.mktemp("models")
    (folder / "bad.py").write_text(MODELS)
    named = [part for name in ("slow", "fails", "sometimes") for part in ("-m", f"{name}=bad:{name}")]
    with serving(*named, "--threads", "1", cwd=folder, tracebacks=True) as server:
        yield server.url


@pytest.fixture
def bench(graphpipe):
    """Runs `graphpipe bench ... --json`; gives its status and the object that it printed."""

    def run(*arguments):
        status, out, err = graphpipe("bench", *SHORT, "--json", *arguments)
        assert err == ""
        return status, json.loads(out)

    return run


# --- what comes of it ---


def test_a_run_is_a_table_and_a_histogram_for_people(graphpipe, url, folder):
    status, out, err = graphpipe("bench", *SHORT, url, "--concurrency", "2")
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == url
    assert lines[1] == "  sent: pixels float32 [1, 64]; latencies in ms"
    heads, row = lines[3].split(), lines[4].split()
    assert heads == [
        "load",
        "requests/s",
        "rows/s",
        "MB/s",
        "mean",
        "p50",
        "p90",
        "p95",
        "p99",
        "p99.9",
        "max",
        "errors",
    ]
    assert row[:2] == ["2", "callers"]
    assert row[-1] == "0"
    assert "latency, from when a request was sent" in out
    assert out.count("<- p") >= 1
    assert "windows" in lines[-1] or "window" in lines[-1]


def test_json_is_one_flat_object_and_nothing_else_on_standard_output(bench, url):
    status, run = bench(url, "--batch", "5", "--concurrency", "3")
    assert status == 0
    assert run["target"] == url
    assert (run["concurrency"], run["rate"], run["errors"], run["errors_by_kind"]) == (3, None, 0, {})
    assert run["requests"] > 0
    assert run["requests_per_s"] == pytest.approx(run["requests"] / run["seconds"], rel=0.02)
    assert run["rows_per_s"] == pytest.approx(5 * run["requests_per_s"], rel=1e-3)
    both_ways = run["request_bytes"] + run["answer_bytes"]
    assert run["mb_per_s"] == pytest.approx(run["requests_per_s"] * both_ways / 1e6, rel=0.01)
    quantiles = [run[f"{name}_ms"] for name in ("p50", "p90", "p95", "p99", "p99_9", "max")]
    assert quantiles == sorted(quantiles)
    assert 0 < quantiles[0] <= quantiles[-1]
    assert run["inputs"] == [{"name": "pixels", "type": "float32", "shape": [5, 64]}]
    assert len(run["window_requests_per_s"]) == run["windows"] == 3


def test_several_loads_are_a_run_each(bench, graphpipe, url):
    _, found = bench(url, "--concurrency", "1,2", "--concurrency", "4")
    assert [run["concurrency"] for run in found["runs"]] == [1, 2, 4]
    assert found["comparisons"] == found["against"] == []
    _, found = bench(url, "--rate", "20,40", "--poisson")
    assert [(run["rate"], run["load"]) for run in found["runs"]] == [
        (20, "20 requests/s due at random"), (40, "40 requests/s due at random"),
    ]  # fmt: skip
    assert graphpipe("bench", *SHORT, url, "--concurrency", "1,2")[1].count(" callers ") == 1


def test_csv_has_a_line_for_each_run(graphpipe, url, folder):
    status, out, _ = graphpipe("bench", *SHORT, url, "--concurrency", "1,2", "--csv", "-")
    assert status == 0
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [row["concurrency"] for row in rows] == ["1", "2"]
    assert all(float(row["p99_ms"]) > 0 for row in rows)
    graphpipe("bench", *SHORT, url, "--csv", "runs.csv")
    assert len(list(csv.DictReader((folder / "runs.csv").read_text().splitlines()))) == 1


def test_the_picture_has_the_numbers_that_were_printed(bench, url, folder):
    _, run = bench(url.replace("://", "://me:secret@"), "--picture", "latency.svg")
    picture = ElementTree.parse(folder / "latency.svg").getroot()
    said = [element.text for element in picture.iter("{http://www.w3.org/2000/svg}text")]
    assert said[0] == f"Latency of {url}"  # without the login
    assert "secret" not in str(run)
    assert any(words.startswith(f"{run['requests']:,} answers") for words in said)


def test_an_earlier_run_is_compared_with_by_its_load(bench, graphpipe, url, folder):
    status, out, _ = graphpipe("bench", *SHORT, "--json", url, "--concurrency", "1,2")
    (folder / "before.json").write_text(out)
    earlier = json.loads(out)["runs"][1]
    _, found = bench(url, "--concurrency", "2", "--against", "before.json")
    (since,) = found["against"]
    assert since["load"] == "2 callers"
    now = found["runs"][0]
    for name in ("requests_per_s", "p50_ms", "p99_ms"):
        assert since[f"{name}_ratio"] == pytest.approx(now[name] / earlier[name], rel=1e-3)
    assert (
        "2 callers: now over before.json"
        in graphpipe("bench", *SHORT, url, "--concurrency", "2", "--against", "before.json")[1]
    )
    status, out, err = graphpipe("bench", *SHORT, url, "--concurrency", "7", "--against", "before.json")
    assert (status, err) == (0, "graphpipe bench: before.json has no run with a load of these\n")


def test_it_ends_when_three_windows_agree_or_when_the_time_is_over(bench, url):
    """A model that takes 20 ms each time: its windows agree as soon as there are three, unless the machine is busy."""
    run = bench("slow_model:slow", "--seconds", "8", "--window", "0.4")[1]
    assert run["stable"] or run["windows"] == 20
    assert bench(url, "--whole-time", "--seconds", "0.5")[1]["windows"] == 5


@pytest.fixture(autouse=True)
def slow_model(folder, monkeypatch):
    (folder / "slow_model.py").write_text(MODELS)
    monkeypatch.delitem(sys.modules, "slow_model", raising=False)


# --- loads ---


def test_requests_by_the_clock_count_from_when_they_were_due(bench, models):
    """One thread that takes 20 ms answers 50 a second. Where 200 are due, the line grows, and so do the latencies."""
    _, easy = bench(f"{models}/models/slow", "--rate", "5")
    _, hard = bench(f"{models}/models/slow", "--rate", "200", "--seconds", "1", "--whole-time", "--connections", "20")
    assert hard["requests_per_s"] < 60
    assert hard["unanswered"] > 20
    # The last to be answered was due long before; a caller in a closed loop never sees that.
    assert hard["p99_ms"] > 300
    assert easy["p50_ms"] >= 20
    assert hard["errors"] == easy["errors"] == 0


def test_who_cannot_keep_up_is_told(graphpipe, models):
    out = graphpipe("bench", *SHORT, f"{models}/models/slow", "--rate", "300", "--connections", "9")[1]
    assert "it does not keep up: 300 requests a second are due" in out


def test_two_servers_are_measured_in_turn_and_compared(bench, graphpipe, models, url):
    status, found = bench(f"{models}/models/slow", f"{url}/models/echo", "--concurrency", "1")
    assert status == 0
    assert [run["target"] for run in found["runs"]] == [f"{models}/models/slow", f"{url}/models/echo"]
    (ratio,) = found["comparisons"]
    assert ratio["rounds"] == 3
    assert (
        ratio["requests_per_s_ratio_lowest"] <= ratio["requests_per_s_ratio"] <= ratio["requests_per_s_ratio_highest"]
    )
    assert ratio["requests_per_s_ratio"] < 1
    assert ratio["p50_ms_ratio"] > 1
    out = graphpipe("bench", *SHORT, f"{url}/models/echo", f"{models}/models/slow")[1]
    assert f"1 caller: {url}/models/echo over {models}/models/slow" in out
    assert "times the requests per second (median of " in out


def test_a_model_in_this_process_is_measured_and_compared_with_its_server(bench, models):
    status, run = bench("digits.onnx", "--concurrency", "4", "--batch", "2")
    assert (status, run["target"], run["errors"]) == (0, "digits.onnx in process", 0)
    assert run["rows_per_s"] == pytest.approx(2 * run["requests_per_s"], rel=1e-3)
    # One thread in both: each call takes 20 ms, and what the server adds.
    _, found = bench(
        f"{models}/models/slow", "slow_model:slow", "--concurrency", "2", "--threads", "1", "--shape", "x=2"
    )
    (ratio,) = found["comparisons"]
    assert ratio["requests_per_s_ratio"] > 0
    assert found["runs"][1]["p50_ms"] > 35  # the other caller comes first


@pytest.mark.parametrize(("more", "most"), [(["--threads", "1"], 1), (["--threads", "3"], 3), ([], usable_cpus())])
@pytest.mark.parametrize("load", [["--concurrency", "8"], ["--rate", "300"]])
def test_threads_run_a_model_as_many_times_at_once_as_in_a_server(bench, load, more, most):
    assert bench("slow_model:together", *load, *more)[0] == 0
    assert sys.modules["slow_model"].most == most


# --- what is sent, and where to ---


def test_inputs_are_sent_as_they_are_given(bench, url, folder):
    run = bench(url, "--input", "pixels=digit.npy", "--ask", "label")[1]
    assert run["inputs"] == [{"name": "pixels", "type": "float32", "shape": [1, 64]}]
    assert bench(url, "-i", "arrays.npz:digit")[1]["errors"] == 0
    run = bench(f"{url}/models/echo", "-i", "text:hello")[1]
    assert run["inputs"][0]["type"] == "string"
    np.save("doubles.npy", np.zeros((3, 64)))
    status, run = bench(url, "-i", "doubles.npy")
    assert (status, list(run["errors_by_kind"])) == (1, ["400 InvalidRequest"])
    assert bench(url, "-i", "doubles.npy", "--cast")[0] == 0


def test_variants_are_sent_in_turn(bench):
    bodies = set()

    def talk(caller):
        while body := caller.read_request():
            bodies.add(body)
            caller.send(reply(body))

    with canned(talk) as server:
        assert bench(server.url, "--variants", "3")[0] == 0
    assert len(bodies) == 1 + 3  # the first asks what the model takes


def reply(body):
    from graphpipe.wire import decode_request
    from graphpipe.wire.messages import InferRequest
    from tests.canned import answer, metadata, outputs

    message = decode_request(body)
    return answer(outputs(*message.inputs) if isinstance(message, InferRequest) else metadata(["x"], ["y"]))


def test_unix_sockets_keys_and_headers_are_those_of_the_client(bench, tmp_path, serve):
    heads = []

    def talk(caller):
        while body := caller.read_request():
            heads.append(caller.head)
            caller.send(reply(body))

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        with canned(talk, listener=listener) as server:
            asked = bench(server.url, "--api-key", "k3y", "--header", "X-Mine: a:b", "--timeout", "7")
    assert asked[0] == 0
    assert len(heads) > 2
    for head in heads:
        assert b"\r\nAuthorization: Bearer k3y\r\n" in head
        assert b"\r\nX-Mine: a:b\r\n" in head
    assert heads[-1].count(b"GraphPipe-Timeout-Ms: 7000") == 1


def test_https_is_spoken_as_the_client_does(bench, tmp_path, monkeypatch):
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    with canned(tls=context) as server:
        assert bench(server.url, "--concurrency", "2", "--batch", "3")[0] == 0


# --- what goes wrong ---


def test_refusals_are_counted_by_kind_and_status_1(bench, graphpipe, models):
    status, run = bench(f"{models}/models/fails")
    assert (status, run["requests"], run["p50_ms"], run["max_ms"]) == (1, 0, None, None)
    (kind,) = run["errors_by_kind"]
    assert kind == "500 ModelFailed"
    assert run["errors_by_kind"][kind]["count"] == run["errors"] > 0
    assert "failed on this input" in run["errors_by_kind"][kind]["first"]
    status, run = bench(f"{models}/models/sometimes")
    assert status == 1
    assert run["requests"] > run["errors_by_kind"]["400 InvalidRequest"]["count"] > 0
    status, out, _ = graphpipe("bench", *SHORT, f"{models}/models/sometimes")
    assert status == 1
    assert "errors: 400 InvalidRequest: not this time" in out


def test_a_full_server_is_counted_and_asked_on(bench, models, serve, folder):
    server = serve("-m", "slow_model:slow", "--threads", "1", "--queue-requests-max", "1", cwd=folder)
    status, run = bench(server.url, "--concurrency", "8")
    assert status == 1
    assert run["requests"] > 0
    assert "--queue-requests-max" in run["errors_by_kind"]["503 Overloaded"]["first"]


def test_a_server_that_goes_away_midway_leaves_what_was_measured(folder):
    with serving("-m", "echo") as server:
        line = ["bench", server.url, "--json", "--seconds", "30", "--window", "0.2", "--warm-up", "0", "--whole-time"]
        code = "from graphpipe.server.start import main; main()"
        with subprocess.Popen(
            [sys.executable, "-c", code, *line], env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process:
            wait_until_asked(server)
            server.stop()
            out, err = process.communicate(timeout=60)
    run = json.loads(out)
    assert (process.returncode, err) == (1, b"")
    assert run["requests"] > 0
    assert "Unreachable" in run["errors_by_kind"]
    assert run["seconds"] < 25  # three windows without any answer are enough


def wait_until_asked(server):
    from urllib.request import urlopen

    limit = time.monotonic() + 60
    while time.monotonic() < limit:
        with urlopen(f"{server.url}/metrics") as page:
            counted = [
                line for line in page.read().decode().splitlines() if line.startswith("graphpipe_requests_total{")
            ]
        if sum(float(line.rpartition(" ")[2]) for line in counted) > 50:
            return
        time.sleep(0.05)
    raise AssertionError("nobody asks")


@pytest.mark.parametrize("more", [[], ["--json"]])
@pytest.mark.parametrize("target", ["server", "model"])
def test_ctrl_c_prints_what_was_measured_until_then(folder, target, more):
    with serving("-m", "echo") as server:
        where = server.url if target == "server" else "slow_model:slow"
        code = (
            "import sys, graphpipe.bench.measure as m; window = m._one_window\n"
            "async def told(*a): print('window', file=sys.stderr, flush=True); return await window(*a)\n"
            "m._one_window = told\n"
            "from graphpipe.server.start import main; main()"
        )
        line = ["bench", where, "--seconds", "60", "--window", "0.2", "--warm-up", "0.1", "--whole-time", *more]
        with subprocess.Popen(
            [sys.executable, "-c", code, *line],
            env=environment(),
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as process:
            for _ in range(3):
                assert process.stderr.readline() == b"window\n"
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert b"Traceback" not in err
    if more:
        run = json.loads(out)
        assert run["interrupted"]
        assert run["requests"] > 0
        assert b"interrupted; this is what was measured until then" in err
    else:
        assert b"interrupted: what was measured until then" in out


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["http://127.0.0.1:1"], 1, "is a server running there"),
        (["localhost:9000"], 1, "has no scheme; write http://localhost:9000"),
        (["none.onnx"], 1, "none.onnx"),
        (["URL", "URL", "URL"], 2, "one target is measured, or two are compared; 3 came"),
        (["URL", "--concurrency", "1", "--rate", "5"], 2, "give one of them"),
        (["URL", "--concurrency", "1,x"], 2, "expected whole numbers of 1 to 10,000, separated by commas; '1,x' came"),
        (["URL", "--concurrency", "0"], 2, "'0' came"),
        (["URL", "--poisson"], 2, "give --rate"),
        (["URL", "--json", "--csv", "-"], 2, "both want standard output"),
        (["URL", "--picture", "x.png"], 2, "expected a file .svg"),
        (["URL", "--picture", "no/where/x.svg"], 2, "there is no such folder"),
        (["URL", "--against", "digits.onnx"], 1, "digits.onnx"),
        (["URL", "--against", "none.json"], 1, "none.json"),
        (["URL", "--shape", "pixels"], 1, "expected NAME=N,N,...; 'pixels' came"),
        (["URL", "--shape", "pixels=1,65"], 1, "the model takes pixels float32"),
        (["URL", "--input", "digit.npy", "--batch", "4"], 1, "--input says what is sent"),
        (["URL", "--header", "x"], 1, "expected NAME:VALUE"),
        (["echo", "--intra-threads", "2"], 1, "--intra-threads"),
        (["URL", "--intra-threads", "2"], 1, "--intra-threads is about a model in this process"),
        (["URL", "--threads", "2"], 1, "--threads is about a model in this process"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_said_before_anything_is_asked(graphpipe, url, arguments, status, message):
    ended, out, err = graphpipe("bench", *SHORT, *(url if argument == "URL" else argument for argument in arguments))
    assert (ended, out) == (status, "")
    assert message in err


# --- around it ---


def test_a_terminal_shows_how_far_it_is(url):
    shown = on_a_terminal(
        "import graphpipe.progress as p; p._REDRAW_S = 0; from graphpipe.cli import main; "
        f"main(['bench', {url!r}, *{SHORT!r}, '--concurrency', '2'])"
    )
    assert "] 2 callers: warm-up" in shown
    assert "] 2 callers: measuring" in shown
    assert " a second, p50 " in shown


def test_the_base_install_is_enough_to_measure_a_server(url):
    """Nothing but numpy and click can be imported besides the standard library and the package: no uvloop either."""
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
    for target, more in ((url, ["--rate", "100"]), (url, []), ("echo", [])):
        done = subprocess.run(
            [sys.executable, "-c", code, "bench", target, "--json", *SHORT, *more],
            env=environment(), capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
        assert json.loads(done.stdout)["requests"] > 0


def test_every_example_of_graphpipe_bench_works_as_it_is_shown(graphpipe, url, folder, serve):
    path = folder / "graphpipe.sock"
    serve("-m", "echo", listen=f"unix:{path}")
    lines = examples(graphpipe("bench", "--help")[1])
    assert len(lines) >= 8
    for line in lines:
        line = line.replace("/tmp/graphpipe.sock", str(path)).replace("127.0.0.1:9000", url.removeprefix("http://"))
        line, _, file = line.replace("--seconds 5", "").partition(" > ")
        command, *arguments = shlex.split(line)
        status, out, err = graphpipe(*arguments, *SHORT)
        assert (command, status, err) == ("graphpipe", 0, ""), line
        assert out
        if file:
            (folder / file).write_text(out)
