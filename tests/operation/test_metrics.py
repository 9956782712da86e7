"""The page of metrics: what is counted, that the documents list it, and that it is one page for all workers."""

from __future__ import annotations

import os
import re
import signal
import socket
from pathlib import Path

import numpy as np
import pytest

import graphpipe
from graphpipe.keyfile import digest_of, key_of, new_key, text_of
from graphpipe.wire import encode_request
from tests.operation.conftest import Serve, get, samples, until
from tests.raw_http import call
from tests.serving import ROOT

X = np.arange(3, dtype=np.float32)
BODY = b"".join(encode_request([X]))
DIGITS = ROOT / "examples/digits/digits.onnx"


def documented() -> set[tuple[str, str, str]]:
    """Name, kind and labels of every metric in the tables of docs/metrics.md."""
    row = re.compile(r"^\| `(\w+)` \| (\w+) \|([^|]*)\|", re.MULTILINE)
    page = (ROOT / "docs/metrics.md").read_text()
    return {(name, kind, ", ".join(re.findall(r"`(\w+)`", labels))) for name, kind, labels in row.findall(page)}


def live(url: str) -> set[tuple[str, str, str]]:
    page = get(f"{url}/metrics")[1]
    kinds = dict(re.findall(r"^# TYPE (\S+) (\S+)$", page, re.MULTILINE))
    labels: dict[str, list[str]] = {}
    for name, inside in re.findall(r"^([a-z_]+)(?:\{(.*?)\})? \S+$", page, re.MULTILINE):
        base = name if name in kinds else re.sub(r"_(bucket|sum|count)$", "", name)
        labels[base] = [label for label in re.findall(r'(\w+)="', inside) if label != "le"]
    return {(name, kind, ", ".join(sorted(labels.get(name, [])))) for name, kind in kinds.items()}


def test_the_documents_list_every_metric_with_its_kind_and_labels_and_no_other(serve: Serve, tmp_path: Path) -> None:
    key, keys = new_key(), tmp_path / "keys"
    keys.write_text(f"{text_of(key_of('ci', digest_of(key.encode()), ['infer']))}\n")
    cached = ("--batch-rows-max", "8", "--cache", "--cache-dir", tmp_path)
    server = serve("-m", DIGITS, *cached, "--api-key-file", keys, "--metrics-listen", "127.0.0.1:0")
    with graphpipe.Client(server.url, api_key=key) as client:
        for row in range(2):  # the second tells that rows are rows
            client.execute(np.full((2, 64), row, np.float32))
        client.execute(np.zeros((1, 64), np.float32))
    until(lambda: "metrics at " in server.log)
    assert live(server.log.partition("metrics at ")[2].split("/metrics")[0]) == documented()


def test_units_follow_the_conventions_of_prometheus(start: Serve) -> None:
    page = get(f"{start('double').url}/metrics")[1]
    kinds = dict(re.findall(r"^# TYPE (\S+) (\S+)$", page, re.MULTILINE))
    for name, kind in kinds.items():
        assert name.startswith("graphpipe_"), name
        assert (kind == "counter") == name.endswith("_total"), name
        assert not re.search(r"_(ms|millis|kb|mb|percent)\b", name), name
        assert f"# HELP {name} " in page


def test_requests_are_counted_by_model_code_and_protocol(start: Serve) -> None:
    server = start("double quotes")
    with graphpipe.Client(server.url) as client:
        client.execute(X)
    assert call(server.url, "POST", "/models/quotes", b"garbage").status == 400
    assert call(server.url, "GET", "/models/quotes").status == 200
    assert call(server.url, "POST", "/models/missing", BODY).status == 404
    assert call(server.url, "PUT", "/").status == 405
    found = samples(server.url)
    counted = {name: value for name, value in found.items() if value and name.startswith("graphpipe_requests_total")}
    assert counted == {
        'graphpipe_requests_total{code="200",model="double",protocol="graphpipe"}': 1,
        'graphpipe_requests_total{code="400",model="quotes",protocol="graphpipe"}': 1,
        'graphpipe_requests_total{code="200",model="quotes",protocol="json"}': 1,
        'graphpipe_requests_total{code="404",model="",protocol="graphpipe"}': 1,
        'graphpipe_requests_total{code="405",model="",protocol="json"}': 1,
    }


def test_what_is_alarming_has_a_series_from_the_start_so_that_its_first_is_an_increase(start: Serve) -> None:
    found = samples(start("double").url)
    for code in (200, 400, 500, 502, 503, 504):
        assert found[f'graphpipe_requests_total{{code="{code}",model="double",protocol="graphpipe"}}'] == 0


