"""The chart's own values fit its schema, and everything that its templates ask for is among them."""

from __future__ import annotations

import json
import re

import jsonschema
import pytest
import yaml

from tests.deploy.files import DEPLOY

CHART = DEPLOY / "helm" / "graphpipe"
SCHEMA = json.loads((CHART / "values.schema.json").read_text())
VALUES = yaml.safe_load((CHART / "values.yaml").read_text())


def test_its_values_fit_its_schema():
    jsonschema.Draft7Validator.check_schema(SCHEMA)
    jsonschema.validate(VALUES, SCHEMA, jsonschema.Draft7Validator)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"replica": 3}, "replica"),
        ({"settings": {"listen": "0.0.0.0:1"}}, "listen"),
        ({"settings": {"DrainGrace": 1}}, "DrainGrace"),
        ({"models": {"serve": []}}, "[]"),
    ],
)
def test_a_mistake_in_values_is_named(wrong, said):
    with pytest.raises(jsonschema.ValidationError, match=re.escape(said)):
        jsonschema.validate({**VALUES, **wrong}, SCHEMA, jsonschema.Draft7Validator)


def test_every_value_that_a_template_asks_for_is_there():
    for path in CHART.glob("templates/*"):
        for name in re.findall(r"\.Values\.([\w.]+)", path.read_text()):
            node = VALUES
            for part in name.split("."):
                assert part in node, f"{path.name}: .Values.{name}"
                node = node[part]


def test_every_value_is_asked_for_by_a_template():
    templates = "".join(path.read_text() for path in CHART.glob("templates/*"))
    for name in VALUES:
        assert f".Values.{name}" in templates, name
