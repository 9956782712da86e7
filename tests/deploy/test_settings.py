"""What the files of deploy/ tell a server is what a server takes, and their times fit each other."""

from __future__ import annotations

import re
import shlex
import subprocess

import numpy as np
import pytest
import yaml
from click.testing import CliRunner

import graphpipe
from graphpipe.server.cli import main
from graphpipe.server.settings.flags import by_name
from tests.deploy.files import DEPLOY, documents, servers
from tests.operation.conftest import until

STARTED = list(servers())


def in_force(arguments):
    """The settings that these arguments come to, as --print-config shows them."""
    told = [re.sub(r"\$\{\w+:-(.*?)\}", r"\1", argument).replace("{{.Name}}", "m") for argument in map(str, arguments)]
    if "--config" in told:  # it lies where the unit is installed
        at = told.index("--config")
        del told[at : at + 2]
    done = CliRunner().invoke(main, [*told, "--print-config"], env={})
    assert done.exit_code == 0, done.output
    return dict(re.findall(r'^([a-z-]+) = "?([^"\s]+)', done.output, re.MULTILINE))


@pytest.mark.parametrize(("where", "arguments"), STARTED, ids=[where for where, _ in STARTED])
def test_a_server_takes_the_arguments_of(where, arguments):
    assert in_force(arguments)["log-format"] == "json"


def test_servers_are_started_by_every_way_of_deploying():
    assert {where.partition("/")[0] for where, _ in STARTED} == {
        "compose",
        "kserve",
        "knative",
        "kubernetes",
        "systemd",
    }


def test_the_chart_s_settings_and_flags_are_the_server_s():
    values = yaml.safe_load((DEPLOY / "helm/graphpipe/values.yaml").read_text())
    assert set(values["settings"]) <= set(by_name())
    template = (DEPLOY / "helm/graphpipe/templates/deployment.yaml").read_text()
    flags = set(re.findall(r"--([a-z][a-z-]+)=", template))
    assert flags
    assert flags <= set(by_name())


def test_flags_that_comments_name_exist():
    for path in sorted(path for path in DEPLOY.rglob("*") if path.is_file()):
        text = "\n".join(
            line for line in path.read_text().splitlines() if re.search(r"GraphPipe|\(--|with --|more --", line)
        )
        for name in re.findall(r"\(--([a-z-]+)\)|more --([a-z-]+)", text):
            assert "".join(name) in by_name(), path


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        ("kubernetes/deployment.yaml", r"terminationGracePeriodSeconds: (\d+)"),
        ("compose/compose.yaml", r"stop_grace_period: (\d+)s"),
        ("systemd/graphpipe.service", r"TimeoutStopSec=(\d+)"),
    ],
)
def test_nobody_kills_a_server_that_is_draining(name, pattern):
    seconds = int(re.search(pattern, (DEPLOY / name).read_text())[1])
    for where, arguments in STARTED:
        if where == name:
            settings = in_force(arguments)
            # docs/reliability.md: the sum of both flags and 6 s.
            assert seconds >= float(settings["drain-grace-s"]) + float(settings["drain-timeout-s"]) + 6


def test_the_proxies_keep_connections_for_less_time_than_the_server():
    server_s = float(in_force(["--model", "echo"])["keepalive-timeout-s"])
    nginx = (DEPLOY / "proxies/nginx.conf").read_text()
    haproxy = (DEPLOY / "proxies/haproxy.cfg").read_text()
    assert float(re.search(r"keepalive_timeout (\d+)s;", nginx)[1]) < server_s
    assert float(re.search(r"timeout http-keep-alive (\d+)s", haproxy)[1]) < server_s


def test_the_unit_lets_a_model_load_as_long_as_the_server_does():
    unit = (DEPLOY / "systemd/graphpipe.service").read_text()
    server_s = float(in_force(["--model", "echo"])["start-timeout-s"])
    assert float(re.search(r"TimeoutStartSec=(\d+)", unit)[1]) > server_s
    (deployment,) = documents(DEPLOY / "kubernetes/deployment.yaml")
    probe = deployment["spec"]["template"]["spec"]["containers"][0]["startupProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] >= server_s


def test_a_reload_of_the_unit_reaches_the_server_and_ends_nobody(serve):
    unit = (DEPLOY / "systemd/graphpipe.service").read_text()
    (line,) = re.findall(r"^ExecReload=(.+)$", unit, re.MULTILINE)
    server = serve("--model", "echo", "--workers", "2")
    pid = str(server.process.pid)
    # As systemd.service(5) has it: a dollar is written twice, and the process to tell is in the environment.
    words = [pid if word == "$MAINPID" else word.replace("$$", "$") for word in shlex.split(line)]
    subprocess.run(words, env={"MAINPID": pid}, check=True)
    until(lambda: "SIGHUP" in server.log)
    assert graphpipe.remote.execute(server.url, np.ones(3)).tolist() == [1, 1, 1]
    assert server.process.poll() is None
