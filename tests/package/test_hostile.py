"""Packages that mean harm, or are damaged: LoadError in a line, and nothing of them is written, read or run."""

from __future__ import annotations

import json
import os
import shutil
import stat
import zipfile

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import graphpipe
from graphpipe.package import Manifest, Package
from graphpipe.package.names import why_no_name, why_not_together
from graphpipe.package.packed import pack
from tests.package.making import changed, edited, manifest


def entries(adder):
    """The package's files as a list to write into a zip, where they may be others."""
    names = ("graphpipe.json", *manifest(adder).files)
    return [(name, (adder / name).read_bytes()) for name in sorted(names)]


def unpacked(cache):
    return [path.name for path in cache.glob("*") if path.suffix != ".lock"]


def zipped(path, pairs, compressed=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compressed) as archive:
        for name, content in pairs:
            archive.writestr(name, content)
    return path


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    ("more", "why"),
    [
        (("../escaped", b"x"), "leads out of its folder"),
        (("/escaped", b"x"), "leads out of its folder"),
        (("code/../../escaped", b"x"), "leads out of its folder"),
        (("..\\escaped", b"x"), "leads out of its folder"),
        (("code/adder.py", b"other"), "twice"),
        (("graphpipe.json", b"{}"), "graphpipe.json 2 times"),
        (("extra.py", b"x"), "'extra.py', of which its manifest knows nothing"),
        (("code/adder.pyc", b"x"), "of which its manifest knows nothing"),
        (("bomb", bytes(65 << 20)), "times its own"),
        (("a" * 300, b"x"), "File name too long"),
    ],
)
def test_a_zip_with_something_else_in_it_is_refused_and_leaves_nothing(adder, tmp_path, cache, more, why):
    path = zipped(tmp_path / "p.zip", [*entries(adder), more], zipfile.ZIP_DEFLATED)
    with pytest.raises(graphpipe.LoadError, match=why):
        graphpipe.load(path, backend="package")
    assert unpacked(cache) == []
    assert not list(tmp_path.rglob("*escaped*"))


def test_a_link_in_a_zip_is_refused(adder, tmp_path):
    path = zipped(tmp_path / "p.zip", entries(adder))
    with zipfile.ZipFile(path, "a") as archive:
        link = zipfile.ZipInfo("code/secret.py")
        link.create_system, link.external_attr = 3, 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(graphpipe.LoadError, match="is a link"):
        graphpipe.load(path)


def test_a_zip_that_holds_another_package_beside_its_folder_is_refused(adder, tmp_path):
    inside = [(f"adder/{name}", content) for name, content in entries(adder)]
    with graphpipe.load(zipped(tmp_path / "one.zip", inside)) as model:
        assert model.infer({"x": [1], "y": [2]})["out"].tolist() == [3]
    both = [*inside, *((f"other/{name}", content) for name, content in entries(adder))]
    with pytest.raises(graphpipe.LoadError, match=r"graphpipe.json 2 times"):
        graphpipe.load(zipped(tmp_path / "two.zip", both), backend="package")
    shutil.rmtree(os.environ["XDG_CACHE_HOME"])
    with pytest.raises(graphpipe.LoadError, match=r"holds 'setup.py' beside the folder"):
        graphpipe.load(zipped(tmp_path / "three.zip", [*inside, ("setup.py", b"")]))


def test_a_zip_of_more_than_may_be_is_not_unpacked(adder, tmp_path, cache):
    path = zipped(tmp_path / "p.zip", entries(changed(adder, "code/weights", os.urandom(1 << 20))))
    with pytest.raises(graphpipe.LoadError, match="at most 1000000 are"):
        graphpipe.load(path, download_bytes_max=1_000_000)
    assert unpacked(cache) == []


@pytest.mark.parametrize("name", ["code/helper.py", "tests/0.request", "tests/0.response"])
def test_a_folder_that_lacks_a_file_is_refused(adder, name):
    (adder / name).unlink()
    with pytest.raises(graphpipe.LoadError, match=f"lacks {name!r}: was it copied whole"):
        graphpipe.load(adder, backend="package")


