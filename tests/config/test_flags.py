"""The table of flags, and all that is made from it."""

from __future__ import annotations

import importlib.util
import tomllib
from dataclasses import fields
from pathlib import Path

import pytest
from click.testing import CliRunner

from graphpipe.server.cli import main
from graphpipe.server.settings.configuration import configure
from graphpipe.server.settings.flags import FLAGS, by_name
from graphpipe.server.settings.values import Settings

ROOT = Path(__file__).parents[2]


def test_every_flag_has_a_field_to_set_and_no_two_share_a_name_or_a_letter():
    for flag in FLAGS:
        assert (flag.home is None) == (flag.scope == "command")
    for names in ([f.name for f in FLAGS], [f.short for f in FLAGS if f.short]):
        assert len(names) == len(set(names))


@pytest.mark.parametrize("flag", [f for f in FLAGS if f.home], ids=lambda f: f.name)
def test_a_default_reads_back_as_itself(flag):
    if flag.default in (None, "", (), {}):
        return
    value = tomllib.loads(f"x = {flag.kind.write(flag.default)}")["x"]
    assert flag.kind.read(value) == flag.default
    assert flag.kind.read(str(value)) == flag.default


def test_help_shows_every_flag_under_its_section_and_ends_with_examples():
    text = CliRunner().invoke(main, ["--help"]).output
    for flag in FLAGS:
        assert f"--{flag.name}" in text
        assert f"\n{flag.section}:\n" in text
    assert "Examples:" in text[text.index("--version") :]


def test_the_documented_table_is_the_one_that_holds():
    spec = importlib.util.spec_from_file_location("flag_table", ROOT / "scripts" / "flag_table.py")
    flag_table = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(flag_table)
    page = (ROOT / "docs" / "serving.md").read_text()
    assert flag_table.with_table(page) == page, "run python scripts/flag_table.py"


def test_without_anything_said_the_settings_are_the_defaults():
    configuration = configure({}, {})
    assert configuration.settings == Settings()
    assert configuration.models == ()


def test_server_flags_are_fields_of_settings():
    assert {flag.field for flag in by_name(("server",)).values()} <= {field.name for field in fields(Settings)}
