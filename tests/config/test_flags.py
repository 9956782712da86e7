"""The table of flags, and all that is made from it."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from dataclasses import fields
from pathlib import Path

import pytest
from click.testing import CliRunner

from graphpipe.backends.options import LoadOptions
from graphpipe.server.cli import main
from graphpipe.server.settings.configuration import configure
from graphpipe.server.settings.flags import FLAGS
from graphpipe.server.settings.values import ModelSettings, Settings

ROOT = Path(__file__).parents[2]


def test_every_flag_has_a_field_to_set_and_no_two_share_a_name_or_a_letter():
    for flag in FLAGS:
        assert (flag.home is None) == (flag.scope == "command")
    for names in ([f.name for f in FLAGS], [f.declared.short for f in FLAGS if f.declared.short]):
        assert len(names) == len(set(names))


@pytest.mark.parametrize("flag", [f for f in FLAGS if f.home], ids=lambda f: f.name)
def test_a_default_reads_back_as_itself(flag):
    if flag.default in (None, "", (), {}):
        return
    value = tomllib.loads(f"x = {flag.kind.write(flag.default)}")["x"]
    assert flag.kind.read(value) == flag.default
    text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
    assert flag.kind.read(text) == flag.default


def test_help_shows_every_flag_under_its_section_and_ends_with_examples():
    text = CliRunner().invoke(main, ["--help"]).output
    for flag in FLAGS:
        assert f"--{flag.name}" in text
        assert f"\n{flag.section}:\n" in text
    assert "Examples:" in text[text.index("--version") :]


def test_what_is_written_down_from_the_declared_settings_is_what_holds():
    done = subprocess.run([sys.executable, ROOT / "scripts" / "flag_table.py", "--check"], check=False)
    assert done.returncode == 0, "run python scripts/flag_table.py"


def test_without_anything_said_the_settings_are_the_defaults():
    configuration = configure({}, {})
    assert configuration.settings == Settings()
    assert configuration.models == ()


def test_every_field_that_a_user_may_set_is_declared_and_so_a_flag():
    for home, ours in (
        (Settings, set()),
        (LoadOptions, {"arguments"}),
        (ModelSettings, {"name", "source", "options", "said"}),
    ):
        assert {field.name for field in fields(home)} - ours == {flag.field for flag in FLAGS if flag.home is home}
