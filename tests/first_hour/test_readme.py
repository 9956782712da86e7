"""README where others show it: an index renders it away from the repository, so its links are whole, and lead somewhere."""

from __future__ import annotations

import re
import tomllib
from xml.etree import ElementTree

from tests.processes import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
HOME = PROJECT["urls"]["Homepage"]
README = (ROOT / "README.md").read_text()
LINKS = re.findall(r"\]\(([^)\s]+)\)", README)


def test_every_link_of_the_readme_is_absolute_and_is_there_in_the_repository():
    assert len(LINKS) >= 10
    for link in [*LINKS, PROJECT["urls"]["Documentation"], PROJECT["urls"]["Changelog"]]:
        match = re.fullmatch(rf"{re.escape(HOME)}/(blob|tree|raw)/main/([^#]+)(#.*)?", link)
        assert match, f"{link} does not begin with {HOME}"
        path = ROOT / match[2]
        assert path.is_dir() if match[1] == "tree" else path.is_file(), f"{link} leads nowhere"


def test_all_packages_name_one_home():
    pom = ElementTree.parse(ROOT / "clients" / "java" / "pom.xml").getroot()
    assert pom.findtext("{http://maven.apache.org/POM/4.0.0}url") == HOME
    module = (ROOT / "clients" / "go" / "go.mod").read_text().split()[1]
    assert module == f"{HOME.removeprefix('https://')}/clients/go"


def test_the_first_screen_installs_what_exists_today():
    first_screen = "\n".join(README.splitlines()[:40])
    assert "pip install '.[onnx]'" in first_screen
    assert "graphpipe.serving(" in first_screen
    assert "remote.execute(" in first_screen