def test_the_same_is_counted_whoever_read_the_request(start: Serve) -> None:
    """The front reads plain requests, aiohttp the others: these have an escaped path."""
    server = start("double")
    for path in ("/", "/%61"):
        before = samples(server.url)
        assert call(server.url, "POST", path, BODY).status == 200
        after = samples(server.url)
        for name, more in {
            'graphpipe_rows_total{model="double"}': 3,
            'graphpipe_requests_total{code="200",model="double",protocol="graphpipe"}': 1,
            'graphpipe_request_duration_seconds_count{model="double"}': 1,
            'graphpipe_queue_duration_seconds_count{model="double"}': 1,
            'graphpipe_inference_duration_seconds_count{model="double"}': 1,
            'graphpipe_encode_duration_seconds_count{model="double"}': 1,
        }.items():
            assert after[name] - before.get(name, 0) == more, (path, name)


def test_batches_and_what_waits_for_them_are_counted(start: Serve, folder: Path) -> None:
    server = start("double", "--batch-rows-max", "64", "--threads", "1")
    with graphpipe.Client(server.url) as client:
        for rows in (1, 2, 3):
            client.execute(np.ones(rows, np.float32))
    found = samples(server.url)
    label = '{model="double"}'
    assert found[f"graphpipe_batch_wait_duration_seconds_count{label}"] == 3
    assert found[f"graphpipe_batch_rows_count{label}"] == 3
    assert found[f"graphpipe_batch_rows_sum{label}"] == 6
    assert found['graphpipe_batch_rows_bucket{le="2.0",model="double"}'] == 2
    assert found[f"graphpipe_queue_requests{label}"] == 0
    # One runs, and two wait for a batch behind it.
    sockets = []
    for config in ("wait go", "", ""):
        body = b"".join(encode_request([X], config=config))
        connection = socket.create_connection(("127.0.0.1", server.port))
        connection.sendall(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        sockets.append(connection)
        if config:
            until((folder / "go.begun").exists)
    until(lambda: samples(server.url)[f"graphpipe_queue_requests{label}"] == 2)
    assert samples(server.url)[f"graphpipe_batch_queue_rows{label}"] == 6
    assert samples(server.url)[f"graphpipe_longest_run_seconds{label}"] > 0
    (folder / "go").touch()
    for connection in sockets:
        assert connection.recv(20).startswith(b"HTTP/1.1 200")
        connection.close()
    until(lambda: samples(server.url)[f"graphpipe_longest_run_seconds{label}"] == 0)


def test_what_the_cache_knew_and_did_not_know_is_counted(serve: Serve, tmp_path: Path) -> None:
    server = serve("-m", DIGITS, "--cache", "--cache-dir", tmp_path)
    with graphpipe.Client(server.url) as client:
        client.execute(np.zeros((1, 64), np.float32))
        until(lambda: samples(server.url)['graphpipe_cache_stored_total{model="digits"}'] > 0)
        client.execute(np.zeros((1, 64), np.float32))
    found = samples(server.url)
    assert found['graphpipe_cache_misses_total{model="digits"}'] == 1
    assert found['graphpipe_cache_hits_total{model="digits"}'] == 1
    assert found['graphpipe_cache_errors_total{model="digits"}'] == 0


def test_a_caller_who_leaves_is_counted(start: Serve, folder: Path) -> None:
    server = start("double")
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        body = b"".join(encode_request([X], config="wait go"))
        connection.sendall(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        until((folder / "go.begun").exists)
    until(lambda: samples(server.url)['graphpipe_abandoned_requests_total{model="double"}'] == 1)
    (folder / "go").touch()


def test_counters_of_a_worker_that_died_stay_and_its_gauges_go(start: Serve) -> None:
    server = start("double", "--workers", "1", "--memory-limit-bytes", "8GB")
    name = 'graphpipe_requests_total{code="200",model="double",protocol="graphpipe"}'
    with graphpipe.Client(server.url) as client:
        for _ in range(10):
            client.execute(X)
    assert samples(server.url)[name] == 10
    load = samples(server.url)['graphpipe_model_load_seconds{model="double"}']
    assert 0 < load < 60
    (pid,) = map(int, Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split())
    os.kill(pid, signal.SIGKILL)
    until(lambda: samples(server.url)["graphpipe_worker_restarts_total"] == 1)
    until(lambda: get(f"{server.url}/readyz")[0] == 200)
    found = samples(server.url)
    assert found[name] == 10
    assert found["graphpipe_connections"] <= 1
    assert found["graphpipe_in_flight_requests"] == 0


@pytest.mark.parametrize("path", ["/metrics", "/livez", "/readyz"])
def test_a_second_address_has_metrics_and_health_and_nothing_else(start: Serve, path: str) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = start("double", "--metrics-listen", f"127.0.0.1:{port}")
    side = f"http://127.0.0.1:{port}"
    assert get(f"{side}{path}")[0] == 200
    assert get(f"{server.url}{path}")[0] == (404 if path == "/metrics" else 200)
    assert get(f"{side}/")[0] == 404
    assert call(side, "POST", "/", BODY).status in (404, 405)
    assert get(f"{side}/control/shutdown")[0] == 404