@pytest.mark.parametrize("name", ["code/helper.py", "tests/0.response"])
def test_a_file_that_is_another_one_is_refused_though_its_size_is_the_same(adder, name):
    content = bytearray((adder / name).read_bytes())
    content[-1] ^= 1
    (adder / name).write_bytes(content)
    with pytest.raises(graphpipe.LoadError, match=f"{name} is another file"):
        graphpipe.load(adder)
    (adder / name).write_bytes(content + b"\n")
    with pytest.raises(graphpipe.LoadError, match=f"{name} has .* bytes; its manifest says"):
        graphpipe.load(adder)


def test_a_file_that_the_manifest_does_not_know_is_refused(adder):
    (adder / "code" / "sitecustomize.py").write_text("raise SystemExit")
    with pytest.raises(graphpipe.LoadError, match=r"'code/sitecustomize.py', of which"):
        graphpipe.load(adder)


def test_what_python_compiled_beside_the_code_is_in_nobodys_way(adder):
    compiled = adder / "code" / "__pycache__"
    compiled.mkdir()
    (compiled / "helper.cpython-311.pyc").write_bytes(b"not even that")
    with graphpipe.load(adder) as model:
        assert model.infer({"x": [1], "y": [2]})["out"].tolist() == [3]


@pytest.mark.parametrize("kind", ["link", "folder link", "pipe", "manifest"])
def test_what_is_no_plain_file_is_refused_and_never_read(adder, tmp_path, kind):
    secret = tmp_path / "secret"
    if kind == "pipe":
        os.mkfifo(adder / "code" / "pipe")
    elif kind == "folder link":
        shutil.move(adder / "code", secret)
        (adder / "code").symlink_to(secret)
    else:
        name = "graphpipe.json" if kind == "manifest" else "code/helper.py"
        shutil.move(adder / name, secret)
        (adder / name).symlink_to(secret)
    with pytest.raises(graphpipe.LoadError, match="is a link|neither a file|not a plain file"):
        graphpipe.load(adder)


NAMES = [
    ("code/a\0b.py", "does not show"),
    ("code/a\nb.py", "does not show"),
    ("code/a\u202eb.py", "does not show"),
    ("code/\ud800.py", "UTF-8"),
    ("C:/x", "a colon"),
    ("code\\x", "a backslash"),
    ("/etc/passwd", "leads out"),
    ("code/../../x", "leads out"),
    ("code//x", "empty"),
    ("./code", "empty"),
    ("code/x.", "ends in a point"),
    ("code/x ", "ends in a point or a space"),
    ("", "empty"),
    ("/".join("a" * 65), "too long"),
    ("a" * 256, "too long"),
    ("graphpipe.json", "one name"),
    ("Graphpipe.JSON", "one name"),
    ("code/ADDER.py", "one name"),
    ("Code/new.py", "one name"),
    ("code/helper.py/x", "a file and a folder"),
    ("code/HELPER.py/x", "a file and a folder"),
]


@pytest.mark.parametrize(("name", "why"), NAMES)
def test_a_name_that_is_none_everywhere_is_refused(adder, name, why):
    edited(adder, lambda said: said["files"].update({name: {"bytes": 0, "sha256": "0" * 64}}))
    with pytest.raises(graphpipe.LoadError, match=why) as caught:
        graphpipe.load(adder)
    assert str(caught.value).isprintable()


@given(st.text(max_size=20))
def test_a_name_that_is_taken_is_a_path_below_the_package(name):
    if not why_no_name(name):
        assert os.path.normpath(name) == name
        assert not name.startswith(("/", ".."))
        assert name.isprintable()
        assert ":" not in name


def test_names_that_differ_in_case_alone_are_no_two_files():
    assert why_not_together(["a/b", "a/c", "b"]) == ""
    assert "one name" in why_not_together(["a/b", "A/c"])
    assert "one name" in why_not_together(["a/stra\u00dfe", "a/STRASSE"])
    assert "a file and a folder" in why_not_together(["a/b", "a"])


