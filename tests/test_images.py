"""The images, as far as they can be looked at without building them: `make images` builds and runs them."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.markers import Marker
from packaging.requirements import Requirement

from scripts import lock_images
from scripts.images import checks, engines, subjects, table
from tests.serving import serving

ROOT = Path(__file__).resolve().parent.parent
DOCKER = ROOT / "docker"
DOCKERFILES = sorted(path for path in DOCKER.glob("Dockerfile.*") if path.suffix != ".dockerignore")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
each_dockerfile = pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.suffix[1:])


def sbom():
    spec = importlib.util.spec_from_file_location("sbom", DOCKER / "sbom.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# --- Dockerfiles ------------------------------------------------------------------------------------------------------


def test_there_is_a_dockerfile_for_each_image_that_make_images_knows():
    assert [path.suffix[1:] for path in DOCKERFILES] == sorted(subjects.IMAGES)


@each_dockerfile
def test_an_image_bears_the_version_of_the_package(path):
    assert re.findall(r"^ARG VERSION=(.*)$", path.read_text(), re.MULTILINE) == [PROJECT["version"]]


@each_dockerfile
def test_what_is_alike_in_all_images_is_alike(path):
    """They differ in what they install, leave out and set, and in nothing else."""
    own = re.compile(r"^(?:#.*|ARG (?:REQUIREMENTS|LEAVE_OUT|RUNTIME|TORCH_INDEX)=.*)$\n", re.MULTILINE)
    label = re.compile(r"(image\.(?:title|description))=.*")
    more = re.compile(r" \\\n    (?:(?:NVIDIA|TF)_\w+|GRAPHPIPE_PROVIDERS)=[\w,]+")

    def common(text):
        return more.sub("", label.sub(r"\1", own.sub("", text)))

    assert common(path.read_text()) == common(DOCKERFILES[0].read_text())
    ignored = Path(f"{path}.dockerignore").read_text()
    assert ignored == Path(f"{DOCKERFILES[0]}.dockerignore").read_text()
    assert ignored.startswith("*\n")  # nothing comes in but what is named


@each_dockerfile
def test_every_step_that_asks_an_index_takes_its_secrets_and_none_is_an_argument(path):
    text = path.read_text()
    steps = [step for step in re.split(r"^(?=[A-Z]+ )", text, flags=re.MULTILINE) if "install.sh" in step]
    assert len(steps) == 2
    for step in steps:
        assert "type=secret,id=pip,target=/etc/pip.conf" in step
        assert "type=secret,id=ca,target=/etc/ssl/certs/ca-certificates.crt" in step
    assert not re.search(r"^(?:ARG|ENV).*(?:INDEX_URL|PASSWORD|TOKEN|CERT)", text, re.MULTILINE)


@each_dockerfile
def test_everything_that_a_dockerfile_copies_is_in_its_context(path):
    let_in = Path(f"{path}.dockerignore").read_text().split("\n!")[1:]
    names = {line.strip().split("\n")[0].split("/")[0] for line in let_in}
    for copied in re.findall(r"^COPY (?!--from)(.*) \S+$", path.read_text(), re.MULTILINE):
        for name in copied.split():
            assert (ROOT / name).exists()
            assert name in names


def test_the_installer_is_sh():
    assert subprocess.run(["sh", "-n", DOCKER / "install.sh"], check=False).returncode == 0
    if shutil.which("shellcheck"):
        subprocess.run(["shellcheck", DOCKER / "install.sh"], check=True)


# --- pins -------------------------------------------------------------------------------------------------------------


def pinned(image):
    """Each package of an image's file, with its hashes."""
    text = (DOCKER / "requirements" / f"{image}.txt").read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    return [(Requirement(line.partition(" --hash")[0].strip()), re.findall(r"--hash=(\S+)", line)) for line in lines]


@pytest.mark.parametrize("image", lock_images.IMAGES)
def test_every_package_of_an_image_is_pinned_to_one_version_and_by_hash(image):
    constraints = dict(
        line.lower().replace("_", "-").split("==")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if "==" in line and not line.startswith("#")
    )
    found = pinned(image)
    assert found
    for requirement, hashes in found:
        assert hashes, requirement
        assert all(re.fullmatch("sha256:[0-9a-f]{64}", each) for each in hashes), requirement
        (version,) = requirement.specifier
        assert version.operator == "=="
        name = requirement.name.lower().replace("_", "-")
        assert version.version == constraints.get(name, version.version), f"{name}: run scripts/lock_images.py"


