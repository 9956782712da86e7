"""Rules and dashboard ask for metrics that there are, and every alert has a test."""

from __future__ import annotations

import json
import re

import pytest

from tests.deploy.files import DEPLOY, ROOT, documents

MONITORING = DEPLOY / "monitoring"
# Prometheus' own.
OWN = {"up"}


def documented():
    """The names of the samples of docs/metrics.md, which is held against a live server by another test."""
    rows = re.findall(r"^\| `(graphpipe_\w+)` \| (\w+) \|", (ROOT / "docs/metrics.md").read_text(), re.MULTILINE)
    return {
        f"{name}{end}"
        for name, kind in rows
        for end in (("_bucket", "_sum", "_count") if kind == "histogram" else ("",))
    }


def expressions(node):
    """Whatever is asked of Prometheus in a document, at any depth."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key in ("expr", "definition") and isinstance(value, str):
                yield value
            else:
                yield from expressions(value)
    elif isinstance(node, list):
        for value in node:
            yield from expressions(value)


def asked(documents):
    return {name for expression in expressions(documents) for name in re.findall(r"\bgraphpipe_\w+", expression)}


DASHBOARD = json.loads((MONITORING / "dashboard.json").read_text())


@pytest.mark.parametrize("name", ["rules.yml", "dashboard.json"])
def test_it_asks_for_metrics_that_there_are(name):
    names = asked(DASHBOARD if name == "dashboard.json" else documents(MONITORING / name))
    assert names
    assert names <= documented()


def test_a_recorded_name_is_recorded_before_it_is_asked_for():
    (rules,) = documents(MONITORING / "rules.yml")
    known = set()
    for rule in rules["groups"][0]["rules"]:
        assert set(re.findall(r"\bgraphpipe:\w+(?::\w+)*", rule["expr"])) <= known
        known.add(rule.get("record"))


def test_every_alert_is_seen_to_fire_in_the_rules_tests():
    (rules,) = documents(MONITORING / "rules.yml")
    (tests,) = documents(MONITORING / "rules_test.yml")
    alerts = {rule["alert"] for rule in rules["groups"][0]["rules"] if "alert" in rule}
    fired = {
        each["alertname"]
        for test in tests["tests"]
        for each in test.get("alert_rule_test", [])
        if each.get("exp_alerts")
    }
    assert fired == alerts


def test_every_alert_says_how_grave_it_is_what_it_saw_and_what_to_do():
    (rules,) = documents(MONITORING / "rules.yml")
    for rule in rules["groups"][0]["rules"]:
        if "alert" in rule:
            assert rule["labels"]["severity"] in ("critical", "warning")
            assert set(rule["annotations"]) == {"summary", "description"}


def test_panels_lie_beside_each_other_and_each_says_what_it_shows():
    taken = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        assert at["x"] + at["w"] <= 24
        taken |= cells
        assert panel["description"]
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