def refusal(content):
    with pytest.raises(graphpipe.PackageError) as caught:
        Manifest.read(content, "p")
    assert len(str(caught.value)) < 2000
    return str(caught.value)


def test_a_manifest_that_is_too_large_too_deep_or_no_json_is_refused():
    assert "at most" in refusal(b" " * (100 << 20))
    assert "no JSON" in refusal(b"[" * 1_000_000)
    assert "no JSON" in refusal(b'{"a":' * 1_000_000)
    assert "no JSON" in refusal(b"\xff\xfe")
    assert "twice" in refusal(b'{"schema": 1, "schema": 1}')
    assert "no JSON" in refusal(b'{"schema": ' + b"9" * 5000 + b"}")
    assert "no number of JSON" in refusal(b'{"schema": NaN}')
    assert "no manifest" in refusal(b"[]")
    assert "no manifest" in refusal(b'{"schema": true}')


def test_a_million_names_of_which_the_last_is_there_twice_are_refused_and_keep_nobody_waiting():
    names = ",".join([f'"{number}":0' for number in range(1_000_000)])
    assert "twice" in refusal(f'{{{names},"999999":0}}'.encode())


def test_a_manifest_of_a_later_form_is_refused_before_anything_is_unpacked(adder, tmp_path, cache):
    edited(adder, lambda said: said.update(schema=2, novel={}))
    with pytest.raises(graphpipe.PackageError, match=r"schema 2, and this graphpipe reads schema 1: pip install -U"):
        graphpipe.load(adder)
    with pytest.raises(graphpipe.PackageError, match="schema 2"):
        graphpipe.load(zipped(tmp_path / "p.zip", [("graphpipe.json", (adder / "graphpipe.json").read_bytes())]))
    assert not cache.exists()


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda said: said["model"].update(source="code/../../etc:f"), "none of its files"),
        (lambda said: said["model"].update(source="os:system"), "none of its files"),
        (lambda said: said["model"].update(source="/bin/sh"), "none of its files"),
        (lambda said: said["model"].update(source="http://127.0.0.1:1/m.zip"), "none of its files"),
        (lambda said: said["model"].update(platform="../x"), "the name of a backend"),
        (lambda said: said["model"].update(platform="no_such"), "there is no backend 'no_such'"),
        (lambda said: said["model"]["options"].update(trust_model=True), "model.options.trust_model is not known"),
        (lambda said: said["model"]["options"].update(custom_ops=["/lib/x.so"]), "none of its files"),
        (lambda said: said["model"]["options"].update(value_inputs="../x.json"), "none of its files"),
        (lambda said: said["model"]["options"].update(value_inputs="http://x/"), "none of its files"),
        (lambda said: said["model"]["options"].update(outputs="out"), "is a list; a text came"),
        (lambda said: said["model"]["name_map"].update(x=3), "name_map.x is a text"),
        (lambda said: said["tests"].append({}), "tests\\[1\\].request is missing"),
        (lambda said: said["tests"][0].update(request="/etc/passwd"), "none of its files"),
        (lambda said: said["tests"][0].update(rtol=-1), "is a number, 0 or more"),
        (lambda said: said["problem"].update(inputs={"x": "float31"}), "float31"),
        (lambda said: said["problem"].update(tests=[]), "tests of its own"),
        (lambda said: said["framework"].update(range="newest"), "framework.range: .* is no requirement"),
        (lambda said: said["files"]["code/adder.py"].update(bytes=1 << 70), "files"),
        (lambda said: said["files"]["code/adder.py"].update(sha256="F" * 64), "64 digits"),
        (lambda said: said.update(created_by="\0"), "a NUL"),
        (lambda said: said.update(sourcs=1), "sourcs is not known"),
        (lambda said: said.pop("files"), "files is missing"),
    ],
)
def test_a_manifest_that_reaches_out_or_makes_no_sense_is_refused(adder, change, why):
    with pytest.raises(graphpipe.LoadError, match=why):
        graphpipe.load(edited(adder, change))


