"""The files of deploy/ as the programs that they are for read them: part of `make test-all`, where those are installed."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

import graphpipe
from benchmarks import proxies
from tests.deploy.files import DEPLOY, ROOT, VERSIONS, reasons

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
HELM = "helm.sh/helm/v3/cmd/helm@v3.22.0"
CHART = DEPLOY / "helm" / "graphpipe"
OF_KUBERNETES = ["--kube-version", VERSIONS[-1]]


def run(*command, status=0, **options):
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False, **options)
    assert done.returncode == status, f"{' '.join(map(str, command))}:\n{done.stdout}{done.stderr}"
    return done.stdout + done.stderr


def test_prometheus_takes_the_rules_and_their_tests_pass(tmp_path):
    for path in (
        DEPLOY / "monitoring/rules.yml",
        DEPLOY / "monitoring/rules_test.yml",
        DEPLOY / "compose/prometheus.yml",
    ):
        shutil.copy(path, tmp_path)
    assert "0 rules" not in run("promtool", "check", "rules", tmp_path / "rules.yml")
    assert "SUCCESS" in run("promtool", "check", "config", tmp_path / "prometheus.yml")
    assert "SUCCESS" in run("promtool", "test", "rules", "rules_test.yml", cwd=tmp_path)


def test_nginx_takes_its_configuration(tmp_path):
    told = f"pid {tmp_path}/nginx.pid; error_log {tmp_path}/nginx.log;"
    said = run("nginx", "-t", "-p", tmp_path, "-c", DEPLOY / "proxies/nginx.conf", "-g", told)
    assert "test is successful" in said
    assert "warn" not in said


def test_haproxy_takes_its_configuration():
    said = run("haproxy", "-c", "-f", DEPLOY / "proxies/haproxy.cfg")
    assert "Configuration file is valid" in said
    assert "WARNING" not in said


def test_a_rolling_restart_behind_both_proxies_fails_no_call():
    said = run(sys.executable, ROOT / "benchmarks/proxies.py", "--calls", 20_000)
    rows = re.findall(r"^\| (nginx|haproxy) \| stopped \(SIGTERM\) \| [\d,]+ \| 20,000 \| (\d+) \|", said, re.MULTILINE)
    assert rows == [("nginx", "0"), ("haproxy", "0")], said


@pytest.mark.parametrize("name", ["nginx", "haproxy"])
def test_who_calls_more_often_than_a_proxy_lets_him_is_refused_with_429_and_is_told_that_he_may_try_later(
    name, tmp_path
):
    servers = [proxies.Server(proxies._free_port(), tmp_path / f"{which}.log") for which in ("one", "two")]
    try:
        for server in servers:
            server.start()
        with proxies.proxy(name, servers, tmp_path, burst=20) as url, graphpipe.Client(url) as client:
            answered, calls = 0, 0
            with pytest.raises(graphpipe.Overloaded, match="429"):
                while (calls := calls + 1) < 1000:
                    answered += client.execute(np.ones(3, np.float32)).sum() == 3
            assert answered == calls - 1 >= 15  # a client also asks what there is
    finally:
        for server in servers:
            server.end(signal.SIGTERM)


def test_systemd_takes_the_units_and_finds_them_hardened(tmp_path):
    for path in (DEPLOY / "systemd").glob("graphpipe.*"):
        # It wants the program to be there.
        text = re.sub(r"ExecStart=\S+", "ExecStart=/bin/true", path.read_text())
        (tmp_path / path.name).write_text(text)
    said = run("systemd-analyze", "verify", tmp_path / "graphpipe.service", tmp_path / "graphpipe.socket")
    assert "graphpipe" not in said, said
    # In tenths: 10 is the most exposed.
    run("systemd-analyze", "security", "--offline=true", "--threshold=20", tmp_path / "graphpipe.service")


@pytest.fixture(scope="session")
def helm():
    """The program: installed, built by an earlier run, or built now."""
    ours = ROOT / ".build" / "go" / "bin"
    found = shutil.which("helm") or shutil.which("helm", path=str(ours))
    if found is None and shutil.which("go"):
        ours.mkdir(parents=True, exist_ok=True)
        subprocess.run(["go", "install", HELM], env={**os.environ, "GOBIN": str(ours)}, check=True)
        found = shutil.which("helm", path=str(ours))
    if found is None:
        pytest.skip("neither helm nor go is installed")
    return found


VARIANTS = {
    "as it comes": {},
    "everything on": {
        "image": {"repository": "registry.example/graphpipe-onnx", "pullSecrets": [{"name": "registry"}]},
        "autoscaling": {"enabled": True},
        "tls": {"secret": "graphpipe-tls"},
        "models": {
            "initImage": "registry.example/models:7",
            "initCommand": ["cp", "-r", "/models/.", "/mnt/models/"],
            "serve": [{"name": "a", "path": "a.onnx"}, {"name": "b", "path": "/b"}],
        },
        "settings": {"drain-grace-s": 20, "drain-timeout-s": 600, "batch-rows-max": 32},
        "env": [{"name": "OMP_NUM_THREADS", "value": "1"}],
        "podAnnotations": {"note": "x"},
        "nodeSelector": {"kubernetes.io/arch": "amd64"},
        "tolerations": [{"key": "gpu", "operator": "Exists"}],
        "affinity": {"podAntiAffinity": {}},
        "service": {"annotations": {"note": "z"}},
    },
    "all that can be left out": {
        "networkPolicy": {"enabled": False},
        "autoscaling": {"enabled": True, "queueRequests": 0},
    },
}


def rendered(helm, values, tmp_path):
    file = tmp_path / "values.yaml"
    file.write_text(yaml.safe_dump(values))
    said = run(helm, "template", "digits", CHART, "--values", file, *OF_KUBERNETES)
    return {document["kind"]: document for document in yaml.safe_load_all(said) if document}


@pytest.mark.parametrize("name", VARIANTS)
def test_what_helm_makes_of_the_chart_is_what_kubernetes_takes(name, helm, tmp_path):
    documents = rendered(helm, VARIANTS[name], tmp_path)
    assert {"Deployment", "Service", "PodDisruptionBudget"} <= set(documents)
    for document in documents.values():
        for version in VERSIONS:
            assert reasons(document, version) == []
    file = tmp_path / "values.yaml"
    run(helm, "lint", "--strict", *OF_KUBERNETES, "--values", file, CHART)


def test_the_chart_leaves_a_server_time_for_the_drain_that_its_settings_say(helm, tmp_path):
    for name, seconds in (("as it comes", 5 + 30 + 6), ("everything on", 20 + 600 + 6)):
        pod = rendered(helm, VARIANTS[name], tmp_path)["Deployment"]["spec"]["template"]["spec"]
        assert pod["terminationGracePeriodSeconds"] >= seconds


def test_the_chart_gives_what_the_manifests_give(helm, tmp_path):
    ours = rendered(helm, {}, tmp_path)["Deployment"]["spec"]["template"]["spec"]
    (manifest,) = yaml.safe_load_all((DEPLOY / "kubernetes/deployment.yaml").read_text())
    plain = manifest["spec"]["template"]["spec"]
    for key in ("securityContext", "volumes", "automountServiceAccountToken", "terminationGracePeriodSeconds"):
        assert ours[key] == plain[key], key
    for key in (
        "ports",
        "startupProbe",
        "readinessProbe",
        "livenessProbe",
        "resources",
        "securityContext",
        "volumeMounts",
    ):
        assert json.dumps(ours["containers"][0][key], sort_keys=True) == json.dumps(
            plain["containers"][0][key], sort_keys=True
        ), key


def test_a_wrong_value_is_refused_by_helm(helm):
    assert "listen" in run(helm, "template", "x", CHART, *OF_KUBERNETES, "--set", "settings.listen=0.0.0.0:1", status=1)
    assert "say where the models are" in run(
        helm, "template", "x", CHART, *OF_KUBERNETES, "--set", "models.claim=", status=1
    )


def test_the_commands_of_the_docs_name_the_image_that_is_run(helm):
    said = run(
        helm, "template", "digits", CHART, *OF_KUBERNETES,
        "--set", "image.repository=ADDRESS/graphpipe-onnx", "--set", "image.tag=NEW",
    )  # fmt: skip
    assert re.findall(r"^ +image: (.*)$", said, re.MULTILINE) == ['"ADDRESS/graphpipe-onnx:NEW"']


def test_the_chart_packs(helm, tmp_path):
    run(helm, "package", CHART, "--destination", tmp_path)
    version = yaml.safe_load((CHART / "Chart.yaml").read_text())["version"]
    assert [path.name for path in Path(tmp_path).iterdir()] == [f"graphpipe-{version}.tgz"]
