"""One number for a release, in every language and every file that tells it."""

import io
import re
import shutil
import subprocess
import tarfile
from pathlib import Path

import graphpipe
from conformance.make_archive import NAME, archive
from scripts import one_version

ROOT = Path(__file__).resolve().parent.parent
# Where other numbers of the same look stand: versions of what others make.
OTHERS = re.compile(r"(^|/)(constraints\.txt|CHANGELOG\.md|go\.(mod|sum)|requirements/.*|.*\.(json|npz|onnx|bin|svg))$")


def test_every_place_tells_the_same_number():
    assert one_version.differing(graphpipe.__version__) == []


def test_what_is_installed_is_that_release():
    assert one_version.current() == graphpipe.__version__


def test_the_vectors_say_which_release_they_come_from():
    with tarfile.open(fileobj=io.BytesIO(archive())) as tar:
        assert tar.extractfile(f"{NAME}/RELEASE").read().decode() == f"{graphpipe.__version__}\n"


def test_no_image_or_label_in_deploy_tells_another_number():
    for path in (ROOT / "deploy").rglob("*.y*ml"):
        for number in re.findall(r"graphpipe-[a-z]+:([\d.]+\d)", path.read_text()):
            assert number == graphpipe.__version__, path


def test_the_changelog_begins_with_what_is_not_released_or_with_this_release():
    first = re.search(r"^## (.*)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)[1]
    assert first == "Unreleased" or re.fullmatch(rf"{re.escape(graphpipe.__version__)} - \d{{4}}-\d\d-\d\d", first)


def test_a_new_number_is_written_everywhere(tmp_path, monkeypatch):
    listing = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, check=True, capture_output=True
    )
    tracked = [name for name in listing.stdout.decode().splitlines() if (ROOT / name).is_file()]
    for name in {name for name, *_ in one_version.told()}:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    monkeypatch.setattr(one_version, "ROOT", tmp_path)
    one_version.write("12.34.56rc7")
    assert one_version.differing("12.34.56rc7") == []
    # And no file that tells the old one was forgotten.
    old = re.compile(rf"(?<![\d.=]){re.escape(graphpipe.__version__)}(?![\d.])")
    for name in tracked:
        if not OTHERS.search(name) and not name.startswith(("examples/", "tests/", "benchmarks/results/")):
            path = tmp_path / name if (tmp_path / name).exists() else ROOT / name
            assert not old.search(path.read_bytes().decode(errors="replace")), name