def test_whatever_extra_a_user_adds_to_an_image_is_pinned_by_hash_too():
    extras = set(PROJECT["optional-dependencies"]) - {"all", "bench", "dev", "dist", "fuse", "fuzz"}
    assert extras <= set(lock_images.IMAGES)
    assert set(lock_images.with_implied("all")) - {"all"} == extras  # which install.sh takes apart


@pytest.mark.parametrize("wrong", [["--as", "mine"], ["onnx", "--as", "cpu"], ["onnx", "--with", "h11"], ["onix"]])
def test_a_list_of_ones_own_takes_the_place_of_none_of_ours(wrong):
    command = [sys.executable, "scripts/lock_images.py", *wrong]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    run = subprocess.run(command, cwd=ROOT, env=environment, check=False, capture_output=True, text=True)
    assert run.returncode == 2
    assert "a file of your own is one image" in run.stderr or "there is no image 'onix'" in run.stderr


@pytest.mark.parametrize("image", lock_images.IMAGES)
def test_what_the_project_asks_for_is_among_what_is_pinned(image):
    there = {requirement.name.lower(): next(iter(requirement.specifier)).version for requirement, _ in pinned(image)}
    for wanted in map(Requirement, lock_images.requirements(image)):
        if wanted.marker is None or Marker(str(wanted.marker)).evaluate({"python_version": "3.13"}):
            assert wanted.specifier.contains(there[wanted.name.lower()], prereleases=True)


@pytest.mark.parametrize(
    ("wheel", "taken"),
    [
        ("numpy-2.4.6-cp313-cp313-manylinux_2_27_x86_64.manylinux_2_28_x86_64.whl", True),
        ("numpy-2.4.6-cp311-cp311-manylinux2014_aarch64.whl", True),
        ("click-8.5.1-py3-none-any.whl", True),
        ("some-1.0-cp39-abi3-manylinux_2_28_x86_64.whl", True),
        ("numpy-2.4.6-cp313-cp313t-manylinux_2_28_x86_64.whl", False),
        ("numpy-2.4.6-cp310-cp310-manylinux_2_28_x86_64.whl", False),
        ("numpy-2.4.6-cp313-cp313-musllinux_1_2_x86_64.whl", False),
        ("numpy-2.4.6-cp313-cp313-win_amd64.whl", False),
    ],
)
def test_hashes_are_kept_of_what_a_python_of_ours_can_install_on_linux(wheel, taken):
    assert lock_images.fits(wheel) is taken


# --- what is in an image ----------------------------------------------------------------------------------------------


def test_the_bill_of_materials_names_what_is_installed_and_is_the_same_each_time(tmp_path):
    for name, version, licence in (
        ("graphpipe_rpc", "0.1.0", "License-Expression: Apache-2.0"),
        ("Some.Thing", "2.0+cpu", "License: BSD"),
        ("wordy", "1", "License: Permission is hereby granted" + " and granted" * 20),
    ):
        folder = tmp_path / f"{name}-{version}.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.4\nName: {name}\nVersion: {version}\n{licence}\n")
    system = "tini 0.19.0-1+b3 amd64\nlibc6 2.41-12 amd64\n"
    bill = sbom().document(tmp_path, system)
    assert bill == sbom().document(tmp_path, system)
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    ours = bill["metadata"]["component"]
    assert (ours["purl"], ours["licenses"]) == ("pkg:pypi/graphpipe-rpc@0.1.0", [{"expression": "Apache-2.0"}])
    parts = {part["purl"]: part for part in bill["components"]}
    assert sorted(parts) == [
        "pkg:deb/debian/libc6@2.41-12?arch=amd64",
        "pkg:deb/debian/tini@0.19.0-1%2Bb3?arch=amd64",
        "pkg:pypi/some-thing@2.0%2Bcpu",
        "pkg:pypi/wordy@1",
    ]
    assert parts["pkg:pypi/some-thing@2.0%2Bcpu"]["licenses"] == [{"license": {"name": "BSD"}}]
    assert "licenses" not in parts["pkg:pypi/wordy@1"]
    assert all(set(part) <= {"type", "name", "version", "purl", "bom-ref", "licenses"} for part in parts.values())


def health(address):
    command = [sys.executable, "-S", DOCKER / "health.py"]
    environment = {**os.environ, "GRAPHPIPE_METRICS_LISTEN": address}
    return subprocess.run(command, env=environment, check=False, capture_output=True, text=True)


