"""The compose file is one by its specification, and what it mounts is there."""

from __future__ import annotations

import subprocess
import sys

from tests.deploy.files import DEPLOY, documents

COMPOSE = DEPLOY / "compose" / "compose.yaml"


def checked(path):
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_it_is_what_the_specification_says():
    done = checked(COMPOSE)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_misspelt_key_would_be_noticed(tmp_path):
    wrong = tmp_path / "compose.yaml"
    wrong.write_text(COMPOSE.read_text().replace("depends_on:", "depend_on:"))
    assert "depend_on" in checked(wrong).stdout


def test_what_it_mounts_is_there_and_its_volumes_are_declared():
    (compose,) = documents(COMPOSE)
    for service in compose["services"].values():
        for volume in service.get("volumes", []):
            source = volume.partition(":")[0]
            if source.startswith((".", "/")):
                assert (COMPOSE.parent / source).is_file(), source
            elif not source.startswith("$"):
                assert source in compose["volumes"], source


def test_prometheus_scrapes_the_services_and_grafana_reads_it():
    (compose,) = documents(COMPOSE)
    (prometheus,) = documents(COMPOSE.parent / "prometheus.yml")
    (grafana,) = documents(COMPOSE.parent / "grafana.yml")
    hosts = {
        target.partition(":")[0]
        for job in prometheus["scrape_configs"]
        for each in job["static_configs"]
        for target in each["targets"]
    }
    assert hosts == {"server", "batcher"}
    assert hosts <= set(compose["services"])
    assert grafana["datasources"][0]["url"] == "http://prometheus:9090"