@pytest.mark.parametrize("platform", ["package", "remote", "echo", "placeholder", "caffe2"])
def test_a_package_in_a_package_is_refused_and_so_is_what_is_no_file(adder, platform):
    inner = {f"model/inner/{name}": (adder / name).read_bytes() for name in ("graphpipe.json", *manifest(adder).files)}
    for name, content in inner.items():
        changed(adder, name, content)
    edited(adder, lambda said: said["model"].update(source="model/inner", platform=platform))
    with pytest.raises(
        graphpipe.LoadError, match=f"its platform is {platform}, which is nothing that a package could hold"
    ):
        graphpipe.load(adder)


def test_a_test_that_is_no_message_is_refused_when_it_is_run(adder):
    changed(adder, "tests/0.request", b"\x10\0\0\0" * 100)
    with graphpipe.load(adder) as model:
        with pytest.raises(graphpipe.PackageError, match=r"tests/0.request cannot be read"):
            model.self_test()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=10,
)


def places(said, here=()):
    yield here
    for key in said if isinstance(said, dict) else range(len(said)) if isinstance(said, list) else ():
        yield from places(said[key], (*here, key))


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_a_manifest_says_it_is_a_model_or_a_load_error(made, data, tmp_path_factory):
    said = json.loads((made / "graphpipe.json").read_text())
    for _ in range(data.draw(st.integers(1, 3))):
        *way, last = data.draw(st.sampled_from([place for place in places(said) if place]))
        inner = said
        for step in way:
            inner = inner[step]
        kind = data.draw(st.sampled_from(["other", "gone", "more"]))
        if kind == "gone" and isinstance(inner, dict):
            del inner[last]
        elif kind == "more" and isinstance(inner, dict):
            inner[data.draw(st.text(max_size=20))] = data.draw(JSON)
        else:
            inner[last] = data.draw(JSON)
    content = json.dumps(said).encode()
    try:
        Manifest.read(content, "p")
    except graphpipe.PackageError:
        return
    folder = shutil.copytree(made, tmp_path_factory.mktemp("edited") / "adder")
    (folder / "graphpipe.json").write_bytes(content)
    try:
        with graphpipe.load(folder) as model:
            str(model.signature)
            model.self_test()
    except graphpipe.LoadError:
        pass
    finally:
        shutil.rmtree(folder)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200))
@example(b'{"schema": 1}')
def test_whatever_bytes_a_manifest_has_it_is_read_or_refused(content):
    with pytest.raises(graphpipe.PackageError):
        Manifest.read(content, "p")


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.floats(0, 1, exclude_max=True), byte=st.integers(1, 255))
def test_a_zip_with_a_byte_changed_is_the_same_model_or_a_load_error(made, place, byte, tmp_path_factory):
    folder = tmp_path_factory.mktemp("byte")
    pack(made, ("graphpipe.json", *manifest(made).files), folder / "p.zip")
    content = bytearray((folder / "p.zip").read_bytes())
    content[int(place * len(content))] ^= byte
    (folder / "p.zip").write_bytes(content)
    try:
        with graphpipe.load(folder / "p.zip", backend="package") as model:
            assert model.infer({"x": [1], "y": [2]})["out"].tolist() == [3]
    except graphpipe.LoadError:
        pass
    shutil.rmtree(folder)


def test_a_cache_that_others_may_write_to_is_not_used(adder, tmp_path, cache):
    path = zipped(tmp_path / "p.zip", entries(adder))
    Package.at(str(path))
    assert stat.S_IMODE(cache.stat().st_mode) == 0o700
    cache.chmod(0o777)
    with pytest.raises(graphpipe.PackageError, match="not this user's alone.*chmod 700"):
        Package.at(str(path))


def test_what_was_damaged_in_the_cache_is_unpacked_again(adder, tmp_path, cache):
    path = zipped(tmp_path / "p.zip", entries(adder))
    folder = Package.at(str(path)).folder
    assert folder.parent == cache
    (folder / "code" / "helper.py").write_text("raise SystemExit\n")
    with graphpipe.load(path) as model:
        assert model.infer({"x": [1], "y": [2]})["out"].tolist() == [3]
    assert unpacked(cache) == [folder.name]