@pytest.mark.parametrize("kind", ["port", "socket"])
def test_the_health_check_asks_the_address_of_the_metrics(tmp_path, kind, free_port):
    address = f"0.0.0.0:{free_port}" if kind == "port" else f"unix:{tmp_path}/metrics.sock"
    shown = address.replace("0.0.0.0", "127.0.0.1")
    before = health(address)
    assert before.returncode == 1
    assert before.stderr.startswith("no answer: ")
    with serving("--model", "echo", "--metrics-listen", shown):
        assert health(address).returncode == 0
    assert health(address).returncode == 1


@pytest.mark.parametrize("address", ["", "0.0.0.0:many"])
def test_a_health_check_without_an_address_says_so_in_one_line(address):
    run = health(address)
    assert run.returncode == 1
    assert re.fullmatch(r"no answer: .*\n", run.stderr)


@pytest.fixture
def free_port():
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


# --- make images ------------------------------------------------------------------------------------------------------


class Saved:
    """An engine whose image is these pieces."""

    def __init__(self, *pieces):
        self.pieces = pieces

    def saved(self, _):
        return iter(self.pieces)


def subject(*pieces):
    return subjects.Subject(subjects.IMAGES["onnx"], "image", Saved(*pieces), {}, [b"the-secret"], "1")


def test_a_secret_is_found_in_an_image_wherever_it_lies():
    assert checks.no_secret_inside(subject(b"x" * 500_000, b"y" * 500_000)) == "none in 1 MB"
    for pieces in ((b"..the-secret..",), (b"..the-s", b"ecret.."), (b"..", b"t", b"he-secret")):
        with pytest.raises(subjects.Failed, match="a secret of the build is in the image"):
            checks.no_secret_inside(subject(*pieces))


def test_without_an_engine_that_boots_a_systemd_it_says_that_none_was_tried():
    found = subject()
    found.engine.program = "buildah"
    assert checks.under_systemd(found) == "NOT RUN: it takes podman, which boots a systemd; buildah was used"


@pytest.mark.skipif(os.getuid() != 0, reason="says first that it needs root")
def test_without_an_engine_nothing_is_built_and_that_is_no_success(tmp_path):
    environment = {**os.environ, "PATH": str(tmp_path)}
    command = [sys.executable, "-m", "scripts.images", "onnx"]
    run = subprocess.run(command, cwd=ROOT, env=environment, check=False, capture_output=True, text=True)
    assert (run.returncode, run.stderr) == (1, "NOT RUN: no docker, podman or buildah that works here\n")


def test_an_image_that_there_is_not_is_named_with_those_that_there_are():
    command = [sys.executable, "-m", "scripts.images", "onix"]
    run = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    assert run.returncode == 2
    assert "there is no image 'onix'; there are onnx, cpu, openvino, torch, cuda" in run.stderr


def row(image, size, failed=""):
    seen = {"answered": ["digits", "int8"], "seen": [["labels", "version 1"]], "failed": failed}
    return {"image": image, "bytes": size, "base_bytes": 100_000_000, "build_s": 3.2, **seen}


def test_the_table_has_the_latest_of_each_image_and_is_put_into_the_page_and_nowhere_else(tmp_path):
    kept = tmp_path / "table.json"
    table.kept(kept, [row("small", 1), row("large", 900_000_000)])
    rows = table.kept(kept, [row("small", 265_000_000)])
    assert json.loads(kept.read_text()) == rows
    text = table.text(rows, "an engine")
    assert "| small | 265 MB | 165 MB | 3 s | digits, int8 | every check passed |\n| large | 900 MB |" in text
    assert "`large`:\n\n- labels: version 1" in text
    assert "FAILED: why" in table.text([row("small", 1, "why\nand more")], "an engine")
    page = tmp_path / "images.md"
    page.write_text(f"before\n{table.BEGIN}\nold\n{table.END}\nafter\n")
    for _ in range(2):
        table.write(page, text)
        assert page.read_text() == f"before\n{table.BEGIN}\n\n{text}\n\n{table.END}\nafter\n"
    page.write_text("no marks")
    with pytest.raises(SystemExit, match="has no place for the table"):
        table.write(page, text)
    assert page.read_text() == "no marks"


@pytest.mark.parametrize(("text", "size"), [("282 MB", 282_000_000), ("1.8 GB", 1_800_000_000), ("10 KB", 10_000)])
def test_sizes_are_read_as_buildah_prints_them(text, size):
    assert engines._bytes(text) == size
