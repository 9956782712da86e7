"""What `make dist` makes, as far as that is cheap: the files, their contents, and that its checks notice what is wrong."""

from __future__ import annotations

import re
import shutil
import sys
import zipfile
from pathlib import Path

import pytest

from scripts.one_version import current
from scripts.releases import build, contents, environments, sbom
from scripts.releases.build import Commit, NotARelease

ROOT = build.ROOT


@pytest.fixture(scope="module")
def commit():
    return Commit.head()


@pytest.fixture(scope="module")
def built(commit, tmp_path_factory):
    """Wheel and sdist of the commit, as `make dist` leaves them."""
    out = tmp_path_factory.mktemp("dist")
    return build.reproducibly(commit, tmp_path_factory.mktemp("scratch"), out)


def test_the_files_of_a_commit_are_the_same_to_the_byte_each_time_and_pass_every_check(built, commit):
    assert [path.name for path in built] == [
        f"graphpipe_rpc-{current()}-py3-none-any.whl",
        f"graphpipe_rpc-{current()}.tar.gz",
    ]
    assert len(list(contents.checked(*built, commit))) == 5


def test_a_file_too_many_and_one_too_few_are_noticed(built, commit, tmp_path):
    package = commit.files("graphpipe")
    wrong = Path(shutil.copy(built[0], tmp_path))
    with zipfile.ZipFile(wrong, "a") as archive:
        archive.writestr("tests/test_x.py", "")
    with pytest.raises(NotARelease, match="holds tests/test_x.py, which is nobody's"):
        contents.in_wheel(wrong, package)
    with pytest.raises(NotARelease, match="lacks graphpipe/more.py"):
        contents.in_wheel(built[0], {*package, "graphpipe/more.py"})


@pytest.mark.parametrize("link", ["[a](docs/a.md#b)", "![c](d.svg)"])
def test_readme_has_no_relative_link_as_the_index_has_no_repository_around_it(built, tmp_path, link):
    contents.page(built[0])
    wrong = tmp_path / built[0].name
    with zipfile.ZipFile(built[0]) as archive, zipfile.ZipFile(wrong, "w") as other:
        for name in archive.namelist():
            content = archive.read(name)
            other.writestr(name, content + link.encode() if name.endswith("/METADATA") else content)
    with pytest.raises(NotARelease, match="README links to d"):
        contents.page(wrong)


@pytest.mark.parametrize("tag", ["v99.0.0", "clients/go/v99.0.0"])
def test_a_tag_of_another_version_is_no_release(commit, tag):
    with pytest.raises(NotARelease, match=f"the tag {tag}, but its version is {re.escape(current())}"):
        list(Commit(commit.sha, commit.epoch, (tag,)).notes())


def test_lower_bounds_are_those_of_the_package_and_its_server():
    bounds = environments.lower_bounds()
    assert {bound.partition("==")[0] for bound in bounds} == {
        "aiohttp",
        "blake3",
        "click",
        "lmdb",
        "numpy",
        "onnxruntime",
        "uvloop",
    }


def test_this_python_is_one_that_a_release_is_tried_on():
    ours = [python for python in environments.pythons() if python.is_ours]
    assert [python.version for python in ours] == [f"{sys.version_info.major}.{sys.version_info.minor}"]


def test_the_bill_lists_what_is_installed_below_the_package_and_how_it_hangs_together(tmp_path):
    site = tmp_path / "lib" / "python3.11" / "site-packages"
    for name, version, wants in (
        ("graphpipe-rpc", "1.0", ["numpy>=2", 'Click_X; extra == "onnx"', 'torch; extra == "torch"']),
        ("numpy", "2.0", []),
        ("click.x", "3", ["numpy", "absent"]),
        ("pip", "24", []),
    ):
        info = site / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir(parents=True)
        lines = [f"Name: {name}", f"Version: {version}", *(f"Requires-Dist: {each}" for each in wants)]
        (info / "METADATA").write_text("Metadata-Version: 2.4\n" + "\n".join(lines) + "\n")
    bill = sbom.document(tmp_path)
    assert bill["metadata"]["component"]["purl"] == "pkg:pypi/graphpipe-rpc@1.0"
    assert [each["name"] for each in bill["components"]] == ["click-x", "numpy"]
    assert {each["ref"]: each["dependsOn"] for each in bill["dependencies"]} == {
        "pkg:pypi/graphpipe-rpc@1.0": ["pkg:pypi/click-x@3", "pkg:pypi/numpy@2.0"],
        "pkg:pypi/click-x@3": ["pkg:pypi/numpy@2.0"],
        "pkg:pypi/numpy@2.0": [],
    }
