"""Every query of the dashboard, asked of a real Prometheus that scrapes a loaded server: each has something to show."""

from __future__ import annotations

import contextlib
import json
import math
import re
import shutil
import socket
import subprocess
import threading
import time
import urllib.parse
import urllib.request

import numpy as np
import pytest

import graphpipe
from tests.deploy.files import DEPLOY
from tests.serving import ROOT, serving

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
DASHBOARD = json.loads((DEPLOY / "monitoring" / "dashboard.json").read_text())
QUERIES = {
    f"{panel['title']}, {target['refId']}": target["expr"]
    for panel in DASHBOARD["panels"]
    for target in panel["targets"]
}
WAIT_S = 90
DIGITS = ROOT / "examples/digits/digits.onnx"


class Prometheus:
    """A real one, with the configuration and rules of deploy/, asked over its API."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"

    def get(self, path: str, **parameters: str):
        with urllib.request.urlopen(f"{self.url}{path}?{urllib.parse.urlencode(parameters)}", timeout=10) as answer:
            return json.load(answer)["data"]

    def numbers(self, expression: str) -> list[float]:
        """What a query gives now, without what is no number."""
        found = self.get("/api/v1/query", query=expression)["result"]
        return [value for each in found if not math.isnan(value := float(each["value"][1]))]

    def until(self, condition, what: str) -> None:
        deadline = time.monotonic() + WAIT_S
        while True:
            with contextlib.suppress(OSError):
                if condition(self):
                    return
            assert time.monotonic() < deadline, what
            time.sleep(0.5)


def in_our_words(expression: str) -> str:
    """A query with the dashboard's variables as they are when everything is chosen."""
    for name, value in (("$job", ".*"), ("$model", ".*"), ("$__rate_interval", "10s")):
        expression = expression.replace(name, value)
    assert "$" not in expression
    return expression


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    cache = tmp_path_factory.mktemp("cache")
    told = [
        "--model",
        DIGITS,
        "--workers",
        "2",
        "--batch-rows-max",
        "8",
        "--cache",
        "--cache-dir",
        cache,
        "--drain-grace-s",
        "0",
    ]
    with serving(*map(str, told)) as server:
        yield server


@pytest.fixture(scope="module")
def load(server):
    """Callers of each kind: new rows, rows that come again, too few columns, and one who leaves."""
    over = threading.Event()

    def call(seed: int) -> None:
        random = np.random.default_rng(seed)
        known = random.random((2, 64), np.float32)
        while not over.is_set():
            with graphpipe.Client(server.url, timeout=10) as client, contextlib.suppress(graphpipe.GraphPipeError):
                for _ in range(20):
                    client.infer({"pixels": random.random((3, 64), np.float32)})
                    client.infer({"pixels": known})
                client.infer({"pixels": known[:, :9]})

    threads = [threading.Thread(target=call, args=(seed,)) for seed in range(3)]
    for thread in threads:
        thread.start()
    yield
    over.set()
    for thread in threads:
        thread.join()


@pytest.fixture(scope="module")
def prometheus(server, load, tmp_path_factory):
    folder = tmp_path_factory.mktemp("prometheus")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    configuration = (DEPLOY / "compose" / "prometheus.yml").read_text()
    configuration = re.sub(r"targets: .*", f'targets: ["127.0.0.1:{server.port}"]', configuration).replace("15s", "1s")
    (folder / "prometheus.yml").write_text(configuration)
    shutil.copy(DEPLOY / "monitoring" / "rules.yml", folder)
    command = [
        "prometheus",
        f"--config.file={folder}/prometheus.yml",
        f"--storage.tsdb.path={folder}/data",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with (folder / "log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        found = Prometheus(port)
        try:
            found.until(lambda self: self.numbers('up{job="graphpipe"}') == [1.0], "it does not scrape")
            # A rate needs some seconds of samples.
            found.until(
                lambda self: len(self.get("/api/v1/query", query="graphpipe_workers[12s]")["result"][0]["values"]) > 10,
                "samples",
            )
            yield found
        finally:
            process.terminate()
            process.wait(20)


@pytest.mark.parametrize("name", QUERIES)
def test_under_load_there_is_something_to_see_at(name, prometheus):
    query = in_our_words(QUERIES[name])
    prometheus.until(lambda self: self.numbers(query), f"{query} gives nothing")


def test_the_dashboards_variables_have_values(prometheus):
    for variable in DASHBOARD["templating"]["list"]:
        if variable["type"] == "query":
            expression, label = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["definition"]).groups()
            found = prometheus.get("/api/v1/series", **{"match[]": in_our_words(expression)})
            assert {series[label] for series in found} == {"graphpipe" if label == "job" else "digits"}


def test_the_rules_are_understood_and_a_server_that_is_well_raises_no_alert(prometheus):
    prometheus.until(lambda self: self.numbers("graphpipe:requests:rate5m"), "nothing is recorded")
    (group,) = prometheus.get("/api/v1/rules")["groups"]
    assert {rule["health"] for rule in group["rules"]} == {"ok"}
    assert prometheus.get("/api/v1/alerts")["alerts"] == []


def test_what_the_page_holds_is_what_the_format_wants(server):
    with urllib.request.urlopen(f"{server.url}/metrics", timeout=10) as page:
        done = subprocess.run(["promtool", "check", "metrics"], input=page.read(), capture_output=True, check=False)
    assert (done.returncode, done.stderr.decode()) == (0, "")
